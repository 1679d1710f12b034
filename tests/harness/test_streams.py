"""A merge streamed into an engine is the merge that its step would write, tensor by tensor."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import methods
from harness.execute import execute
from harness.spec import ROLES
from harness.steps import Step
from harness.streams import stored, streams, tensors
from harness.workers import Workers
from harness.world import EMBEDDED_BASE, merged_dtype
from maec.checkpoint import open_checkpoint
from maec.settings import TrainSettings
from tests.harness.models import base_step
from tests.harness.test_identity import SETTINGS, parts
from tests.maec.checkpoints import llama, read, read_torch, same_bits, trained, write

TRAINED = ("math", "science", "es", "te", "pivot", "locate")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    rng = np.random.default_rng(11)
    folder = tmp_path_factory.mktemp("models")
    base = llama(rng)
    made = {"base": base} | {name: trained(rng, base) for name in TRAINED}
    return {name: write(folder / name, tensors) for name, tensors in made.items()}


def model(
    name: str,
    models: dict[str, Path],
    languages: tuple[str, ...],
    abilities: tuple[str, ...] = ("math",),
    **values: object,
) -> Step:
    """A method's step with checkpoints in place of the base and of all that it trains."""
    training = {role: TrainSettings(**SETTINGS) for role in ROLES}
    step = methods.load(name).model(
        parts(training=training, languages=languages), abilities, values
    )

    def grounded(part: Step) -> Step:
        if part.kind in ("base", "train"):
            return base_step(models[_role(part)])
        return replace(part, inputs={name: grounded(p) for name, p in part.inputs.items()})

    return grounded(step)


def _role(step: Step) -> str:
    if step.kind == "base":
        return "base"
    role = step.label.split()[0]
    corpora = step.settings["corpora"]
    if role in ("ability", "key_neurons"):
        return corpora[0]["ability"]
    return corpora[0]["language"] if role == "language" else role


def streamed(step: Step) -> dict[str, np.ndarray]:
    assert streams(step)
    found: dict[str, np.ndarray] = {}
    for name, tensor in tensors(step):
        assert name not in found, "a tensor came twice"
        assert tensor.dtype == torch.float32
        found[name] = tensor.numpy().copy()
    return found


@pytest.mark.parametrize(
    ("languages", "abilities", "values"),
    [
        (("es", "te"), ("math",), {"k1": 0.4, "k2": 0.5, "gamma": 0.9}),
        (("te",), ("math",), {"k1": 0.4, "k2": 0.5, "beta": 0.0}),
        (("te",), ("math",), {"k1": 0.4, "k2": 0.5, "similarity": "random"}),
        (("es", "te"), ("math",), {"k1": 0.3, "k2": 0.5, "similarity": "absolute", "mu": 0.7}),
        (("te",), ("math",), {"k1": 1.0, "k2": 1.0, "language_scale": 0.0}),
        ((), ("math",), {"k1": 0.4, "k2": 0.8, "granularity": "row"}),
        (("es", "te"), ("math", "science"), {"k1": 0.4, "k2": 0.5, "alpha": 0.6}),
    ],
)
def test_a_streamed_combination_equals_the_artifact_bit_for_bit(
    home: Path,
    models: dict[str, Path],
    languages: tuple[str, ...],
    abilities: tuple[str, ...],
    values: dict,
) -> None:
    step = model("maec", models, languages, abilities, **values)
    for part in stored(step):
        if not part.done:
            execute(part)
    ours = streamed(step)
    assert not step.done and not list(home.rglob("extract/*")), "streaming left something"
    for part in step.walk():
        if not part.done:
            execute(part)
    theirs = read(step.folder)
    assert ours.keys() == theirs.keys() == read(models["base"]).keys()
    base = read(models["base"])
    assert any((theirs[name] != base[name]).any() for name in base)
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "languages", "abilities", "values"),
    [
        ("tv", ("es", "te"), ("math",), {"scale": 0.7, "language_scale": 0.4}),
        ("tv", ("te",), ("math", "science"), {"scale": 0.5}),
        ("tv", (), ("math",), {}),
        ("ties", ("es", "te"), ("math",), {"density": 0.4, "language_scale": 0.6}),
        ("dare-ties", ("te",), ("math",), {"density": 0.4}),
        ("linear", ("es", "te"), ("math",), {"language_scale": 0.5}),
        ("slerp", ("te",), ("math",), {"t": 0.3}),
        ("layer-swap", ("te",), ("math",), {"outer": 0.0}),
        ("layer-swap", ("te",), ("math",), {"outer": 0.5}),
    ],
)
def test_a_streamed_merge_equals_the_artifact(
    models: dict[str, Path],
    workers: Workers,
    name: str,
    languages: tuple[str, ...],
    abilities: tuple[str, ...],
    values: dict,
) -> None:
    step = model(name, models, languages, abilities, **values)
    workers.submit(step).result()
    theirs = read(step.folder)
    ours = streamed(step)
    assert ours.keys() == theirs.keys() == read(models["base"]).keys()
    for tensor in theirs:
        np.testing.assert_allclose(ours[tensor], theirs[tensor], rtol=0, atol=1e-6, err_msg=tensor)


@pytest.mark.parametrize("name", ["maec", "tv", "layer-swap"])
def test_a_merge_is_stored_and_streamed_in_the_dtype_of_its_base(
    tmp_path: Path, workers: Workers, name: str
) -> None:
    rng = np.random.default_rng(12)
    base = llama(rng)
    made = {"base": base} | {other: trained(rng, base) for other in TRAINED}
    coarse = {o: write(tmp_path / o, tensors, dtype="bfloat16") for o, tensors in made.items()}
    step = model(name, coarse, ("te",))
    for part in step.walk():
        if not part.done:
            workers.submit(part).result()
    theirs = read_torch(step.folder)
    assert {tensor.dtype for tensor in theirs.values()} == {torch.bfloat16}
    assert same_bits(dict(tensors(step)), theirs)


def test_a_merge_of_the_embedded_world_has_the_bits_that_its_key_had_in_released_sets() -> None:
    base = Step("base", {}, path=EMBEDDED_BASE)
    merged = Step("mergekit", {}, {"base": base})
    assert open_checkpoint(EMBEDDED_BASE).tensors["model.norm.weight"].dtype == "BF16"
    assert merged_dtype(merged) == "float32"


def test_ability_weights_need_no_artifact_of_their_own(models: dict[str, Path]) -> None:
    step = model("maec", models, ("te",))
    needed = {part.key for part in stored(step)}
    pack = step.inputs["pack math"]
    assert pack.key not in needed
    assert needed == {
        *(part.key for part in pack.inputs.values()),
        *(part.key for name, part in step.inputs.items() if name != "pack math"),
    }


def test_what_is_trained_is_not_streamed() -> None:
    training = {role: TrainSettings(**SETTINGS) for role in ROLES}
    step = methods.load("f-cpt-a").model(parts(training=training), ["math"], {})
    assert not streams(step)
    assert stored(step) == [step]

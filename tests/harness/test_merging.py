"""Merging baselines give what mergekit's own command line gives, and their papers' formulas."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness import methods
from harness.spec import ROLES
from harness.steps import Step
from harness.workers import Workers
from maec.settings import TrainSettings
from tests.harness.models import base_step
from tests.harness.test_identity import SETTINGS, parts
from tests.maec.checkpoints import llama, read, trained, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("models")
    base = llama(rng)
    made = {"base": base} | {name: trained(rng, base) for name in ("ability", "es", "te")}
    return {name: write(folder / name, tensors) for name, tensors in made.items()}


def merged(
    name: str,
    models: dict[str, Path],
    workers: Workers,
    languages: tuple[str, ...],
    **values: float,
) -> dict[str, np.ndarray]:
    """The weights of a merging method's model, its inputs replaced by the checkpoints given."""
    training = {role: TrainSettings(**SETTINGS) for role in ROLES}
    step = methods.load(name).model(parts(training=training, languages=languages), ["math"], values)

    def stands_for(part: str) -> Step:
        return base_step(models[{"language": languages[0], "math": "ability"}.get(part, part)])

    step = replace(step, inputs={part: stands_for(part) for part in step.inputs})
    workers.submit(step).result()
    return read(step.folder)


def by_command_line(folder: Path, config: dict) -> dict[str, np.ndarray]:
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    program = Path(sys.executable).with_name("mergekit-yaml")
    subprocess.run(
        [program, folder / "config.yaml", folder / "out", "--random-seed", "0"],
        check=True,
        capture_output=True,
    )
    return read(folder / "out")


def entry(path: Path, **parameters: float) -> dict:
    return {"model": str(path), "parameters": parameters}


def same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_allclose(tensor, theirs[name], rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_ties_equals_mergekits_command_line(
    tmp_path: Path, models: dict[str, Path], workers: Workers, density: float
) -> None:
    ours = merged("ties", models, workers, ("es", "te"), density=density, language_scale=0.5)
    config = {
        "merge_method": "ties",
        "base_model": str(models["base"]),
        "dtype": "float32",
        "models": [
            entry(models["ability"], weight=1.0, density=density),
            entry(models["es"], weight=0.5, density=density),
            entry(models["te"], weight=0.5, density=density),
        ],
        "parameters": {"normalize": False},
    }
    same(ours, by_command_line(tmp_path, config))


def test_slerp_equals_mergekits_command_line(
    tmp_path: Path, models: dict[str, Path], workers: Workers
) -> None:
    ours = merged("slerp", models, workers, ("te",), t=0.3)
    config = {
        "merge_method": "slerp",
        "base_model": str(models["te"]),
        "dtype": "float32",
        "models": [{"model": str(models["te"])}, {"model": str(models["ability"])}],
        "parameters": {"t": 0.3},
    }
    same(ours, by_command_line(tmp_path, config))


def test_linear_is_the_weighted_mean_and_equals_mergekits_command_line(
    tmp_path: Path, models: dict[str, Path], workers: Workers
) -> None:
    ours = merged("linear", models, workers, ("es", "te"), scale=2.0, language_scale=0.5)
    config = {
        "merge_method": "linear",
        "dtype": "float32",
        "models": [
            entry(models["ability"], weight=2.0),
            entry(models["es"], weight=0.5),
            entry(models["te"], weight=0.5),
        ],
    }
    same(ours, by_command_line(tmp_path, config))
    given = {name: read(path) for name, path in models.items()}
    for name, tensor in ours.items():
        mean = (2 * given["ability"][name] + 0.5 * (given["es"][name] + given["te"][name])) / 3
        np.testing.assert_allclose(tensor, mean, rtol=0, atol=1e-6, err_msg=name)


def test_dare_ties_keeps_every_task_vector_at_density_one_and_thins_it_below(
    models: dict[str, Path], workers: Workers
) -> None:
    whole = merged("dare-ties", models, workers, ("es",), density=1.0)
    same(whole, merged("ties", models, workers, ("es",), density=1.0))
    base = read(models["base"])
    alone = merged("dare-ties", models, workers, ("es",), density=0.25, language_scale=0.0)
    moved = [np.mean(alone[name] != base[name]) for name in base if base[name].size > 100]
    assert 0.2 < np.mean(moved) < 0.3


def test_layer_swap_takes_whole_layers_outer_ones_from_the_language_model(
    models: dict[str, Path], workers: Workers
) -> None:
    # two layers: half of them at either end leaves none, a quarter rounds to one at either end
    language, ability = read(models["te"]), read(models["ability"])
    same(merged("layer-swap", models, workers, ("te",), outer=0.25), language)
    inner = merged("layer-swap", models, workers, ("te",), outer=0.0)
    layers = [name for name in ability if ".layers." in name]
    for name in layers:
        np.testing.assert_array_equal(inner[name], ability[name])


def test_a_method_for_one_language_model_takes_the_base_for_the_pivot_and_the_mix_for_several() -> (
    None
):
    training = {role: TrainSettings(**SETTINGS) for role in ROLES}
    mine = parts(training=training, languages=())
    assert mine.one_language_model().key == mine.base.key
    mine = parts(training=training, languages=("te",))
    assert mine.one_language_model().key == mine.language_models()["te"].key
    mine = parts(training=training, languages=("es", "te"))
    assert mine.one_language_model().key == mine.languages_model().key

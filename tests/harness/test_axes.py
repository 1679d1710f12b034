"""Variants, less text, one model for everything, bases in other sizes: what is planned for them."""

import copy
import json
import math
from pathlib import Path

import pytest

from harness import world
from harness.embedded import pretrain
from harness.execute import execute
from harness.plan import Plan, make_plan
from harness.score import ready_models
from harness.spec import ROLES, EmbeddedModel, Matrix, check_matrix, load_matrix
from harness.steps import Step
from maec.errors import InputError
from tests.harness.test_tasks import matrix_file

SETTINGS = {
    "languages": ["te", "es"],
    "abilities": ["math", "science"],
    "documents": {"general": 100, "pivot": 80, "ability": 60, "translated": 40},
    "training": {role: {"steps": 1, "learning_rate": 0.001} for role in ROLES},
}
SMALL = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
}


def matrix(folder: Path, **changes: object) -> Matrix:
    return load_matrix(matrix_file(folder, **{**SETTINGS, **changes}))


def plan(folder: Path, **changes: object) -> Plan:
    return make_plan(matrix(folder, **changes))


def refusal(folder: Path, **changes: object) -> str:
    with pytest.raises(InputError) as caught:
        matrix(folder, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def corpora(steps: list[Step]) -> dict[tuple[str, str | None], int]:
    return {
        (corpus["language"], corpus["ability"]): corpus["documents"]
        for step in steps
        for corpus in step.corpora()
    }


# --- variants ----------------------------------------------------------------------------------


def test_every_variant_is_the_whole_matrix_at_its_point(home: Path, tmp_path: Path) -> None:
    variants = [
        {"label": "all"},
        {"label": "a tenth", "corpus_fraction": {"language": 0.1}},
        {"label": "small", "base": SMALL},
    ]
    found = plan(tmp_path, methods=["base", "tv"], variants=variants)
    plain = plan(tmp_path, methods=["base", "tv"])
    by_label = {v["label"]: [c for c in found.cells if c.variant == v["label"]] for v in variants}
    assert sum(map(len, by_label.values())) == len(found.cells) == 3 * len(plain.cells)
    assert [cell.model.key for cell in by_label["all"]] == [c.model.key for c in plain.cells]
    for ours, theirs in zip(by_label["a tenth"], plain.cells, strict=True):
        assert ours.base.key == theirs.base.key
        assert (ours.model.key == theirs.model.key) == (ours.method == "base")
        assert ours.task.key == theirs.task.key
    for ours, theirs in zip(by_label["small"], plain.cells, strict=True):
        assert ours.base.kind == "pretrain"
        assert ours.model.key != theirs.model.key
        assert ours.task.key == theirs.task.key


def test_a_matrix_without_variants_is_its_own_only_point(tmp_path: Path) -> None:
    plain = matrix(tmp_path)
    assert plain.points() == {"": plain}


def test_labels_of_variants_are_unique(tmp_path: Path) -> None:
    message = refusal(tmp_path, variants=[{"label": "a"}, {"label": "b"}, {"label": "a"}])
    assert "variants: 'a' stands there twice" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"variants": [{"label": "a", "seeds": [1]}]}, "unknown key 'variants[0].seeds'"),
        ({"corpus_fraction": {"language": 0.0}}, "corpus_fraction.language"),
        ({"corpus_fraction": {"ability": 1.5}}, "corpus_fraction.ability"),
        ({"corpus_fraction": {"pivot": 0.5}}, "unknown key 'corpus_fraction.pivot'"),
        ({"base": {"num_attention_heads": 3}}, "32 × num_attention_heads"),
        ({"base": {"layers": 2}}, "unknown key 'base.layers'"),
        ({"base": {"num_hiden_layers": 2}}, "did you mean 'num_hidden_layers'?"),
        (
            {"variants": [{"label": "a", "base": {"num_hiden_layers": 2}}]},
            "did you mean 'num_hidden_layers'?",
        ),
    ],
)
def test_a_mistake_on_an_axis_is_named(tmp_path: Path, changes: dict, expected: str) -> None:
    assert expected in refusal(tmp_path, **changes)


# --- less text ---------------------------------------------------------------------------------


def test_a_point_may_have_an_engine_that_differs_in_some_keys(home: Path, tmp_path: Path) -> None:
    variants = [
        {"label": "plain"},
        {"label": "split", "engine": {"tensor_parallel_size": 2, "memory_fraction": 0.5}},
        {"label": "half", "engine": {"dtype": "float16"}},
    ]
    engine = {"dtype": "bfloat16", "max_model_len": 512}
    found = plan(tmp_path, methods=["base"], engine=engine, variants=variants)
    first = {cell.variant: cell for cell in reversed(found.cells)}
    engines = {label: cell.engine for label, cell in first.items()}
    assert engines["plain"] == found.matrix.engine
    assert {label: (e.dtype, e.max_model_len, e.workers) for label, e in engines.items()} == {
        "plain": ("bfloat16", 512, 1),
        "split": ("bfloat16", 512, 2),
        "half": ("float16", 512, 1),
    }
    # the same model in the same arithmetic has one score, however many GPUs it takes
    key = {label: found.key_of(cell, "f") for label, cell in first.items()}
    assert key["plain"] == key["split"] != key["half"]
    assert key["plain"] == found.key_of(plan(tmp_path, engine=engine).cells[0], "f")
    # models are asked by engine, and what a run records of its file reads as the file does
    groups = ready_models(found.cells)
    assert len(groups) == len({(cell.model.key, cell.engine) for cell in found.cells}) == 3
    recorded = found.matrix.model_dump(mode="json")
    assert check_matrix(recorded, found.matrix.file).points() == found.matrix.points()


def test_quantised_models_have_scores_of_their_own(home: Path, tmp_path: Path) -> None:
    plain = plan(tmp_path, engine={"dtype": "bfloat16"})
    half = plan(tmp_path, engine={"dtype": "bfloat16", "quantization": "fp8_per_tensor"})
    assert plain.key_of(plain.cells[0], "f") != half.key_of(half.cells[0], "f")


def test_a_corpus_fraction_is_of_the_documents_of_its_kind(home: Path, tmp_path: Path) -> None:
    fraction = {"language": 0.25, "ability": 0.1}
    found = plan(tmp_path, methods=["t-cpt", "maec", "f-cpt-la"], corpus_fraction=fraction)
    sizes = corpora(found.steps)
    assert {size for (code, ability), size in sizes.items() if code != "en" and not ability} == {25}
    assert sizes["en", None] == 80
    assert {sizes["en", ability] for ability in ("math", "science")} == {6}
    assert {sizes[code, "math"] for code in ("te", "es")} == {4}
    # as many steps on less text
    for step in found.steps:
        if step.kind == "train":
            assert step.settings["training"]["steps"] == 1


def test_a_fraction_leaves_at_least_one_document(home: Path, tmp_path: Path) -> None:
    fraction = {"language": 0.0001, "ability": 0.0001}
    sizes = corpora(plan(tmp_path, methods=["f-cpt-la"], corpus_fraction=fraction).steps)
    assert sizes == {("te", None): 1, ("es", None): 1, ("en", "math"): 1, ("en", "science"): 1,
                     ("en", None): 80}  # fmt: skip


# --- one model for everything ------------------------------------------------------------------


def models(folder: Path, name: str) -> dict[str, Step]:
    entry = {"name": name, "scope": "everything"}
    return {cell.model.key: cell.model for cell in plan(folder, methods=[entry]).cells}


def test_maec_for_everything_is_one_model_with_a_pack_for_each_ability(
    home: Path, tmp_path: Path
) -> None:
    (model,) = models(tmp_path, "maec").values()
    assert set(model.inputs) == {"base", "pack math", "pack science", "te", "es"}
    assert model.settings["abilities"] == ["math", "science"]
    for ability in ("math", "science"):
        own = {c["ability"] for c in model.inputs[f"pack {ability}"].corpora() if c["ability"]}
        assert own == {ability}
    # each pack is the one that a model of its ability alone has
    alone = plan(tmp_path, methods=["maec"])
    for cell in alone.cells:
        pack = f"pack {cell.ability}"
        assert model.inputs[pack].key == cell.model.inputs[pack].key


def test_task_arithmetic_for_everything_adds_a_task_vector_for_each_ability(
    home: Path, tmp_path: Path
) -> None:
    (model,) = models(tmp_path, "tv").values()
    assert model.settings["weights"].keys() == {"math", "science", "te", "es"}
    assert set(model.inputs) == {"base", "math", "science", "te", "es"}
    for ability in ("math", "science"):
        own = {c["ability"] for c in model.inputs[ability].corpora() if c["ability"]}
        assert own == {ability}


def test_joint_training_for_everything_reads_the_text_of_all_abilities(
    home: Path, tmp_path: Path
) -> None:
    (model,) = models(tmp_path, "f-cpt-la").values()
    assert corpora([model]).keys() == {
        *(("te", None), ("es", None), ("en", None)),
        *(("en", "math"), ("en", "science")),
    }


def test_parameters_of_one_ability_have_no_place_in_a_model_for_everything(tmp_path: Path) -> None:
    entry = {"name": "maec", "scope": "everything", "abilities": {"math": {"gamma": 1.0}}}
    message = refusal(tmp_path, methods=[entry])
    assert "methods[0]" in message and "scope 'everything'" in message
    matrix(tmp_path, methods=[{**entry, "scope": "all"}])


# --- bases -------------------------------------------------------------------------------------


def base(folder: Path, given: object) -> Step:
    return world.base_step(matrix(folder, base=given))


def test_the_shipped_size_uses_the_shipped_base(home: Path, tmp_path: Path) -> None:
    shipped = base(tmp_path, "embedded")
    assert shipped.kind == "base" and shipped.path == world.EMBEDDED_BASE
    assert base(tmp_path, EmbeddedModel().model_dump()).key == shipped.key
    assert base(tmp_path, {}).key == shipped.key
    for size in ({"num_hidden_layers": 5}, {"hidden_size": 256}, {"intermediate_size": 345}):
        assert base(tmp_path, size).kind == "pretrain", size


def test_a_base_is_another_with_another_size_recipe_or_text(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {base(tmp_path, SMALL).key, base(tmp_path, {**SMALL, "num_hidden_layers": 3}).key}
    recipe = world._recipe()
    with monkeypatch.context() as patch:
        patch.setattr(world, "_recipe", lambda: {**recipe, "embedding_noise": 0.5})
        keys.add(base(tmp_path, SMALL).key)
    with monkeypatch.context() as patch:
        patch.setattr(world.corpora, "fingerprint", lambda *codes: "other text")
        keys.add(base(tmp_path, SMALL).key)
    assert len(keys) == 4
    assert base(tmp_path, SMALL).key in keys


def test_the_size_of_a_base_is_known_before_it_is_made(home: Path, tmp_path: Path) -> None:
    shipped = EmbeddedModel().model_dump()
    planned = Step("pretrain", {"model": shipped, "recipe": "r", "text": "t"})
    assert not planned.done
    assert world.base_numel(planned) == world.base_numel(base(tmp_path, "embedded"))


def test_a_base_is_made_in_the_size_that_was_asked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain.recipe()
    short = {
        **whole,
        "documents": dict.fromkeys(whole["documents"], 40),
        "training": {**whole["training"], "steps": 2, "batch_size": 2},
    }
    monkeypatch.setattr(pretrain, "recipe", lambda: copy.deepcopy(short))
    monkeypatch.setattr(pretrain, "HELD_OUT", dict.fromkeys(pretrain.HELD_OUT, 2))
    step = Step("pretrain", {"model": SMALL, "recipe": "r", "text": "t"}, label="small")
    planned = world.base_numel(step)
    manifest = execute(step)
    config = json.loads((step.folder / "config.json").read_text(encoding="utf-8"))
    assert {name: config[name] for name in SMALL} == SMALL
    assert world.base_numel(step) == planned
    # untrained, it would be as good as guessing: ln of the vocabulary
    assert 0 < manifest["held_out_loss"] < 1.5 * math.log(config["vocab_size"])
    assert manifest["tokens"] == 2 * 2 * whole["training"]["sequence_length"]

"""Checkpoints that others trained: what they stand for, what is refused, how they are stored."""

from pathlib import Path

import numpy as np
import pytest

from harness import fetch as fetching
from harness.execute import execute
from harness.plan import Plan, make_plan
from harness.spec import load_matrix
from harness.steps import Step
from maec.errors import InputError
from tests.harness.hub_world import save_adapter, save_model
from tests.harness.models import base_step, random_model
from tests.harness.test_tasks import matrix_file
from tests.maec.checkpoints import llama, read_torch, same_bits, write
from tests.maec.families import save_model as save_family
from tests.maec.families import store_again

GIVEN = {"languages": {"es": "org/es", "te": "org/te"}, "abilities": {"math": "org/math"}}
TRAINING = {"steps": 2, "learning_rate": 0.001}


def planned(folder: Path, **changes: object) -> Plan:
    common = {"base": "org/base@v1", "languages": ["es", "te"], "checkpoints": GIVEN}
    return make_plan(load_matrix(matrix_file(folder, **{**common, **changes})))


def model(plan: Plan, method: str, language: str = "te") -> Step:
    (cell,) = (c for c in plan.cells if (c.method, c.language) == (method, language))
    return cell.model


def test_what_is_to_be_fetched_has_a_key_and_neither_a_fingerprint_nor_a_score(
    tmp_path: Path, home: Path
) -> None:
    plan = planned(tmp_path)
    (base,) = plan.steps
    assert (base.kind, base.settings) == ("fetch", {"model": "org/base", "revision": "v1"})
    assert not base.done and plan.fingerprint(base) is None
    assert {plan.key(cell) for cell in plan.cells} == {None}
    assert plan.missing_steps == [base] and len(plan.missing_cells) == 3
    other = planned(tmp_path, base="org/base@v2")
    assert other.steps[0].key != base.key


def test_a_model_with_code_of_its_own_is_to_be_named_which_changes_no_key(
    tmp_path: Path, home: Path
) -> None:
    base = tmp_path / "base"
    write(base, llama(np.random.default_rng(0)))
    plain = planned(tmp_path, base=str(base), checkpoints={}).steps[0]
    config = base / "config.json"
    config.write_text(config.read_text().replace("{", '{"auto_map": {"AutoModel": "own.X"},', 1))
    with pytest.raises(
        InputError, match=r"base: .*own\.X.*add '.*base' to engine\.trust_rem"
    ) as caught:
        planned(tmp_path, base=str(base), checkpoints={})
    assert "\n" not in str(caught.value)
    word = {"trust_remote_code": [str(base)]}
    trusted = planned(tmp_path, base=str(base), checkpoints={}, engine=word).steps[0]
    assert trusted.runs_code and not plain.runs_code and trusted.key == plain.key


def test_what_is_made_of_models_may_run_the_code_of_those_that_are_named(
    tmp_path: Path, home: Path
) -> None:
    methods = ["tv", "maec", "f-cpt-a"]
    training = {"training": {"ability": TRAINING, "locate": TRAINING}}
    word = {"trust_remote_code": ["org/base@v1", "org/te"]}
    plan = planned(tmp_path, methods=methods, engine=word)
    fetched = {s.settings["model"]: s.runs_code for s in plan.steps if s.kind == "fetch"}
    assert fetched == {"org/base": True, "org/te": True, "org/es": False, "org/math": False}
    assert model(plan, "maec").runs_code  # it has the config of the base
    assert not model(plan, "tv").runs_code  # mergekit may take the config of any
    assert not model(plan, "f-cpt-a").runs_code
    plain = planned(tmp_path, methods=methods)
    assert not any(step.runs_code for step in plain.steps)
    assert [s.key for s in plan.steps] == [s.key for s in plain.steps]
    trained = planned(
        tmp_path,
        base=str(random_model(tmp_path, 0)),
        checkpoints={},
        methods=["f-cpt-a"],
        documents=BUDGETS,
        corpora=EVERYWHERE,
        engine={"trust_remote_code": [str(tmp_path / "model-0")]},
        **training,
    )
    assert model(trained, "f-cpt-a").runs_code


def test_code_that_a_fetched_model_brings_is_refused_before_its_weights_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "own.X"}}')
    asked = []

    def local_folder(source: str, patterns: object = None) -> Path:
        asked.append(patterns)
        return tmp_path

    monkeypatch.setattr(fetching, "local_folder", local_folder)
    step = Step("fetch", {"model": "org/base", "revision": None})
    with pytest.raises(InputError, match=r"own\.X"):
        fetching.fetch(step, tmp_path / "out")
    assert asked == [("*.json",)]


def test_checkpoints_stand_wherever_their_training_would(tmp_path: Path, home: Path) -> None:
    methods = ["f-cpt-a", {"name": "f-cpt-l", "scope": "language"}, "tv", "ties", "maec"]
    plan = planned(tmp_path, methods=methods)
    assert {step.kind for step in plan.steps} == {
        "fetch",
        "mergekit",
        "combine",
        "extract",
        "locate",
    }
    math, telugu = model(plan, "f-cpt-a"), model(plan, "f-cpt-l")
    assert (math.settings["model"], telugu.settings["model"]) == ("org/math", "org/te")
    assert model(plan, "f-cpt-l", "en") is plan.cells[0].base
    assert model(plan, "tv").inputs["te"].key == telugu.key
    pack = model(plan, "maec").inputs["pack math"]
    # what the checkpoint moved most is N_A; there is no pivot to subtract
    assert pack.inputs["ability"].key == pack.inputs["mask"].inputs["trained"].key == math.key
    assert pack.settings["beta"] == 0 and "pivot" not in pack.inputs
    both = {**GIVEN, "abilities": {"math": {"model": "org/math", "pivot": "org/english"}}}
    pack = model(planned(tmp_path, methods=["maec"], checkpoints=both), "maec").inputs["pack math"]
    assert pack.settings["beta"] == 0.2
    assert pack.inputs["pivot"].settings["model"] == "org/english"


def test_one_model_of_everything_is_merged_of_several_abilities(tmp_path: Path, home: Path) -> None:
    abilities = {"abilities": ["math", "science"], "languages": ["te"]}
    given = {**GIVEN, "abilities": {"math": "org/math", "science": "org/science"}}
    given["languages"] = {"te": "org/te"}
    for name in ("tv", "ties", "dare-ties", "linear", "maec"):
        method = {"name": name, "scope": "everything"}
        plan = planned(tmp_path, methods=[method], checkpoints=given, **abilities)
        fetched = {s.settings["model"] for s in plan.steps if s.kind == "fetch"}
        assert fetched == {"org/base", "org/te", "org/math", "org/science"}
    for name in ("f-cpt-a", "slerp", "layer-swap"):
        with pytest.raises(InputError, match=f"method '{name}' needs one model of math and sci"):
            method = {"name": name, "scope": "everything"}
            planned(tmp_path, methods=[method], checkpoints=given, **abilities)


CORPORA = {"general": {"es": {"dataset": "org/wiki", "name": "es"}}}
EVERYWHERE = {
    "general": {"*": {"dataset": "org/wiki"}},
    "ability": {"math": {"dataset": "org/sums"}},
}
BUDGETS = {"general": 9, "pivot": 9, "ability": 9, "translated": 9}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"methods": ["f-cpt-la"]}, ["corpora: missing", "method 'f-cpt-la' needs it"]),
        (
            {"methods": ["f-cpt-la"], "documents": BUDGETS, "corpora": EVERYWHERE},
            ["no settings for the role 'joint'", "method 'f-cpt-la'"],
        ),
        (
            {"methods": ["f-cpt-l"]},
            ["method 'f-cpt-l' needs one model of all target", "scope: language"],
        ),
        ({"methods": ["slerp"]}, ["method 'slerp' needs one model", "scope: language"]),
        ({"methods": [{"name": "tv", "rate": 2}]}, ["rate 2.0 of method 'tv'", "checkpoint"]),
        ({"methods": [{"name": "maec", "beta": 0.1}]}, ["beta 0.1", "abilities.math.pivot"]),
        ({"methods": [{"name": "maec", "importance": "gradient"}]}, ["corpora: missing", "'maec'"]),
        (
            {"methods": ["act-like"], "documents": BUDGETS},
            ["corpora: missing", "leave out what needs it", "'act-like'"],
        ),
        (
            {"methods": ["act-like"], "corpora": EVERYWHERE},
            ["documents: 'ability' is missing, and so is tokens", "'act-like'"],
        ),
        (
            {
                "methods": ["tv"],
                "checkpoints": {"abilities": {"math": "org/math"}},
                "training": {"language": TRAINING},
                "documents": BUDGETS,
                "corpora": CORPORA,
            },
            ["corpora.general.te: missing"],
        ),
        ({"checkpoints": {"languages": {"te2": "org/te"}}}, ["'te2'", "did you mean 'te'?"]),
        ({"checkpoints": {"abilities": {"maths": "org/m"}}}, ["'maths'", "did you mean 'math'?"]),
        ({"checkpoints": {"ability": {}}}, ["'checkpoints.ability'", "mean 'abilities'?"]),
        ({"corpora": {"general": {"es": {"file": "a"}}}}, ["corpora.general.es.file", "'files'?"]),
        ({"corpora": {"general": {"es": {}}}}, ["corpora.general.es", "'dataset' and 'files'"]),
        ({"checkpoints": {"languages": {"te": "nowhere"}}}, ["languages.te", "no such folder"]),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(
    tmp_path: Path, home: Path, changes: dict, expected: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        planned(tmp_path, **changes)
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path / "matrix.yaml") in message
    for part in expected:
        assert part in message


def test_text_of_a_pivot_is_named_like_that_of_any_language(tmp_path: Path, home: Path) -> None:
    corpora = {
        "general": {"*": {"dataset": "org/web@r", "name": "{language}", "names": {"te": "tel"}}},
        "ability": {"math": {"dataset": "org/sums", "text": "{q} {a}", "licence": "mit"}},
    }
    plan = planned(
        tmp_path,
        methods=["f-cpt-la"],
        checkpoints={},
        corpora=corpora,
        documents=BUDGETS,
        tokens={"general": 1e6, "ability": "2e3"},
        corpus_fraction={"language": 0.5},
        training={"joint": TRAINING},
    )
    step = model(plan, "f-cpt-la")
    read = {(c["language"], c["ability"]): c for c in step.settings["corpora"]}
    names = {where: c["source"]["name"] for where, c in read.items()}
    assert names == {
        ("es", None): "es",
        ("te", None): "tel",
        ("en", None): "en",
        ("en", "math"): None,
    }
    budgets = {where: (c["documents"], c["tokens"]) for where, c in read.items()}
    assert budgets["es", None] == (4, 500_000) and budgets["en", "math"] == (9, 2000)
    assert budgets["en", None] == (9, None)
    assert [place.licence for place in step.places] == [None, None, "mit", "mit", None]


# what lies in folders, and what was fetched


def test_a_checkpoint_in_a_folder_that_does_not_fit_is_refused_naming_both(
    tmp_path: Path, home: Path
) -> None:
    save_model(tmp_path / "base", "llama", 0)
    save_family(tmp_path / "other", "llama", 1)
    with pytest.raises(InputError) as caught:
        planned(
            tmp_path,
            base="base",
            languages=["te"],
            checkpoints={"languages": {"te": "other"}},
        )
    message = str(caught.value)
    assert "checkpoints.languages.te" in message and "\n" not in message
    assert f"{tmp_path / 'other'}" in message and f"{tmp_path / 'base'}" in message


def test_what_is_said_of_a_base_is_compared_with_the_base(tmp_path: Path, home: Path) -> None:
    base = random_model(tmp_path, 0)
    for changes, expected in (
        ({"parameters": 7}, "parameters: 7, but it is"),
        ({"config": {"hidden_size": 65}}, "config.hidden_size: 65, but it is 64"),
    ):
        with pytest.raises(InputError, match=expected):
            planned(tmp_path, base=base.name, checkpoints={}, **changes)
    planned(tmp_path, base=base.name, checkpoints={}, config={"hidden_size": 64})


@pytest.fixture
def fetched(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    """fetched(name, base=None): the folder of the model that a hub is to have under that name."""
    monkeypatch.setattr(fetching, "local_folder", lambda source, *_, **__: tmp_path / source)

    def make(name: str, base: Path | None = None) -> Path:
        inputs = {} if base is None else {"base": base_step(base)}
        step = Step("fetch", {"model": name, "revision": None}, inputs)
        execute(step)
        assert step.done
        return step.folder

    return make


def test_a_checkpoint_is_linked_to_and_gone_when_what_it_links_to_is(
    tmp_path: Path, fetched
) -> None:
    base = save_model(tmp_path / "base", "llama", 0)
    model = save_model(tmp_path / "es", "llama", 1, base)
    folder = fetched("es", base)
    assert same_bits(read_torch(folder), read_torch(model))
    assert all(f.is_symlink() for f in folder.iterdir() if f.name != "manifest.json")
    step = Step("fetch", {"model": "es", "revision": None}, {"base": base_step(base)})
    assert step.done and step.folder == folder
    (model / "model.safetensors").rename(tmp_path / "away")
    assert not step.done
    (tmp_path / "away").rename(model / "model.safetensors")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("gone")
    assert not step.done
    execute(step)  # anew
    assert step.done and same_bits(read_torch(folder), read_torch(model))


def test_an_adapter_is_merged_as_peft_merges_it(tmp_path: Path, fetched) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = save_model(tmp_path / "base", "qwen2", 0)
    adapter = save_adapter(tmp_path / "te", base, 1)
    merged = AutoModelForCausalLM.from_pretrained(fetched("te", base))
    model = AutoModelForCausalLM.from_pretrained(base)
    expected = PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()
    for name, value in merged.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)


def test_a_copy_of_tied_embeddings_is_left_out_bit_for_bit_else(tmp_path: Path, fetched) -> None:
    import torch

    base = save_family(tmp_path / "base", "llama", 0, tied=True, dtype=torch.bfloat16)
    model = save_family(tmp_path / "es", "llama", 1, tied=True, dtype=torch.bfloat16)
    before = read_torch(model)
    store_again(model, lm_head__weight="model.embed_tokens.weight")
    folder = fetched("es", base)
    assert same_bits(read_torch(folder), before)
    # and of a base that is stored like that itself
    assert same_bits(read_torch(fetched("es")), before)


@pytest.mark.parametrize(
    ("family", "how", "expected"),
    [
        ("qwen2", {}, ["model_type", "'qwen2'", "'llama'"]),
        ("llama", {"rows": 41}, ["vocab_size: 41", "40"]),
    ],
)
def test_a_model_of_another_shape_is_refused_by_its_config_naming_both(
    tmp_path: Path, fetched, family: str, how: dict, expected: list[str]
) -> None:
    base = save_family(tmp_path / "base", "llama", 0)
    other = save_family(tmp_path / "other", family, 1, **how)
    (other / "model.safetensors").unlink()  # it is not fetched for that
    with pytest.raises(InputError) as caught:
        fetched("other", base)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("other: config.json", "the base", *expected):
        assert part in message, message
    assert not list((tmp_path / "home" / "artifacts" / "fetch").iterdir())

"""Methods are put together from named parts, and only one may read translated ability data."""

import math
from pathlib import Path

import numpy as np
import pytest

from harness import methods
from harness.execute import execute
from harness.spec import ROLES
from harness.steps import Step
from maec.errors import InputError
from maec.neurons import read_mask
from maec.settings import TrainSettings
from tests.harness.models import base_step
from tests.harness.test_identity import SETTINGS, parts
from tests.maec.checkpoints import llama, shapes, write

ALL = ["base", "da", "f-cpt-a", "f-cpt-l", "f-cpt-la", "l-cpt-la", "maec", "t-cpt", "tv"]


def model(name: str, **parameters: object):
    training = {role: TrainSettings(**SETTINGS) for role in ROLES}
    return methods.load(name).model(parts(training=training), ["math"], parameters)


def test_every_method_of_the_paper_is_there() -> None:
    assert set(ALL) <= set(methods.available())


@pytest.mark.parametrize("name", [name for name in methods.available() if name != "t-cpt"])
def test_no_method_but_the_upper_reference_reads_ability_text_of_a_target_language(
    name: str,
) -> None:
    for corpus in model(name).corpora():
        assert corpus["ability"] is None or corpus["language"] == "en"


def test_the_upper_reference_reads_it_and_says_so() -> None:
    used = {c["language"] for c in model("t-cpt").corpora() if c["ability"]}
    assert used == {"en", "es", "te"}
    assert methods.load("t-cpt").info.translated


def test_a_method_that_does_not_declare_it_cannot_get_translated_ability_text() -> None:
    with pytest.raises(PermissionError, match="without declaring it"):
        parts().translated_ability("math", "te")


def test_maec_trains_on_the_corpora_that_the_method_names() -> None:
    step = model("maec")
    pack = step.inputs["pack math"]
    ability = pack.inputs["ability"].settings["corpora"]
    pivot = pack.inputs["pivot"].settings["corpora"]
    assert [(c["language"], c["ability"]) for c in ability] == [("en", "math"), ("en", None)]
    assert [(c["language"], c["ability"]) for c in pivot] == [("en", None)]
    # both runs move the same key neurons, from Θ_o
    assert pack.inputs["ability"].inputs["mask"].key == pack.inputs["pivot"].inputs["mask"].key
    assert pack.inputs["ability"].inputs["start"].key == step.inputs["base"].key


def test_methods_share_the_runs_that_they_have_in_common() -> None:
    tv, maec = model("tv"), model("maec")
    assert tv.inputs["te"].key == maec.inputs["te"].key
    assert tv.inputs["math"].key == model("f-cpt-a").key
    assert model("da").inputs["start"].key == model("f-cpt-l").key


def test_without_beta_no_pivot_model_is_trained_and_without_languages_no_language_model() -> None:
    assert "pivot" not in model("maec", beta=0.0).inputs["pack math"].inputs
    assert set(model("maec", language_scale=0.0).inputs) == {"base", "pack math"}


def test_a_method_whose_training_has_no_settings_is_refused() -> None:
    with pytest.raises(InputError, match=r"no settings for the role 'joint'"):
        methods.load("f-cpt-la").model(parts(), ["math"], {})


@pytest.mark.parametrize("name", methods.available())
def test_every_method_says_what_it_is(name: str) -> None:
    info = methods.load(name).info
    assert info.title
    assert info.data


ABLATIONS = {
    "maec-no-mask": "k1",
    "maec-no-select": "k2",
    "maec-no-beta": "beta",
    "maec-no-language": "language_scale",
    "maec-random-mask": "importance",
    "maec-random-select": "similarity",
    "maec-frozen-embeddings": "freeze_embeddings",
}


@pytest.mark.parametrize(("name", "settled"), ABLATIONS.items())
def test_an_ablation_is_maec_with_one_parameter_settled(name: str, settled: str) -> None:
    assert model(name).key != model("maec").key
    ours = methods.load(name)
    with pytest.raises(InputError, match=f"no parameter '{settled}'"):
        ours.check_parameters({settled: 1})
    # everything else is maec's to set, and with the same value for it the model is maec's
    assert ours.check_parameters({"gamma": 0.7, "alpha": 0.5}) == {"gamma": 0.7, "alpha": 0.5}


def test_ablations_are_maec_with_that_value() -> None:
    assert model("maec-no-mask").key == model("maec", k1=1.0).key
    assert model("maec-no-select", k1=0.3).key == model("maec", k1=0.3, k2=1.0).key
    assert model("maec-random-select").key == model("maec", similarity="random").key


def test_random_key_neurons_need_no_run_to_locate_them_and_follow_the_seed() -> None:
    def mask(seed: int):
        training = {role: TrainSettings(**SETTINGS) for role in ROLES}
        mine = parts(training=training, seed=seed)
        step = methods.load("maec-random-mask").model(mine, ["math"], {})
        return step.inputs["pack math"].inputs["mask"]

    assert set(mask(0).inputs) == {"base"}
    assert mask(0).settings["seed"] == 0
    assert mask(0).key != mask(1).key


@pytest.mark.parametrize("tied", [False, True])
def test_frozen_embeddings_hold_no_key_neurons_and_the_rest_its_share(
    home: Path, tmp_path: Path, tied: bool
) -> None:
    base = write(tmp_path / "base", llama(np.random.default_rng(0), tied=tied))
    step = Step(
        kind="locate",
        settings={
            "k1": 0.3,
            "granularity": "parameter",
            "importance": "random",
            "seed": 0,
            "freeze_embeddings": True,
        },
        inputs={"base": base_step(base)},
    )
    execute(step)
    mask = read_mask(step.folder)
    assert {name: tuple(entries.shape) for name, entries in mask.items()} == shapes(tied=tied)
    frozen = {"model.embed_tokens.weight", "lm_head.weight"} & mask.keys()
    assert not any(mask[name].any() for name in frozen)
    movable = [entries for name, entries in mask.items() if name not in frozen]
    size = sum(entries.numel() for entries in movable)
    assert sum(int(entries.sum()) for entries in movable) == math.floor(0.3 * size + 0.5)


def test_one_name_is_not_taken_for_a_sequence_of_abilities() -> None:
    with pytest.raises(TypeError, match="found 'math'"):
        methods.load("base").model(parts(), "math", {})

"""Methods are put together from named parts, and only one may read translated ability data."""

import pytest

from harness import methods
from harness.spec import ROLES
from maec.errors import InputError
from maec.settings import TrainSettings
from tests.harness.test_identity import SETTINGS, parts

ALL = ["base", "da", "f-cpt-a", "f-cpt-l", "f-cpt-la", "l-cpt-la", "maec", "t-cpt", "tv"]


def model(name: str, **parameters: object):
    training = {role: TrainSettings(**SETTINGS) for role in ROLES}
    return methods.load(name).model(parts(training=training), "math", parameters)


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
    pack = step.inputs["pack"]
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
    assert tv.inputs["ability"].key == model("f-cpt-a").key
    assert model("da").inputs["start"].key == model("f-cpt-l").key


def test_without_beta_no_pivot_model_is_trained_and_without_languages_no_language_model() -> None:
    assert "pivot" not in model("maec", beta=0.0).inputs["pack"].inputs
    assert set(model("maec", language_scale=0.0).inputs) == {"base", "pack"}


def test_a_method_whose_training_has_no_settings_is_refused() -> None:
    with pytest.raises(InputError, match=r"no settings for the role 'joint'"):
        methods.load("f-cpt-la").model(parts(), "math", {})


@pytest.mark.parametrize("name", methods.available())
def test_every_method_says_what_it_is(name: str) -> None:
    info = methods.load(name).info
    assert info.title
    assert info.data

"""Recipe files: every key of METHOD.md, its default, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pycountry
import pytest
import yaml

from maec.errors import InputError
from maec.language import ISO_639_1
from maec.recipe import Recipe, load_recipe

FULL = """
base: models/base
languages:
  - {model: models/es, mu: 1.5}
  - {model: models/zh}
abilities:
  - {model: models/math, pivot: models/en, k1: 0.1, alpha: 0.7, beta: 0.3, gamma: 0.4, k2: 0.5}
  - {pack: packs/science, gamma: 0.25, k2: 0.6}
lambda: 0.9
similarity: absolute
granularity: row
dtype: float32
"""


def recipe_file(folder: Path, text: str) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return file


def changed(**keys: object) -> str:
    """The full recipe with some keys set (`lambda_` for `lambda`) or, with None, left out."""
    content = yaml.safe_load(FULL) | {key.rstrip("_"): value for key, value in keys.items()}
    return yaml.safe_dump({key: value for key, value in content.items() if value is not None})


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as error:
        load_recipe(recipe_file(tmp_path, text))
    message = str(error.value)
    assert "recipe.yaml" in message and "\n" not in message
    return message


def test_every_key_of_the_method_is_read(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, FULL))
    assert isinstance(recipe, Recipe)
    es, zh = recipe.languages
    assert (es.mu, zh.mu) == (1.5, 1.0)
    math, science = recipe.abilities
    assert (math.k1, math.alpha, math.beta, math.gamma, math.k2) == (0.1, 0.7, 0.3, 0.4, 0.5)
    assert (science.gamma, science.k2) == (0.25, 0.6)
    dumped = recipe.model_dump(by_alias=True)
    assert dumped["lambda"] == 0.9
    assert (recipe.similarity, recipe.granularity, recipe.dtype) == ("absolute", "row", "float32")


def test_paths_are_relative_to_the_recipe_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    names = ["models/base", "models/es", "models/zh", "models/math", "models/en", "packs/science"]
    for name in names:  # what is not there could be a hub id
        (tmp_path / name).mkdir(parents=True)
    file = recipe_file(tmp_path, FULL)
    monkeypatch.chdir(elsewhere)
    recipe = load_recipe(file)
    found = [
        recipe.base,
        *(language.model for language in recipe.languages),
        recipe.abilities[0].model,
        recipe.abilities[0].pivot,
        recipe.abilities[1].pack,
    ]
    assert [Path(path).resolve() for path in found] == [(tmp_path / n).resolve() for n in names]


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, changed(base="/models/base")))
    assert Path(recipe.base) == Path("/models/base")


@pytest.mark.parametrize(
    "text", ["org/name", "org/name@main", "Org-1/my.model@v1.0", "o/n@refs/pr/1"]
)
def test_what_is_no_folder_and_looks_like_a_hub_id_is_one(tmp_path: Path, text: str) -> None:
    recipe = load_recipe(recipe_file(tmp_path, changed(base=text)))
    assert recipe.base == text and isinstance(recipe.base, str)
    plain = recipe.canonical().to_dict()
    assert plain["base"] == text
    assert load_recipe(recipe_file(tmp_path, yaml.safe_dump(plain))).canonical() == (
        recipe.canonical()
    )


@pytest.mark.parametrize("text", ["org/name", "org/name@main"])
def test_a_folder_that_exists_wins_over_a_hub_id(tmp_path: Path, text: str) -> None:
    (tmp_path / text).mkdir(parents=True)
    assert load_recipe(recipe_file(tmp_path, changed(base=text))).base == tmp_path / text


@pytest.mark.parametrize(
    "text",
    ["./org/name", "../org/name", "/org/name", "~/org/name", "a/b/c", "name", "org/", "o@r/n"],
)
def test_what_cannot_be_a_hub_id_is_a_path(tmp_path: Path, text: str) -> None:
    assert isinstance(load_recipe(recipe_file(tmp_path, changed(base=text))).base, Path)


@pytest.mark.parametrize("value", [3, True, ["org/name"], ""])
def test_what_is_neither_a_path_nor_a_hub_id_is_refused(tmp_path: Path, value: object) -> None:
    message = refused(tmp_path, changed(base=value))
    assert "base" in message and "org/name" in message


def test_the_defaults_are_those_of_the_method(tmp_path: Path) -> None:
    text = "base: b\nlanguages: [{model: es}]\nabilities: [{model: a, pivot: p}]\n"
    recipe = load_recipe(recipe_file(tmp_path, text))
    (ability,) = recipe.abilities
    assert (ability.k1, ability.alpha, ability.beta) == (0.05, 0.8, 0.2)
    assert (ability.gamma, ability.k2) == (0.2, 0.8)
    assert recipe.languages[0].mu == 1.0
    assert recipe.model_dump(by_alias=True)["lambda"] == 1.0
    assert (recipe.similarity, recipe.granularity) == ("signed", "parameter")


def test_languages_or_abilities_may_be_left_out(tmp_path: Path) -> None:
    assert not load_recipe(recipe_file(tmp_path, changed(languages=None))).languages
    assert not load_recipe(recipe_file(tmp_path, changed(abilities=None))).abilities


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("languges", "languages"), ("bas", "base"), ("similarty", "similarity"), ("lamda", "lambda")],
)
def test_a_misspelt_key_is_named_with_the_nearest(tmp_path: Path, wrong: str, right: str) -> None:
    message = refused(tmp_path, FULL.replace(f"\n{right}:", f"\n{wrong}:"))
    assert wrong in message and f"'{right}'" in message


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("gama", "gamma"), ("alhpa", "alpha"), ("pivt", "pivot"), ("pakc", "pack"), ("modl", "model")],
)
def test_a_misspelt_key_of_an_entry_is_named_with_the_nearest(
    tmp_path: Path, wrong: str, right: str
) -> None:
    message = refused(tmp_path, FULL.replace(f"{right}:", f"{wrong}:", 1))
    assert wrong in message and f"'{right}'" in message
    assert "abilities[" in message or "languages[" in message


@pytest.mark.parametrize("k1", ["0", "-0.5", "1.01", "2", ".nan", ".inf", "many"])
def test_k1_outside_its_range_is_refused(tmp_path: Path, k1: str) -> None:
    message = refused(tmp_path, FULL.replace("k1: 0.1", f"k1: {k1}"))
    assert "k1" in message and "abilities[0]" in message


@pytest.mark.parametrize("k2", ["-0.1", "1.01", ".nan"])
def test_k2_outside_its_range_is_refused(tmp_path: Path, k2: str) -> None:
    message = refused(tmp_path, FULL.replace("k2: 0.6", f"k2: {k2}"))
    assert "k2" in message and "abilities[1]" in message


@pytest.mark.parametrize("number", ["gamma: 0.4", "alpha: 0.7", "beta: 0.3", "mu: 1.5"])
@pytest.mark.parametrize("value", [".nan", "-.inf"])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, number: str, value: str) -> None:
    key = number.split(":")[0]
    assert key in refused(tmp_path, FULL.replace(number, f"{key}: {value}"))


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"base": None}, "base"),
        ({"lambda_": "much"}, "lambda"),
        ({"lambda_": float("nan")}, "lambda"),
        ({"similarity": "cosine"}, "similarity"),
        ({"granularity": "rows"}, "granularity"),
        ({"dtype": "int8"}, "dtype"),
        ({"languages": {"model": "es"}}, "languages"),
        ({"languages": [{"mu": 1.0}]}, "languages[0]"),
        ({"abilities": [{"gamma": 1.0}]}, "abilities[0]"),
        ({"abilities": [{"model": "m", "pack": "p", "beta": 0}]}, "abilities[0]"),
        ({"abilities": [{"pack": "p", "k1": 0.1}]}, "k1"),
        ({"abilities": [{"pack": "p", "pivot": "q"}]}, "pivot"),
        ({"abilities": [{"model": "m", "beta": 0.2}]}, "pivot"),
        ({"abilities": [{"model": "m", "mask": "n", "k1": 0.1}]}, "k1"),
        ({"abilities": [{"pack": "p", "mask": "n"}]}, "mask"),
    ],
)
def test_what_a_key_may_not_be_is_refused_by_its_name(
    tmp_path: Path, keys: dict[str, object], named: str
) -> None:
    assert named in refused(tmp_path, changed(**keys))


def of_language(code: str) -> str:
    return f"base: b\nlanguages: [{{model: m, language: {code}}}]\n"


@pytest.mark.parametrize("code", ["es", "sw", "yue", "zh-Hant", "pt-BR", "es-419", "zh-Hant-HK"])
def test_a_language_may_have_its_code(tmp_path: Path, code: str) -> None:
    recipe = load_recipe(recipe_file(tmp_path, of_language(code)))
    assert recipe.languages[0].language == code
    plain = recipe.canonical().to_dict()
    assert plain["languages"][0]["language"] == code
    assert load_recipe(recipe_file(tmp_path, yaml.safe_dump(plain))) == recipe.canonical()


def test_a_language_without_its_code_has_none(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, FULL))
    assert recipe.languages[0].language is None
    assert "language" not in recipe.to_dict()["languages"][0]


@pytest.mark.parametrize(
    "code",
    ["jp", "xx", "ES", "spanish", "e", "es_MX", "es-mx", "''", "3", "[es]", "zh-hant", "'es '"],
)
def test_what_is_no_language_code_is_refused(tmp_path: Path, code: str) -> None:
    message = refused(tmp_path, of_language(code))
    found = repr(yaml.safe_load(code))
    assert f"languages[0].language: found {found}; " in message and "allowed: " in message


def test_norwegian_is_asked_for_in_quotes(tmp_path: Path) -> None:
    assert "'no'" in refused(tmp_path, of_language("no"))
    assert load_recipe(recipe_file(tmp_path, of_language("'no'"))).languages[0].language == "no"


def test_the_codes_of_two_letters_are_those_of_iso_639() -> None:
    known = {entry.alpha_2 for entry in pycountry.languages if hasattr(entry, "alpha_2")}
    assert known == ISO_639_1


@pytest.mark.parametrize("text", ["", "- base", "base: [", "just text", "base: {a: 1}\tb"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    refused(tmp_path, text)


def test_a_file_of_bytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(b"\xff\xfe\x00base")
    with pytest.raises(InputError, match=r"recipe\.yaml"):
        load_recipe(file)


def test_a_recipe_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml") as error:
        load_recipe(tmp_path / "nowhere.yaml")
    assert "\n" not in str(error.value)

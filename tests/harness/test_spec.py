"""A matrix file is checked before anything runs, and a mistake costs one line."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from harness.sources import TextSource
from harness.spec import load_matrix
from harness.text import identified
from harness.world import base_step, given
from maec.errors import InputError

GOOD = {
    "name": "tiny",
    "languages": ["es", "te"],
    "abilities": ["math"],
    "methods": ["base", {"name": "maec", "k1": 0.1}],
}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "matrix.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_matrix(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_good_file_is_read_as_it_stands(tmp_path: Path) -> None:
    matrix = load_matrix(write(tmp_path))
    assert matrix.columns == ["en", "es", "te"]
    assert [entry.label for entry in matrix.methods] == ["base", "maec"]
    assert matrix.methods[1].for_ability("math") == {"k1": 0.1}
    assert matrix.seeds == [0]


def test_parameters_of_one_ability_win_for_that_ability_only(tmp_path: Path) -> None:
    entry = {"name": "maec", "k1": 0.1, "abilities": {"math": {"gamma": 1.5}}}
    matrix = load_matrix(write(tmp_path, abilities=["math", "science"], methods=[entry]))
    assert matrix.methods[0].for_ability("math") == {"k1": 0.1, "gamma": 1.5}
    assert matrix.methods[0].for_ability("science") == {"k1": 0.1}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"languages": ["es", "tee"]}, ["languages[1]", "'tee'", "did you mean 'te'?"]),
        ({"methods": ["bsae"]}, ["methods[0]", "'bsae'", "did you mean 'base'?"]),
        ({"abilities": ["maths"]}, ["abilities[0]", "'maths'", "did you mean 'math'?"]),
        ({"langauges": ["es"]}, ["unknown key 'langauges'", "did you mean 'languages'?"]),
        ({"engine": {"knd": "vllm"}}, ["unknown key 'engine.knd'", "did you mean 'kind'?"]),
        ({"engine": {"kind": "tgi"}}, ["engine.kind", "'vllm' or 'transformers'", "'tgi'"]),
        (
            {"training": {"abilty": {"steps": 1, "learning_rate": 0.1}}},
            ["unknown role 'abilty'", "did you mean 'ability'?"],
        ),
        (
            {"training": {"ability": {"stps": 1}}},
            ["training.ability"],
        ),
        ({"training": {"ability": {"steps": 0, "learning_rate": 0.1}}}, ["training.ability.steps"]),
        ({"methods": [{"name": "maec", "k1": 0}]}, ["methods[0]", "k1", "greater than 0", "0"]),
        ({"methods": [{"name": "maec", "k1": 1.5}]}, ["k1", "less than or equal to 1", "1.5"]),
        ({"methods": [{"name": "maec", "gama": 1}]}, ["'gama'", "did you mean 'gamma'?"]),
        ({"methods": ["base", "base"]}, ["methods", "'base' stands there twice", "label"]),
        ({"languages": ["es", "es"]}, ["languages", "twice"]),
        ({"languages": ["en"]}, ["languages", "'en' is the pivot"]),
        ({"languages": []}, ["languages", "at least 1 item"]),
        ({"seeds": ["one"]}, ["seeds[0]", "integer", "'one'"]),
        ({"name": "Has Spaces"}, ["name", "'Has Spaces'"]),
        ({"split": "train"}, ["split", "'test' or 'dev'", "'train'"]),
        # a part of file names
        ({"abilities": ["../../x"]}, ["abilities[0]", "'../../x'"]),
        (
            {"engine": {"trust_remote_code": "org/model"}},
            ["engine.trust_remote_code: found 'org/model'; must be a list of models"],
        ),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_is_allowed(
    tmp_path: Path, changes: dict, expected: list[str]
) -> None:
    message = refusal(write(tmp_path, **changes))
    for part in expected:
        assert part in message


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert "there is no such matrix file" in refusal(tmp_path / "matrix.yaml")


def test_a_misspelt_file_name_gets_the_nearest_one(tmp_path: Path) -> None:
    assert "did you mean 'micro.yaml'?" in refusal(tmp_path / "mircro.yaml")


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "\x00", ""])
def test_what_is_no_yaml_mapping_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(text, encoding="utf-8")
    refusal(path)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"base": "~nobody-has-this-name/base"}, "base: '~nobody"),
        ({"base": "x" * 5_000}, "base: 'xxx"),
        ({"checkpoints": {"languages": {"es": "~nobody-has-this-name/es"}}}, "languages.es: "),
    ],
)
def test_what_no_path_can_be_is_refused_when_it_is_looked_for(
    tmp_path: Path, keys: dict, said: str
) -> None:
    matrix = load_matrix(write(tmp_path, **keys))
    with pytest.raises(InputError, match=said) as caught:
        given(matrix, base_step(matrix))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "files", ["~nobody-has-this-name/a.txt", "**x/a.txt", "x" * 5_000 + ".txt"]
)
def test_files_that_no_path_can_be_are_refused(tmp_path: Path, files: str) -> None:
    with pytest.raises(InputError, match=r"no path and no pattern|no such file"):
        identified(TextSource(files=files), tmp_path)


@pytest.mark.parametrize("text", ["{a:>9999999999}", "{a!r}", "{a.b}", "{a[0]}", "{a:{b}}", "{}"])
def test_a_template_of_text_names_fields_and_no_more(text: str) -> None:
    with pytest.raises(ValidationError, match="template"):
        TextSource(files="a.txt", text=text)


def test_the_matrices_that_come_with_the_project_are_good() -> None:
    files = sorted(Path(__file__).parents[2].glob("harness/matrices/*.yaml"))
    assert {"micro.yaml", "nano.yaml", "mgsm-local.yaml"} <= {file.name for file in files}
    for file in files:
        assert load_matrix(file).name == file.stem

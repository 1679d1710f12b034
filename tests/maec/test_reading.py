"""YAML and JSON of strangers: read as data within limits, or refused in one line."""

import subprocess
import time
from pathlib import Path

import pytest

from maec.errors import InputError
from maec.reading import JSON_BYTES, YAML_BYTES, parse_json, parse_yaml, read_json, read_yaml
from tests.conftest import CHECKOUT

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


def refusal(text: str) -> str:
    began = time.process_time()
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "some.yaml")
    assert time.process_time() - began < 5
    message = str(caught.value)
    assert message.startswith("some.yaml: this is not YAML: ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "line 5: more than 100,000 values, aliases written out"),
        (f"[{'1,' * 200_000}]", "more than 100,000 values"),
        ("a: &a [*a]", "*a is no whole value before this one"),
        ("a: &a 1\nb: &a [*a]", "*a is no whole value"),
        ("a: *b", "*b is no whole value"),
        ("[" * 400_000, "values lie more than 64 deep"),
        ("- " * 400_000, "values lie more than 64 deep"),
        ("a: 1\nb: 2\n'a': 3", "line 3: the key 'a' stands there twice"),
        ("x: [{y: 1, z: {y: 2}, y: 3}]", "the key 'y' stands there twice"),
        ("a: !!python/object/apply:os.system ['true']", "line 1: the tag tag:yaml.org,2002:python"),
        ("a: !function os.system", "the tag !function"),
        ("a: !!binary aGk=", "the tag tag:yaml.org,2002:binary"),
        ('a: "\\0"', "a NUL character"),
        ("a: 1" + ":59" * 100_000, "a number of more than 100 digits"),
        ("a: 0x" + "f" * 900_000, "a number of more than 100 digits"),
        ("a: 2020-13-45", "month must be in 1..12"),
        ("? [a]\n: b", "unhashable key"),
        ("a: b\n---\nc: d", "another document"),
        ("a: [1", "line 2: "),
        ("\x1b[2J: 1", "not allowed"),
    ],
)
def test_yaml_that_is_no_data_of_a_reasonable_size_is_refused(text: str, said: str) -> None:
    assert said in refusal(text)


def test_what_people_write_is_read() -> None:
    text = """
        common: &common {k1: 0.05, steps: [1, 2]}
        one: {<<: *common, k1: 0.1}
        two: [*common, {name: one}, {name: one}]
        three: ! plain
    """
    common = {"k1": 0.05, "steps": [1, 2]}
    assert parse_yaml(text, "") == {
        "common": common,
        "one": {"k1": 0.1, "steps": [1, 2]},
        "two": [common, {"name": "one"}, {"name": "one"}],
        "three": "plain",
    }


def test_json_that_others_would_read_otherwise_or_not_at_all_is_refused() -> None:
    for text, said in (
        ('{"a": {"b": 1, "b": 2}}', "'b' stands there twice"),
        ("[" * 100_000, "deep in one another"),
        ('{"a": ' + "[" * 65 + "]" * 65 + "}", "deep in one another"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"a": ' + "1" * 5_000 + "}", "4300 digits"),
        ("1", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{", "not valid JSON"),
    ):
        with pytest.raises(InputError) as caught:
            parse_json(text, "some.json", unique=True)
        assert said in str(caught.value) and "\n" not in str(caught.value)
    assert parse_json('{"a": {"b": 1, "b": 2}, "c": "\\ud83d\\ude00"}', "") == {
        "a": {"b": 2},
        "c": "😀",
    }


@pytest.mark.parametrize(("read", "limit"), [(read_yaml, YAML_BYTES), (read_json, JSON_BYTES)])
def test_a_file_is_read_no_further_than_its_limit(tmp_path: Path, read, limit: int) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(limit + 1)
    with pytest.raises(InputError, match=f"larger than {limit:,} bytes"):
        read(path)
    with pytest.raises(InputError, match="larger than"):
        read(Path("/dev/zero"))
    path.write_bytes(b"a: \xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read(path)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_all_yaml_is_read_there() -> None:
    """But for lm-eval's own files, in which ``!function`` is read as a name."""
    done = subprocess.run(
        ["git", "grep", "-lE", r"yaml\.(safe_load|full_load|unsafe_load|load|load_all)\b",
         "--", "maec", "harness", "leaderboard"],
        cwd=CHECKOUT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["harness/tasks/builtin.py", "maec/reading.py"]

"""Languages: one YAML file each, found by its name. Adding a language is adding a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from maec.errors import InputError, nearest
from maec.reading import parse_yaml, read_text

FOLDER = Path(__file__).parent

RESOURCES = ("pivot", "high", "low")

_HEAD = ("name", "native_name", "script", "resource")


@dataclass(frozen=True)
class Language:
    """What the harness knows of a language; ``resource`` is pivot, high or low."""

    code: str
    name: str
    native_name: str
    script: str
    resource: str


def available() -> list[str]:
    """Codes of all languages that have a file, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def path_of(code: str) -> Path:
    """Where the file of a language is, or would be."""
    return FOLDER / f"{code}.yaml"


def get(code: str) -> Language:
    """The language with that code.

    Raises:
        InputError: there is no such file, or it is not what a language file has to be.
    """
    return _file(_known(code))[0]


def lexicon(code: str) -> Mapping[str, Any] | None:
    """What its file says under ``lexicon``, unchecked (:mod:`harness.embedded.lexicon` checks it).

    None where it says nothing: the embedded world cannot use such a language, all else can.

    Raises:
        InputError: as :func:`get`.
    """
    return _file(_known(code))[1]


def parse(path: Path, text: str) -> tuple[Language, Mapping[str, Any] | None]:
    """A language and its lexicon from the text of its file; ``path`` says whose it is.

    Raises:
        InputError: this is no YAML; a key is missing or unknown, or its value is not allowed.
    """
    raw = parse_yaml(text, path)
    if not isinstance(raw, dict):
        raise InputError(f"{path}: must be a mapping with {', '.join(_HEAD)} (see en.yaml)")
    for key in _HEAD:
        if key not in raw:
            raise InputError(f"{path}: '{key}' is missing; give it (see en.yaml)")
        if not isinstance(raw[key], str):
            raise InputError(f"{path}: {key}: {raw[key]!r}; must be text")
    if raw["resource"] not in RESOURCES:
        allowed = ", ".join(RESOURCES)
        raise InputError(f"{path}: resource: '{raw['resource']}'; allowed are {allowed}")
    known = (*_HEAD, "lexicon")
    for key in raw:
        if key not in known:
            raise InputError(
                f"{path}: unknown key '{key}'{nearest(key, known)} (allowed: {', '.join(known)})"
            )
    if not isinstance(raw.get("lexicon", {}), dict | None):
        raise InputError(f"{path}: lexicon: {raw['lexicon']!r}; must be a mapping (see es.yaml)")
    return Language(path.stem, *(raw[key] for key in _HEAD)), raw.get("lexicon")


def _known(code: str) -> Path:
    if code not in available():
        raise InputError(
            f"unknown language '{code}'{nearest(code, available())} (known: "
            f"{', '.join(available())}; `harness add-language {code}` writes the file of a new one)"
        )
    return path_of(code)


@cache
def _file(path: Path) -> tuple[Language, Mapping[str, Any] | None]:
    return parse(path, read_text(path))

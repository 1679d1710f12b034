"""Languages: one YAML file each, found by its name. Adding a language is adding a file."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from maec.errors import InputError, nearest

FOLDER = Path(__file__).parent


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


@cache
def get(code: str) -> Language:
    """The language with that code.

    Raises:
        InputError: there is no such file.
    """
    path = FOLDER / f"{code}.yaml"
    if code not in available():
        raise InputError(
            f"unknown language '{code}'{nearest(code, available())} "
            f"(known: {', '.join(available())}; a new one is a file in harness/languages/)"
        )
    # only the head of the file is needed here: the lexicon is the embedded world's
    entry = yaml.safe_load(path.read_text(encoding="utf-8").split("\nlexicon:")[0])
    return Language(
        code=code,
        name=entry["name"],
        native_name=entry["native_name"],
        script=entry["script"],
        resource=entry["resource"],
    )

"""Numbers that others reported: ``results/reported/*.yaml``, a file a source.

They were measured with other prompts, filters and models, by somebody else: they are shown beside
what was measured here, and never compete with it. A number that nobody checked in its source has
no place in these files; ``checked`` says how that was done.
"""

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field, ValidationError

from harness.home import results
from maec.errors import InputError
from maec.reading import read_yaml
from maec.strict import Strict, first_mistake

COLUMNS = [
    *("system", "setting", "ability", "task", "metric", "language", "value", "n"),
    *("title", "authors", "year", "url", "where", "checked", "file"),
]

Text = Annotated[str, Field(min_length=1)]
Code = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
"""A language, as BCP 47 has it."""


class Source(Strict):
    """The publication, and where it is read."""

    title: Text
    authors: Text
    year: int = Field(ge=1950, le=2100)
    url: str = Field(pattern=r"^https://\S+$")


class Row(Strict):
    """What one system scored in one prompt setting, in percent by language.

    ``where`` is the table or the page of the source.
    """

    system: Text
    setting: Text
    where: Text
    values: dict[Code, Annotated[float, Field(ge=0, le=100)]] = Field(min_length=1)


class Reported(Strict):
    """A file: numbers of one source on one task; ``n`` items a language, where the source says."""

    source: Source
    checked: Text
    ability: Text
    task: Text
    metric: Text
    n: int | None = Field(None, ge=1)
    numbers: list[Row] = Field(min_length=1)


def load(folder: Path | None = None) -> pd.DataFrame:
    """All reported numbers, one row each, in the files' order; values in percent.

    ``folder`` is ``reported`` in the folder of released sets by default. Columns: COLUMNS.

    Raises:
        InputError: a file is no YAML or says something else, or a number stands there twice.
    """
    folder = folder or results() / "reported"
    rows = [row for path in sorted(folder.glob("*.yaml")) for row in _rows(path)]
    found = pd.DataFrame(rows, columns=COLUMNS)
    key = ["system", "setting", "task", "language"]
    if (twice := found.duplicated(key)).any():
        again = found[twice].iloc[0]
        place = ", ".join(again[key])
        raise InputError(f"{folder / again['file']}: numbers: {place} stands there twice")
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    read = _read(path)
    shared = {
        **read.source.model_dump(),
        **{name: getattr(read, name) for name in ("checked", "ability", "task", "metric", "n")},
        "file": path.name,
    }
    return [
        {
            **shared,
            **row.model_dump(include={"system", "setting", "where"}),
            "language": language,
            "value": value,
        }
        for row in read.numbers
        for language, value in row.values.items()
    ]


def _read(path: Path) -> Reported:
    try:
        return Reported.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {first_mistake(error, Reported)}") from None

"""A training run as a file: what ``maec train`` reads, and what each of its processes does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationInfo, field_validator

from maec.errors import InputError
from maec.recipe import Folder
from maec.settings import TrainSettings
from maec.strict import Strict, load

if TYPE_CHECKING:
    from maec.train import TrainReport

FORMATS = (".txt", ".jsonl")


class Training(Strict):
    """``start`` trained on the files ``text``; on key neurons alone, where there is a ``mask``.

    A ``.txt`` is one document, a ``.jsonl`` has a document a line, under the key ``text``.
    """

    start: Folder
    text: list[Path] = Field(min_length=1)
    settings: TrainSettings
    mask: Folder | None = None

    @field_validator("text")
    @classmethod
    def _files(cls, given: list[Path], info: ValidationInfo) -> list[Path]:
        folder = (info.context or {}).get("folder", Path())
        for file in (found := [folder / path for path in given]):
            if file.suffix not in FORMATS:
                raise ValueError(f"{file.name} is none of {', '.join(FORMATS)}")
            if not file.is_file():
                raise ValueError(f"there is no file {file}")
        return found


def load_training(path: Path) -> Training:
    """Read the file of a training run; relative paths in it count from the folder it lies in.

    Raises:
        InputError: no such file, no YAML, an unknown key, a value that is not allowed.
    """
    return load(path, Training, "a training; write keys such as 'start:' and 'text:'")


def run(
    training: Training, out: Path, report: Callable[[int, int, float], None] | None
) -> TrainReport:
    """Train, together with the other processes where there are any.

    Raises:
        InputError: as :func:`maec.train.train`, and for text that cannot be read.
    """
    from maec.hub import local_folder
    from maec.neurons import open_mask
    from maec.train import train

    return train(
        local_folder(training.start),
        _documents(training.text),
        out,
        training.settings,
        mask=open_mask(local_folder(training.mask)) if training.mask else None,
        progress=report,
    )


def _documents(files: list[Path]) -> Iterator[str]:
    for file in files:
        if file.suffix == ".txt":
            yield file.read_text(encoding="utf-8")
            continue
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield json.loads(line)["text"]
                except (ValueError, KeyError, TypeError):
                    raise InputError(
                        f"{file}: line {number}: no JSON object with the key 'text'"
                    ) from None

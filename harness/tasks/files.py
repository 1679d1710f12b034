"""Questions in local files, as documents of the data set that they stand for."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maec.errors import InputError

SUFFIXES = (".tsv", ".json", ".jsonl", ".csv", ".parquet")

Doc = dict[str, Any]


def read(path: Path) -> list[Doc]:
    """The documents in a file, one for each line or row.

    Raises:
        InputError: the file is of another kind than ``SUFFIXES``, empty or malformed.
    """
    readers = {".tsv": _tsv, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: files of questions end in {', '.join(SUFFIXES)}")
    try:
        docs = list(readers.get(path.suffix, _json_lines)(path))
    except UnicodeDecodeError:
        raise InputError(f"{path}: this is not UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: this is no table: {error}") from None
    if not docs:
        raise InputError(f"{path}: there is no question in it")
    return docs


def as_mgsm(path: Path, docs: list[Doc]) -> list[Doc]:
    """``docs`` with the fields of the ``mgsm`` data set.

    The question is in ``question``, or ``m_query`` as in MSVAMP; the number in ``answer_number``,
    or MSVAMP's ``response``; a worked answer in ``answer``, if there is one.

    Raises:
        InputError: a field is missing, or an answer is no number.
    """
    found = [_as_mgsm(path, line, doc) for line, doc in enumerate(docs, start=1)]
    if not all(isinstance(doc["answer_number"], int) for doc in found):
        # a column has one type: as numbers, all of them would be written 8.0
        found = [{**doc, "answer_number": str(doc["answer_number"])} for doc in found]
    return found


def _as_mgsm(path: Path, line: int, doc: Doc) -> Doc:
    question, number = (
        next((doc[name] for name in names if name in doc), None)
        for names in (("question", "m_query"), ("answer_number", "response"))
    )
    if question is None or number is None:
        raise InputError(
            f"{path}: line {line} has no question and answer_number, nor m_query and response, "
            f"but {', '.join(map(str, doc)) or 'nothing'}"
        )
    try:
        value = float(str(number).replace(",", ""))
        if not math.isfinite(value):
            raise ValueError
    except ValueError:
        raise InputError(f"{path}: line {line}: the answer {number!r} is not a number") from None
    return {
        "question": question,
        "answer": doc.get("answer"),
        "answer_number": int(value) if value.is_integer() else value,
    }


def _tsv(path: Path) -> Iterator[Doc]:
    """MGSM's files: question TAB number, quotes are literal, no header."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        for line, row in enumerate(rows, start=1):
            if len(row) != 2:
                raise InputError(
                    f"{path}: line {line} has {len(row)} columns; two are expected, question TAB "
                    "number"
                )
            yield {"question": row[0], "answer_number": row[1]}


def _json_lines(path: Path) -> Iterator[Doc]:
    # not splitlines(): a text may hold other ends of lines than the file's own
    for line, text in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            doc = json.loads(text)
        except (ValueError, RecursionError):
            doc = None
        if not isinstance(doc, dict):
            raise InputError(f"{path}: line {line} is no JSON object")
        yield doc


def _csv(path: Path) -> Iterator[Doc]:
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=1):
            if None in row or None in row.values():
                raise InputError(f"{path}: row {line} has not as many fields as the header")
            yield {name: value or None for name, value in row.items()}


def _parquet(path: Path) -> Iterator[Doc]:
    from pyarrow import ArrowException, parquet

    try:
        return iter(parquet.read_table(path).to_pylist())
    except (ArrowException, OSError) as error:
        raise InputError(f"{path}: this is not Parquet: {' '.join(str(error).split())}") from None

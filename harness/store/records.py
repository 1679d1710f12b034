"""Records: what the store holds of a run, a cell, a sweep, in a file of its own each.

A record lies safely on the disk before the transaction commits that it is part of: what is
committed has one, and a lost store is rebuilt from them. What has one may be missing in the store,
where a run was killed between the two.

A record is gzipped JSON, ``records/KIND/NAME.json.gz``: an object with rows by table. gzip's own
checksum tells a damaged one.
"""

import gzip
import json
import secrets
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

from harness.home import home
from harness.store.read import dicts
from harness.store.schema import unwritable
from maec.errors import Damaged, InputError
from maec.folder import write_synced

KINDS = {
    "questions": {"questions": "split"},
    "runs": {"runs": "run_id"},
    "sweeps": {"sweeps": "key", "sweep_questions": "sweep", "trials": "sweep"},
    "cells": {"cells": "key", "items": "cell"},
}
"""The kinds, in an order in which a store can take them: tables, and what a row's record is named
after in each of them."""

Rows = dict[str, list[dict[str, Any]]]
"""Rows by table; values are JSON values."""

FOLDER = "records"
_SUFFIX = ".json.gz"


def keep(connection: duckdb.DuckDBPyConnection, kind: str, name: str) -> None:
    """Write the record of that kind and name as ``connection`` sees its rows, in place of an older.

    Raises:
        InputError: it cannot be written; the transaction must not commit.
    """
    rows = {
        table: dicts(
            connection.execute(f"SELECT * FROM {table} WHERE {column} = ? ORDER BY ALL", [name])
        )
        for table, column in KINDS[kind].items()
    }
    text = json.dumps(rows, ensure_ascii=False, default=str)  # times as DuckDB writes them
    # level 1 packs nearly as well as 9; without a time in it, the same rows are the same file
    path = path_of(kind, name)
    try:
        write_synced(path, gzip.compress(text.encode(), compresslevel=1, mtime=0))
    except OSError as error:
        raise InputError(unwritable(path, error.strerror)) from None


def read(path: Path) -> Rows:
    """The rows in a record, by table.

    Raises:
        Damaged: it is not what was written.
    """
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise Damaged(f"{path}: this record is damaged ({error}); write it again") from None


def path_of(kind: str, name: str) -> Path:
    """Where the record of that kind and name is, or would be."""
    return home() / FOLDER / kind / f"{name}{_SUFFIX}"


def names(kind: str) -> set[str]:
    """The names of all records of a kind."""
    found = (home() / FOLDER / kind).glob(f"*{_SUFFIX}")
    return {path.name.removesuffix(_SUFFIX) for path in found}


def sizes(record: Rows) -> dict[str, int]:
    """How many rows of each table a record has."""
    return {table: len(rows) for table, rows in record.items()}


def renew(connection: duckdb.DuckDBPyConnection) -> None:
    """Write the records that are missing, damaged or have other rows than the store.

    What they replace is set aside.
    """
    for kind in KINDS:
        stored = counts(connection, kind)
        for name in sorted(names(kind) | stored.keys()):
            path = path_of(kind, name)
            if path.is_file():
                with suppress(Damaged):
                    if sizes(read(path)) == stored.get(name):
                        continue
                path.rename(path.with_name(f".damaged-{path.name}-{secrets.token_hex(4)}"))
            if name in stored:
                keep(connection, kind, name)


def counts(connection: duckdb.DuckDBPyConnection, kind: str) -> dict[str, dict[str, int]]:
    """By name, how many rows of each table a record would have now."""
    (first, column), *_ = KINDS[kind].items()
    found = {
        name: dict.fromkeys(KINDS[kind], 0)
        for (name,) in connection.execute(f"SELECT DISTINCT {column} FROM {first}").fetchall()
    }
    for table, column in KINDS[kind].items():
        counted = f"SELECT {column}, count(*) FROM {table} GROUP BY {column}"
        for name, rows in connection.execute(counted).fetchall():
            if name in found:
                found[name][table] = rows
    return found

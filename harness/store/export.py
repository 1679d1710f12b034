"""Writing a released set: the rows of some matrices, without a trace of where they were made."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb

from harness import machine
from harness.execute import versions
from harness.home import CHECKOUT, home, results
from harness.store.read import reader
from harness.store.release import MANIFEST, TABLES, File, Manifest, require_name
from harness.store.schema import MIGRATIONS, quote
from maec.errors import InputError, nearest
from maec.folder import new_folder, require_new

LICENCE = "Apache-2.0"
"""Of the embedded world, which is a part of this project."""

PART = 40_000_000
"""About as many bytes has a file at most: git hosts complain above 50 MB."""

_PATHS = ("path", "model_path", "task_path")

_WHICH = {
    "placements": ("matrix IN (SELECT unnest($matrices))", "matrix, row"),
    "cells": ("key IN (SELECT cell FROM shown)", "key"),
    "items": ("cell IN (SELECT cell FROM shown)", "cell, item"),
    # as harness.store.runs: those of the matrices, and those that scored one of their cells
    "runs": (
        "matrix IN (SELECT unnest($matrices)) OR run_id IN "
        "(SELECT run_id FROM cells WHERE key IN (SELECT cell FROM shown))",
        "started, run_id",
    ),
    "artifacts": ("key IN (SELECT unnest($artifacts))", "key"),
    "sweeps": ("matrix IN (SELECT unnest($matrices))", "created, key"),
    "trials": (
        "sweep IN (SELECT key FROM sweeps WHERE matrix IN (SELECT unnest($matrices)))",
        "sweep, number",
    ),
}
"""Which rows of a table belong to the matrices, and their order: the same rows, the same bytes."""


def export(
    release: str,
    matrices: Sequence[str] = (),
    *,
    licence: str | None = None,
    authors: Sequence[str] = (),
    out: Path | None = None,
) -> Path:
    """Write the rows of ``matrices``, by default of all that have scores, as a set; returns where.

    The folder ``out``, by default ``results/RELEASE`` in the checkout, appears whole or not at all.
    Paths in it are relative to MAEC_HOME or to the checkout; of one that leads elsewhere only the
    name is left. ``licence`` is an SPDX identifier; the embedded world has the project's own.
    ``authors`` are whom a citation of the set names.

    Raises:
        InputError: ``release`` is no name for a folder, nothing was scored, a matrix is unknown or
            without a score, base or questions of one are not the project's and ``licence`` is not
            given, or ``out`` exists.
    """
    require_name("RELEASE", release)
    path = out or results() / release
    require_new(path)
    made_by = machine.commit()  # before there is a new folder, which would count as a change
    with reader() as connection:
        if connection is None:
            raise InputError(f"{home()}: nothing was run here yet; `make matrix` starts")
        names = chosen(_scored(connection), matrices, home())
        licence = licence or _licence(connection, names)
        for called, function in (("portable", portable), ("portable_json", _portable_json)):
            connection.create_function(called, function, ["VARCHAR"], "VARCHAR")
        with new_folder(path) as folder:
            files = _write_tables(connection, names, folder)
            manifest = _manifest(connection, release, names, licence, files, made_by)
            manifest = manifest.model_copy(update={"authors": list(authors)})
            text = json.dumps(manifest.model_dump(), indent=1, ensure_ascii=False)
            (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return path


def portable(text: str) -> str:
    """A path as it reads anywhere: relative to MAEC_HOME or the checkout, else its name alone."""
    if not text.startswith(("/", "~")):
        return text
    for root in (home(), CHECKOUT):
        if Path(text).is_relative_to(root):
            return Path(text).relative_to(root).as_posix()
    return Path(text).name


def _portable_json(text: str) -> str:
    return json.dumps(without_paths(json.loads(text)), ensure_ascii=False)


def without_paths(value: Any) -> Any:
    """A JSON value whose strings, keys too, are :func:`portable`."""
    if isinstance(value, str):
        return portable(value)
    if isinstance(value, list):
        return [without_paths(part) for part in value]
    if isinstance(value, dict):
        return {portable(key): without_paths(part) for key, part in value.items()}
    return value


def _scored(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute(
        "SELECT matrix FROM placements GROUP BY matrix HAVING count(cell) > 0 ORDER BY matrix"
    )
    return [row[0] for row in rows.fetchall()]


def chosen(scored: Sequence[str], wanted: Sequence[str], where: Path) -> list[str]:
    """The matrices ``wanted`` of those ``scored`` in ``where``, in order; all where none is.

    Raises:
        InputError: one of them is not there, or nothing is.
    """
    if not scored:
        raise InputError(f"{where}: no matrix has a score yet; `make matrix` makes some")
    for name in wanted:
        if name not in scored:
            raise InputError(
                f"--matrix: no matrix '{name}' has scores in {where}{nearest(name, scored)} "
                f"(there are: {', '.join(scored)})"
            )
    return sorted(set(wanted) or scored)


def _licence(connection: duckdb.DuckDBPyConnection, matrices: Sequence[str]) -> str:
    """The project's own, where all questions and models are."""
    rows = connection.execute(
        """
        SELECT matrix FROM runs WHERE matrix IN (SELECT unnest(?)) GROUP BY matrix
        HAVING bool_or(coalesce(json_type(matrix_file, '$.base') = 'VARCHAR'
                                AND matrix_file ->> '$.base' <> 'embedded', false)
                       OR coalesce(json_keys(matrix_file, '$.tasks') <> [], false))
        ORDER BY matrix
        """,
        [list(matrices)],
    )
    if foreign := rows.fetchone():
        raise InputError(
            f"--licence: the base or the questions of matrix '{foreign[0]}' are not this "
            "project's; say under which licence its set is released, such as CC-BY-SA-4.0"
        )
    return LICENCE


def _write_tables(
    connection: duckdb.DuckDBPyConnection, matrices: Sequence[str], folder: Path
) -> dict[str, File]:
    connection.execute(
        "CREATE TEMP TABLE shown AS SELECT DISTINCT cell FROM placements "
        "WHERE matrix IN (SELECT unnest(?)) AND cell IS NOT NULL",
        [list(matrices)],
    )
    given = {"matrices": list(matrices), "artifacts": _needed(connection, matrices)}
    files = {}
    for table in TABLES:
        where, order = _WHICH[table]
        named = {name: value for name, value in given.items() if f"${name}" in where}
        target = folder / f"{table}.parquet"
        (rows,) = connection.execute(
            f"COPY (SELECT {_columns(connection, table)} FROM {table} WHERE {where} "
            f"ORDER BY {order}) TO '{quote(target)}' (FORMAT parquet, COMPRESSION zstd)",
            named,
        ).fetchone()
        for part, count in _parts(connection, target, rows):
            content = part.read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            files[part.name] = File(sha256=sha256, rows=count, bytes=len(content))
    return files


def _parts(connection: duckdb.DuckDBPyConnection, whole: Path, rows: int) -> list[tuple[Path, int]]:
    """A table's files with their rows: the one there is or, where it is large, parts in order."""
    count = min(max(1, -(-whole.stat().st_size // PART)), max(1, rows))
    if count == 1:
        return [(whole, rows)]
    edges = [rows * number // count for number in range(count + 1)]
    found = []
    for number, (first, end) in enumerate(pairwise(edges), start=1):
        part = whole.with_stem(f"{whole.stem}-{number}")
        connection.execute(
            f"COPY (SELECT * EXCLUDE file_row_number "
            f"FROM read_parquet('{quote(whole)}', file_row_number = true) "
            f"WHERE file_row_number >= $first AND file_row_number < $end "
            f"ORDER BY file_row_number) TO '{quote(part)}' (FORMAT parquet, COMPRESSION zstd)",
            {"first": first, "end": end},
        )
        found.append((part, end - first))
    whole.unlink()
    return found


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """A table's columns, those that may hold paths through what takes them out."""
    if table == "items":
        return "*"  # prompts and outputs stay as they are
    found = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? "
        "ORDER BY column_index",
        [table],
    ).fetchall()
    return ", ".join(_column(name, kind) for name, kind in found)


def _column(name: str, kind: str) -> str:
    if kind == "JSON":
        return f'portable_json("{name}")::JSON AS "{name}"'
    return f'portable("{name}") AS "{name}"' if name in _PATHS else f'"{name}"'


def _needed(connection: duckdb.DuckDBPyConnection, matrices: Sequence[str]) -> list[str]:
    """Keys of the models of ``matrices`` and of all that went into them."""
    rows = connection.execute("SELECT key, manifest -> '$.inputs' FROM artifacts").fetchall()
    inputs = {key: list(json.loads(parts or "{}").values()) for key, parts in rows}
    found = connection.execute(
        "SELECT DISTINCT model_key FROM placements WHERE matrix IN (SELECT unnest(?))",
        [list(matrices)],
    )
    left = [row[0] for row in found.fetchall()]
    needed: set[str] = set()
    while left:
        key = left.pop()
        if key not in needed:
            needed.add(key)
            left += inputs.get(key, [])
    return sorted(needed)


def _manifest(
    connection: duckdb.DuckDBPyConnection,
    release: str,
    matrices: Sequence[str],
    licence: str,
    files: Mapping[str, File],
    made_by: tuple[str | None, bool | None],
) -> Manifest:
    commit, dirty = made_by
    counts = connection.execute(
        "SELECT matrix, count(*), count(cell) FROM placements "
        "WHERE matrix IN (SELECT unnest(?)) GROUP BY matrix ORDER BY matrix",
        [list(matrices)],
    ).fetchall()
    runs = connection.execute(
        f"SELECT run_id, matrix, commit, dirty, versions FROM runs WHERE {_WHICH['runs'][0]} "
        "ORDER BY started, run_id",
        {"matrices": list(matrices)},
    ).fetchall()
    models = connection.execute(
        "SELECT DISTINCT model_key, fingerprint FROM cells "
        "WHERE key IN (SELECT cell FROM shown) ORDER BY ALL"
    ).fetchall()
    tasks = connection.execute(
        "SELECT DISTINCT task, task_version, task_data FROM cells "
        "WHERE key IN (SELECT cell FROM shown) ORDER BY ALL"
    ).fetchall()
    return Manifest(
        release=release,
        schema_version=len(MIGRATIONS),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        licence=licence,
        commit=commit,
        dirty=dirty,
        versions=versions(),
        matrices={name: {"rows": rows, "scored": scored} for name, rows, scored in counts},
        runs={
            run: {"matrix": matrix, "commit": at, "dirty": changed, "versions": json.loads(used)}
            for run, matrix, at, changed, used in runs
        },
        fingerprints=dict(models),
        tasks={name: {"version": version, "data": data} for name, version, data in tasks},
        files=dict(files),
    )

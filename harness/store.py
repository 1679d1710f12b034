"""The store: one DuckDB file that holds every score, every item, every artifact and every run.

A score exists when its transaction committed. One process writes; everybody else reads a snapshot,
a complete copy that is replaced atomically, so that a reader never blocks a run and never sees
half a cell.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from harness.home import snapshot_path, store_path
from maec.errors import InputError

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY, matrix VARCHAR NOT NULL, matrix_file JSON NOT NULL,
    started TIMESTAMPTZ NOT NULL, finished TIMESTAMPTZ, status VARCHAR NOT NULL,
    commit VARCHAR, dirty BOOLEAN, versions JSON NOT NULL, hardware JSON NOT NULL,
    engine JSON);
CREATE TABLE artifacts (
    key VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, label VARCHAR, fingerprint VARCHAR,
    path VARCHAR NOT NULL, manifest JSON NOT NULL, created TIMESTAMPTZ NOT NULL);
CREATE TABLE cells (
    key VARCHAR PRIMARY KEY, model_key VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL,
    task VARCHAR NOT NULL, task_version VARCHAR NOT NULL, task_data VARCHAR NOT NULL,
    task_path VARCHAR NOT NULL, metric VARCHAR NOT NULL, filter VARCHAR NOT NULL,
    score DOUBLE NOT NULL, stderr DOUBLE, n INTEGER NOT NULL, metrics JSON NOT NULL,
    engine JSON NOT NULL, seconds DOUBLE NOT NULL, run_id VARCHAR NOT NULL,
    created TIMESTAMPTZ NOT NULL);
CREATE TABLE items (
    cell VARCHAR NOT NULL, item INTEGER NOT NULL, id VARCHAR NOT NULL, words VARCHAR,
    prompt VARCHAR NOT NULL, output VARCHAR, extracted VARCHAR, gold VARCHAR NOT NULL,
    correct BOOLEAN NOT NULL, choices VARCHAR[], loglikelihoods DOUBLE[], filtered JSON,
    PRIMARY KEY (cell, item));
CREATE TABLE placements (
    matrix VARCHAR NOT NULL, row INTEGER NOT NULL, method VARCHAR NOT NULL,
    title VARCHAR NOT NULL, family VARCHAR NOT NULL, ability VARCHAR NOT NULL,
    language VARCHAR NOT NULL, seed INTEGER NOT NULL, model_key VARCHAR NOT NULL,
    model_path VARCHAR NOT NULL, cell VARCHAR, PRIMARY KEY (matrix, row));
"""

_BY_WORDS = """
    SELECT cell, avg(correct::INT) FILTER (words = 'known') AS known,
           avg(correct::INT) FILTER (words = 'new') AS new
    FROM items GROUP BY cell
"""

_ITEM_COLUMNS = [
    *("cell", "item", "id", "words", "prompt", "output", "extracted", "gold"),
    *("correct", "choices", "loglikelihoods", "filtered"),
]

SNAPSHOT_SHARE = 0.05
"""At most this share of a run's time goes into snapshots."""


class Writer:
    """The one connection that may write. Use :func:`writer`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._snapshot_after = 0.0

    def begin_run(self, run: Mapping[str, Any]) -> None:
        self._insert("runs", {**run, "status": "running"})

    def finish_run(self, run_id: str, status: str, finished: Any, engine: Mapping | None) -> None:
        """Record how a run ended: done, failed or interrupted."""
        self._connection.execute(
            "UPDATE runs SET status = ?, finished = ?, engine = ? WHERE run_id = ?",
            [status, finished, _json(engine) if engine else None, run_id],
        )

    def record_artifact(self, artifact: Mapping[str, Any]) -> None:
        """Remember an artifact's manifest; a second time replaces the first."""
        self._connection.execute("DELETE FROM artifacts WHERE key = ?", [artifact["key"]])
        self._insert("artifacts", artifact)

    def commit_cell(self, cell: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
        """Add a score and its items in one transaction: both are there, or neither is."""
        frame = pd.DataFrame(items, columns=_ITEM_COLUMNS)
        self._connection.execute("BEGIN")
        try:
            self._insert("cells", cell)
            columns = ", ".join(_ITEM_COLUMNS)
            self._connection.register("new_items", frame)
            self._connection.execute(
                f"INSERT INTO items ({columns}) SELECT {columns} FROM new_items"
            )
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        finally:
            self._connection.unregister("new_items")

    def place(self, matrix: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the rows of a matrix: which cell stands where, None where it is missing."""
        self._connection.execute("BEGIN")
        try:
            self._connection.execute("DELETE FROM placements WHERE matrix = ?", [matrix])
            for index, row in enumerate(rows):
                self._insert("placements", {"matrix": matrix, "row": index, **row})
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise

    def set_cell(self, matrix: str, rows: Iterable[int], cell: str) -> None:
        """Say which cell the rows of a matrix have."""
        for row in rows:
            self._connection.execute(
                "UPDATE placements SET cell = ? WHERE matrix = ? AND row = ?", [cell, matrix, row]
            )

    def snapshot(self, *, now: bool = False) -> None:
        """Replace the readers' copy, unless that was done too recently to be worth the time."""
        began = time.monotonic()
        if not now and began < self._snapshot_after:
            return
        target = snapshot_path()
        scratch = target.with_suffix(f".{os.getpid()}.partial")
        scratch.unlink(missing_ok=True)
        name = self._connection.execute("SELECT current_database()").fetchone()[0]
        self._connection.execute(f"ATTACH '{_quote(scratch)}' AS snapshot_copy")
        try:
            self._connection.execute(f'COPY FROM DATABASE "{name}" TO snapshot_copy')
        finally:
            self._connection.execute("DETACH snapshot_copy")
        os.replace(scratch, target)
        took = time.monotonic() - began
        self._snapshot_after = time.monotonic() + took / SNAPSHOT_SHARE

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        values = [_json(v) if isinstance(v, Mapping) else v for v in row.values()]
        columns = ", ".join(f'"{column}"' for column in row)
        marks = ", ".join("?" for _ in row)
        self._connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)


@contextmanager
def writer() -> Iterator[Writer]:
    """Open the store for writing, making it when it is not there.

    Raises:
        InputError: another process writes, or the file is no store of this version.
    """
    path = store_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = duckdb.connect(str(path))
    except duckdb.Error as error:
        # a lock that another process holds is told from a damaged file by DuckDB's words alone
        locked = isinstance(error, duckdb.IOException) and "lock" in str(error).lower()
        raise InputError((_busy if locked else _damaged)(path, error)) from None
    try:
        _prepare(connection, path)
        yield Writer(connection)
    finally:
        connection.close()


@contextmanager
def reader(path: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection | None]:
    """A read-only connection to the newest snapshot, or None when nothing was run yet."""
    path = path or snapshot_path()
    if not path.is_file():
        yield None
        return
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise InputError(_damaged(path, error)) from None
    try:
        yield connection
    finally:
        connection.close()


def known() -> tuple[set[str], dict[str, str]]:
    """Keys of all cells, and fingerprints of all checkpoints ever made here by step key."""
    with reader() as connection:
        return (_cells(connection), _fingerprints(connection)) if connection else (set(), {})


def manifests(keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Manifests of the artifacts with these step keys; one that was never made here is absent."""
    query = "SELECT key, manifest FROM artifacts WHERE key IN (SELECT unnest(?))"
    with reader() as connection:
        if connection is None:
            return {}
        found = connection.execute(query, [list(keys)]).fetchall()
    return {key: json.loads(manifest) for key, manifest in found}


def scores(keys: Sequence[str]) -> pd.DataFrame:
    """The cells with these keys, one row each, ``known`` and ``new`` means among them.

    Scores, known and new are shares in [0, 1]; ``known`` and ``new`` are NaN for tasks whose items
    are not marked.
    """
    query = f"""
        SELECT c.*, w.known, w.new FROM cells c LEFT JOIN ({_BY_WORDS}) w ON w.cell = c.key
        WHERE c.key IN (SELECT unnest(?))
    """
    with reader() as connection:
        if connection is None:
            return pd.DataFrame(columns=["key"])
        return connection.execute(query, [list(keys)]).fetch_df()


def placed(path: Path | None = None) -> pd.DataFrame:
    """Every row of every matrix with its score, for tables and charts; NaN where it is missing.

    Columns: matrix, pivot, embedded, method, title, family, ability, language, seed, score,
    stderr, known, new (shares in [0, 1]), n, created, model_path, task, task_path, cell.
    """
    query = f"""
        WITH files AS (
            SELECT matrix, arg_max(matrix_file, started) AS file FROM runs GROUP BY matrix)
        SELECT p.matrix, coalesce(f.file ->> '$.pivot', 'en') AS pivot,
               coalesce(f.file ->> '$.base' = 'embedded', false) AS embedded,
               p.method, p.title, p.family, p.ability, p.language, p.seed, c.score, c.stderr,
               w.known, w.new, c.n, c.created, p.model_path, c.task, c.task_path, p.cell
        FROM placements p
        LEFT JOIN files f USING (matrix)
        LEFT JOIN cells c ON c.key = p.cell
        LEFT JOIN ({_BY_WORDS}) w ON w.cell = p.cell
        ORDER BY p.matrix, p.row
    """
    with reader(path) as connection:
        return connection.execute(query).fetch_df() if connection else pd.DataFrame()


def overview() -> dict[str, Any] | None:
    """Runs, newest first, and how much the store holds; None when nothing was run yet."""
    with reader() as connection:
        if connection is None:
            return None
        runs = connection.execute("""
            SELECT r.run_id, r.matrix, r.status, strftime(r.started, '%Y-%m-%d %H:%M'),
                   round(epoch(r.finished) - epoch(r.started), 1),
                   (SELECT count(*) FROM cells c WHERE c.run_id = r.run_id),
                   r.engine ->> '$.start_seconds'
            FROM runs r ORDER BY r.started DESC
        """).fetchall()
        cells, items, artifacts, size = connection.execute("""
            SELECT (SELECT count(*) FROM cells), (SELECT count(*) FROM items), count(*),
                   coalesce(sum((manifest ->> '$.bytes')::BIGINT), 0) FROM artifacts
        """).fetchone()
    return {"runs": runs, "cells": cells, "items": items, "artifacts": artifacts, "bytes": size}


def _prepare(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    tables = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
    if not tables:
        connection.execute("BEGIN")
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO schema_version VALUES (?)", [SCHEMA_VERSION])
        connection.execute("COMMIT")
        return
    found = (
        connection.execute("SELECT version FROM schema_version").fetchone()
        if "schema_version" in tables
        else None
    )
    if found is None or found[0] != SCHEMA_VERSION:
        raise InputError(
            f"{path}: this store has schema version {found[0] if found else 'none'}, this program "
            f"reads {SCHEMA_VERSION}; name another folder with MAEC_HOME, or move the file away"
        )


def _fingerprints(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    rows = connection.execute("SELECT key, fingerprint FROM artifacts WHERE fingerprint NOT NULL")
    return dict(rows.fetchall())


def _cells(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT key FROM cells").fetchall()}


def _busy(path: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())
    return (
        f"{path}: another run writes to this store; wait for it, or name another MAEC_HOME "
        f"({reason})"
    )


def _damaged(path: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return f"{path}: this is not a readable store; move it away and run again ({reason})"


def _quote(path: Path) -> str:
    return str(path).replace("'", "''")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

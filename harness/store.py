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

_FIRST = """
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

_SECOND = """
CREATE TABLE items_2 (
    cell VARCHAR NOT NULL, item INTEGER NOT NULL, id VARCHAR NOT NULL, words VARCHAR,
    prompt VARCHAR NOT NULL, output VARCHAR, extracted VARCHAR, gold VARCHAR NOT NULL,
    correct BOOLEAN, choices VARCHAR[], loglikelihoods DOUBLE[], filtered JSON,
    PRIMARY KEY (cell, item));
INSERT INTO items_2 SELECT * FROM items;
DROP TABLE items;
ALTER TABLE items_2 RENAME TO items;
CREATE TABLE placements_2 (
    matrix VARCHAR NOT NULL, row INTEGER NOT NULL, variant VARCHAR NOT NULL,
    method VARCHAR NOT NULL, title VARCHAR NOT NULL, family VARCHAR NOT NULL,
    ability VARCHAR NOT NULL, asked VARCHAR NOT NULL, language VARCHAR NOT NULL,
    seed INTEGER NOT NULL, model_key VARCHAR NOT NULL, model_path VARCHAR NOT NULL, cell VARCHAR,
    PRIMARY KEY (matrix, row));
INSERT INTO placements_2 SELECT matrix, row, '', method, title, family, ability, ability, language,
    seed, model_key, model_path, cell FROM placements;
DROP TABLE placements;
ALTER TABLE placements_2 RENAME TO placements;
CREATE TABLE questions (
    question VARCHAR PRIMARY KEY, split VARCHAR NOT NULL CHECK (split IN ('dev', 'test')),
    UNIQUE (question, split));
CREATE TABLE sweeps (
    key VARCHAR PRIMARY KEY, matrix VARCHAR NOT NULL, method VARCHAR NOT NULL,
    ability VARCHAR NOT NULL, seed INTEGER NOT NULL, space JSON NOT NULL, start JSON NOT NULL,
    languages VARCHAR[] NOT NULL, items INTEGER NOT NULL, sampler VARCHAR NOT NULL,
    versions JSON NOT NULL, commit VARCHAR, created TIMESTAMPTZ NOT NULL);
CREATE TABLE sweep_questions (
    sweep VARCHAR NOT NULL, question VARCHAR NOT NULL,
    split VARCHAR NOT NULL DEFAULT 'dev' CHECK (split = 'dev'),
    PRIMARY KEY (sweep, question),
    FOREIGN KEY (question, split) REFERENCES questions (question, split));
CREATE TABLE trials (
    sweep VARCHAR NOT NULL REFERENCES sweeps (key), number INTEGER NOT NULL,
    parameters JSON NOT NULL, score DOUBLE NOT NULL, by_language JSON NOT NULL,
    correct BOOLEAN[] NOT NULL, seconds DOUBLE NOT NULL, training_seconds DOUBLE NOT NULL,
    created TIMESTAMPTZ NOT NULL, PRIMARY KEY (sweep, number));
"""

MIGRATIONS = (_FIRST, _SECOND)
"""From nothing to the schema of today; a store of version n has the first n of them behind it."""

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
        with self._transaction():
            self._insert("cells", cell)
            self._insert_frame("items", pd.DataFrame(items, columns=_ITEM_COLUMNS))

    def place(self, matrix: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the rows of a matrix: which cell stands where, None where it is missing."""
        frame = pd.DataFrame(rows).assign(matrix=matrix, row=range(len(rows)))
        with self._transaction():
            self._connection.execute("DELETE FROM placements WHERE matrix = ?", [matrix])
            self._insert_frame("placements", frame)

    def claim_questions(self, split: str, questions: Iterable[str], where: str) -> None:
        """Say that ``questions`` (digests) belong to ``split``, test or dev, once and for all.

        What was tuned on can never be a test question, and the other way round.

        Raises:
            InputError: one of them belongs to the other split.
        """
        frame = pd.DataFrame({"question": sorted(set(questions)), "split": split})
        if taken := self._taken(frame):
            other = "dev" if split == "test" else "test"
            raise InputError(
                f"{where}: {taken} of these {split} questions are {other} questions in "
                f"{store_path()}; nothing is tuned on test questions: give other ones"
            )
        self._insert_frame("questions", frame, "ANTI JOIN questions USING (question)")

    def _taken(self, frame: pd.DataFrame) -> int:
        """How many of the questions in ``frame`` belong to another split than it says."""
        counted = self._connection.execute(
            "SELECT count(*) FROM frame f JOIN questions q USING (question) "
            "WHERE q.split <> f.split"
        )
        return counted.fetchone()[0]

    def begin_sweep(self, sweep: Mapping[str, Any], questions: Iterable[str], where: str) -> None:
        """Open a sweep, or open it again, for questions that are no test's.

        Raises:
            InputError: one of ``questions`` (digests) is a test question; nothing is recorded.
        """
        asked = list(dict.fromkeys(questions))
        self.claim_questions("dev", asked, where)
        known = self._connection.execute("SELECT 1 FROM sweeps WHERE key = ?", [sweep["key"]])
        if known.fetchone():
            return
        with self._transaction():
            self._insert("sweeps", sweep)
            self._insert_frame(
                "sweep_questions", pd.DataFrame({"sweep": sweep["key"], "question": asked})
            )

    def record_trial(self, trial: Mapping[str, Any]) -> None:
        """Add one point of a sweep's curve."""
        self._insert("trials", trial)

    def trials(self, sweep: str) -> list[dict[str, Any]]:
        """The points of a sweep so far, in the order in which they were tried."""
        return _trials(self._connection, "WHERE s.key = ?", [sweep])

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

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise

    def _insert_frame(self, table: str, frame: pd.DataFrame, clause: str = "") -> None:
        columns = ", ".join(f'"{column}"' for column in frame.columns)
        # DuckDB finds the frame by the name of the variable
        self._connection.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM frame {clause}"
        )

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
        connection = _readable(path)
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
        return connection.execute(query, [list(keys)]).df()


def placed(path: Path | None = None) -> pd.DataFrame:
    """Every row of every matrix with its score, for tables and charts; NaN where it is missing.

    Columns: matrix, pivot, embedded, split, variant, method, title, family, ability, asked,
    language, seed, score, stderr, known, new, n, metrics (JSON), created, model_key, model_path,
    task, task_path, cell. Scores are shares in [0, 1], or bits per byte where ``asked`` is text.
    """
    query = f"""
        WITH files AS (
            SELECT matrix, arg_max(matrix_file, started) AS file FROM runs GROUP BY matrix)
        SELECT p.matrix, coalesce(f.file ->> '$.pivot', 'en') AS pivot,
               coalesce(f.file ->> '$.base' = 'embedded'
                        OR json_type(f.file, '$.base') = 'OBJECT', false) AS embedded,
               coalesce(f.file ->> '$.split', 'test') AS split,
               p.variant, p.method, p.title, p.family, p.ability, p.asked, p.language, p.seed,
               c.score, c.stderr, w.known, w.new, c.n, c.metrics, c.created, p.model_key,
               p.model_path, c.task, c.task_path, p.cell
        FROM placements p
        LEFT JOIN files f USING (matrix)
        LEFT JOIN cells c ON c.key = p.cell
        LEFT JOIN ({_BY_WORDS}) w ON w.cell = p.cell
        ORDER BY p.matrix, p.row
    """
    with reader(path) as connection:
        return connection.execute(query).df() if connection else pd.DataFrame()


def trials(path: Path | None = None) -> list[dict[str, Any]]:
    """Every point of every sweep with what the sweep was: newest sweep first, points in order.

    Keys: sweep, matrix, method, ability, seed, items, sampler, space, start, languages, number,
    parameters, score, by_language, correct, seconds, training_seconds, created.
    """
    with reader(path) as connection:
        return _trials(connection, "", []) if connection else []


def outcomes(matrix: str, path: Path | None = None) -> pd.DataFrame:
    """Every judged item of every scored cell of a matrix, one row each, in the matrix's order.

    Cells that ask for another ability than the model's own are left out.

    Columns: matrix, variant, method, ability, language, seed, item (the question's id), correct
    (bool).
    Empty when the matrix has no score yet; items without a verdict, such as those of perplexity
    tasks, are left out.
    """
    query = """
        SELECT p.matrix, p.variant, p.method, p.ability, p.language, p.seed, i.id AS item, i.correct
        FROM placements p JOIN items i ON i.cell = p.cell
        WHERE p.matrix = ? AND p.asked = p.ability AND i.correct IS NOT NULL
        ORDER BY p.row, i.item
    """
    with reader(path) as connection:
        if connection is None:
            columns = "matrix variant method ability language seed item correct"
            return pd.DataFrame(columns=columns.split())
        return connection.execute(query, [matrix]).df()


def runs(matrix: str, path: Path | None = None) -> list[dict[str, Any]]:
    """The runs of a matrix, and those of others that scored one of its cells; oldest first.

    Keys: run_id, matrix, status, commit, dirty, matrix_file, versions, hardware, engine (None
    before an engine was started), started, finished (seconds since 1970, None while unfinished),
    cells (how many of the matrix's scores are the run's).
    """
    query = """
        WITH own AS (
            SELECT c.run_id, count(*) AS cells FROM cells c
            WHERE c.key IN (SELECT cell FROM placements WHERE matrix = $1) GROUP BY c.run_id)
        SELECT r.run_id, r.matrix, r.status, r.commit, r.dirty, r.matrix_file, r.versions,
               r.hardware, r.engine, epoch(r.started) AS started, epoch(r.finished) AS finished,
               coalesce(o.cells, 0) AS cells
        FROM runs r LEFT JOIN own o USING (run_id)
        WHERE r.matrix = $1 OR o.cells > 0 ORDER BY r.started, r.run_id
    """
    with reader(path) as connection:
        if connection is None:
            return []
        found = connection.execute(query, [matrix])
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    for row in rows:
        for name in ("matrix_file", "versions", "hardware", "engine"):
            row[name] = json.loads(row[name]) if row[name] else None
    return rows


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
    """Bring a new or older store to the schema of today, in one transaction."""
    tables = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
    version = _version(connection) if "schema_version" in tables else 0 if not tables else None
    if version is None or version > len(MIGRATIONS):
        raise InputError(
            f"{path}: this store has schema version {version or 'none'}, this program reads "
            f"1 to {len(MIGRATIONS)}; name another folder with MAEC_HOME, or move the file away"
        )
    for number in range(version, len(MIGRATIONS)):
        connection.execute("BEGIN")
        connection.execute(MIGRATIONS[number])
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (?)", [number + 1])
        connection.execute("COMMIT")


def _readable(path: Path) -> duckdb.DuckDBPyConnection:
    """A snapshot, or a copy in memory with the schema of today where it has an older one."""
    connection = duckdb.connect(str(path), read_only=True)
    if _version(connection) == len(MIGRATIONS):
        return connection
    connection.close()
    copy = duckdb.connect()
    copy.execute(f"ATTACH '{_quote(path)}' AS older (READ_ONLY)")
    copy.execute("COPY FROM DATABASE older TO memory")
    copy.execute("DETACH older")
    _prepare(copy, path)
    return copy


def _version(connection: duckdb.DuckDBPyConnection) -> int | None:
    found = connection.execute("SELECT version FROM schema_version").fetchone()
    return found[0] if found else None


def _trials(
    connection: duckdb.DuckDBPyConnection, where: str, values: list[Any]
) -> list[dict[str, Any]]:
    found = connection.execute(
        f"""
        SELECT s.key AS sweep, s.matrix, s.method, s.ability, s.seed, s.items, s.sampler, s.space,
               s.start, s.languages, t.number, t.parameters, t.score, t.by_language, t.correct,
               t.seconds, t.training_seconds, t.created
        FROM sweeps s JOIN trials t ON t.sweep = s.key {where}
        ORDER BY s.created DESC, s.key, t.number
        """,
        values,
    )
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    for row in rows:
        for name in ("space", "start", "parameters", "by_language"):
            row[name] = json.loads(row[name])
    return rows


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

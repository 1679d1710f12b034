"""What can be asked of the store's newest snapshot, or of a snapshot or released set elsewhere."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from harness.home import snapshot_path
from harness.store.release import open_release
from harness.store.schema import (
    MIGRATIONS,
    is_damage,
    prepare,
    quote,
    refusal,
    version_of,
)
from maec.errors import InputError

_BY_WORDS = """
    SELECT cell, avg(correct::INT) FILTER (words = 'known') AS known,
           avg(correct::INT) FILTER (words = 'new') AS new
    FROM items GROUP BY cell
"""


@contextmanager
def reader(path: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection | None]:
    """A connection that changes nothing, to the newest snapshot or to what is at ``path``.

    ``path`` is a snapshot, or the folder of a released set. None when nothing was run yet.

    Raises:
        InputError: what is there is damaged, of a newer schema, or an altered set.
    """
    path = path or snapshot_path()
    if not path.exists():
        yield None
        return
    try:
        connection = open_release(path) if path.is_dir() else _readable(path)
    except duckdb.Error as error:
        raise InputError(refusal(path, error)) from None
    try:
        yield connection
    except duckdb.Error as error:
        # of some blocks damage shows when they are first read
        if path.is_dir():
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: not a readable set ({reason}); get the set again") from None
        if is_damage(error):
            raise InputError(refusal(path, error)) from None
        raise
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


def timings() -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """When things were done, in seconds since 1970: artifacts, evaluated models, runs.

    Artifacts: key, kind, role (the first word of the label), began, ended, bytes, tokens and
    parameters (both None but of trainings). Models, a row for each time that one was evaluated, in
    order: run, model, tasks (their seconds by name), items, ended. Runs, oldest first: run, began,
    ended (None while it runs), start_seconds of the engine.
    """
    artifacts = """
        SELECT key, kind, split_part(label, ' ', 1) AS role, ended - seconds AS began, ended,
               bytes, tokens, parameters
        FROM (SELECT key, kind, label, epoch((manifest ->> '$.created')::TIMESTAMPTZ) AS ended,
                     (manifest ->> '$.seconds')::DOUBLE AS seconds,
                     (manifest ->> '$.bytes')::BIGINT AS bytes,
                     (manifest ->> '$.tokens')::BIGINT AS tokens,
                     (manifest ->> '$.parameters')::BIGINT AS parameters FROM artifacts)
    """
    models = """
        SELECT run_id AS run, model_key AS model, map_from_entries(list((task, seconds))) AS tasks,
               sum(n)::BIGINT AS items, epoch(max(created)) AS ended
        FROM cells GROUP BY ALL ORDER BY ended
    """
    runs = """
        SELECT run_id AS run, epoch(started) AS began, epoch(finished) AS ended,
               (engine ->> '$.start_seconds')::DOUBLE AS start_seconds FROM runs ORDER BY started
    """
    with reader() as connection:
        if connection is None:
            return [], [], []
        return tuple(dicts(connection.execute(query)) for query in (artifacts, models, runs))


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
        return sweep_trials(connection, "", []) if connection else []


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
        rows = dicts(connection.execute(query, [matrix]))
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


def failures() -> list[dict[str, Any]]:
    """Steps and cells that failed last time, newest first.

    Keys: key, what (step or cell), label, message, lasting (it would fail again as it is), times,
    run_id, created.
    """
    query = """
        SELECT key, what, label, message, lasting, times, run_id, created FROM failures
        ORDER BY created DESC, label
    """
    with reader() as connection:
        if connection is None:
            return []
        return dicts(connection.execute(query))


def dicts(found: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The rows that a query found, each by the names of its columns."""
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def sweep_trials(
    connection: duckdb.DuckDBPyConnection, where: str, values: list[Any]
) -> list[dict[str, Any]]:
    """As :func:`trials`, of the sweeps (``s``) that ``where`` names with ``values``."""
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
    rows = dicts(found)
    for row in rows:
        for name in ("space", "start", "parameters", "by_language"):
            row[name] = json.loads(row[name])
    return rows


def _fingerprints(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    rows = connection.execute("SELECT key, fingerprint FROM artifacts WHERE fingerprint NOT NULL")
    return dict(rows.fetchall())


def _cells(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT key FROM cells").fetchall()}


def _readable(path: Path) -> duckdb.DuckDBPyConnection:
    """A snapshot, or a copy in memory with the schema of today where it has an older one."""
    connection = duckdb.connect(str(path), read_only=True)
    if version_of(connection) == len(MIGRATIONS):
        return connection
    connection.close()
    copy = duckdb.connect()
    copy.execute(f"ATTACH '{quote(path)}' AS older (READ_ONLY)")
    copy.execute("COPY FROM DATABASE older TO memory")
    copy.execute("DETACH older")
    prepare(copy, path)
    return copy

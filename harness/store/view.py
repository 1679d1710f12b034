"""What the leaderboard asks of a snapshot or a released set: all its SQL, each with parameters.

Every function takes the ``path`` that :func:`harness.store.reader` opens, opens it once, and closes
it before it returns. A frame is empty, with its columns, where nothing is there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from harness.store.read import dicts, reader

_PLACED = [
    *("matrix", "pivot", "embedded", "split", "variant", "method", "title", "family"),
    *("ability", "asked", "language", "seed", "score", "stderr", "known", "new"),
    *("n", "created", "run_id", "fingerprint", "model_key", "model_path", "task", "task_path"),
    "cell",
]
_JSON = {"matrix_file", "versions", "hardware", "engine", "metrics"}
"""By name, since files of a released set may have them as text."""

_ANSWERS = ["method", "ability", "language", "item", "correct", "seeds"]

_MATRICES = """
    WITH files AS (
        SELECT matrix, arg_max(matrix_file, started) AS file FROM runs GROUP BY matrix)
    SELECT p.matrix, coalesce(any_value(f.file ->> '$.pivot'), 'en') AS pivot,
           coalesce(any_value(f.file ->> '$.base' = 'embedded'
                              OR json_type(f.file, '$.base') = 'OBJECT'), false) AS embedded,
           coalesce(any_value(f.file ->> '$.split'), 'test') AS split,
           CASE json_type(any_value(f.file), '$.base') WHEN 'OBJECT' THEN 'embedded'
                ELSE any_value(f.file ->> '$.base') END AS base,
           count(*) AS cells, count(c.key) AS scored, max(c.created) AS newest
    FROM placements p LEFT JOIN files f USING (matrix) LEFT JOIN cells c ON c.key = p.cell
    GROUP BY p.matrix ORDER BY newest DESC NULLS LAST, p.matrix
"""


def matrices(path: Path) -> pd.DataFrame:
    """One row a matrix, the one with the newest score first.

    Columns: matrix, pivot, embedded (bool), split, base (what its file names, 'embedded' for the
    embedded world in any size), cells (placed), scored (how many of them), newest (time of the
    newest score).
    """
    columns = ["matrix", "pivot", "embedded", "split", "base", "cells", "scored", "newest"]
    return _frame(path, _MATRICES, [], columns)


def variants(path: Path, matrix: str) -> list[str]:
    """The points of a matrix's axis in its order; [""] without an axis, [] for no such matrix."""
    query = "SELECT variant FROM placements WHERE matrix = ? GROUP BY variant ORDER BY min(row)"
    return list(_frame(path, query, [matrix], ["variant"])["variant"])


def placed(path: Path, matrix: str) -> pd.DataFrame:
    """Every row of a matrix with its score, in its order; NaN where the score is missing.

    As :func:`harness.store.placed`, with run_id and fingerprint and without metrics. ``score``,
    ``known`` and ``new`` are shares in [0, 1] (bits per byte where ``asked`` is text).
    """
    query = """
        WITH file AS (SELECT arg_max(matrix_file, started) AS f FROM runs WHERE matrix = $1),
        own AS (SELECT DISTINCT cell FROM placements WHERE matrix = $1),
        words AS (
            SELECT i.cell, avg(correct::INT) FILTER (words = 'known') AS known,
                   avg(correct::INT) FILTER (words = 'new') AS new
            FROM items i SEMI JOIN own USING (cell) GROUP BY i.cell)
        SELECT p.matrix, coalesce(f ->> '$.pivot', 'en') AS pivot,
               coalesce(f ->> '$.base' = 'embedded'
                        OR json_type(f, '$.base') = 'OBJECT', false) AS embedded,
               coalesce(f ->> '$.split', 'test') AS split,
               p.variant, p.method, p.title, p.family, p.ability, p.asked, p.language, p.seed,
               c.score, c.stderr, w.known, w.new, c.n, c.created, c.run_id, c.fingerprint,
               p.model_key, p.model_path, c.task, c.task_path, p.cell
        FROM placements p LEFT JOIN file ON true LEFT JOIN cells c ON c.key = p.cell
        LEFT JOIN words w ON w.cell = p.cell
        WHERE p.matrix = $1 ORDER BY p.row
    """
    return _frame(path, query, [matrix], _PLACED)


def answers(
    path: Path,
    matrix: str,
    variant: str,
    abilities: Sequence[str],
    languages: Sequence[str],
    seeds: Sequence[int],
) -> pd.DataFrame:
    """Judged answers of models that are asked their own ability, averaged over seeds.

    One row a method, ability, language (all three categorical) and item, a hash of the question's
    id. ``correct`` is the share of seeds in which the answer was right, ``seeds`` how many there
    are.
    """
    # numbers alone leave the database: a million strings would take longer than all the rest
    placed = """
        SELECT method, ability, language, cell,
               dense_rank() OVER (ORDER BY method, ability, language) - 1 AS place
        FROM placements WHERE matrix = $1 AND variant = $2 AND asked = ability
          AND ability IN (SELECT unnest($3)) AND language IN (SELECT unnest($4))
          AND seed IN (SELECT unnest($5))
    """
    judged = f"""
        SELECT p.place, hash(i.id) AS item, avg(i.correct::INT) AS correct, count(*) AS seeds
        FROM ({placed}) p JOIN items i ON i.cell = p.cell
        WHERE i.correct IS NOT NULL GROUP BY ALL
    """
    names = f"SELECT DISTINCT place, method, ability, language FROM ({placed}) ORDER BY place"
    values = [matrix, variant, list(abilities), list(languages), [int(seed) for seed in seeds]]
    with reader(path) as connection:
        if connection is None:
            return pd.DataFrame(columns=_ANSWERS)
        places = connection.execute(names, values).df()
        found = connection.execute(judged, values).df()
    for name in ("method", "ability", "language"):
        found[name] = places[name].astype("category").array.take(found["place"].to_numpy())
    return found[_ANSWERS]


def outcomes(
    path: Path, matrix: str, variant: str, ability: str, methods: Sequence[str]
) -> pd.DataFrame:
    """What :func:`harness.store.outcomes` gives, of these methods in one ability."""
    query = """
        SELECT p.matrix, p.variant, p.method, p.ability, p.language, p.seed, i.id AS item, i.correct
        FROM placements p JOIN items i ON i.cell = p.cell
        WHERE p.matrix = $1 AND p.variant = $2 AND p.ability = $3 AND p.asked = p.ability
          AND p.method IN (SELECT unnest($4)) AND i.correct IS NOT NULL
        ORDER BY p.row, i.item
    """
    columns = ["matrix", "variant", "method", "ability", "language", "seed", "item", "correct"]
    return _frame(path, query, [matrix, variant, ability, list(methods)], columns)


def manifests(path: Path, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Manifests of these artifacts, of their inputs, and so on down to the base, by key."""
    found: dict[str, dict[str, Any]] = {}
    asked: set[str] = set()
    query = "SELECT key, manifest FROM artifacts WHERE key IN (SELECT unnest(?))"
    with reader(path) as connection:
        level = sorted(set(keys))
        while connection and level:
            asked |= set(level)
            rows = connection.execute(query, [level]).fetchall()
            made = {key: json.loads(manifest) for key, manifest in rows}
            found |= made
            inputs = (part for m in made.values() for part in m.get("inputs", {}).values())
            level = sorted(set(inputs) - asked)
    return found


def provenance(path: Path, cell: str) -> dict[str, Any] | None:
    """All that is known of how a score was made: the cell's columns, and under ``run`` its run's.

    JSON columns are parsed; ``run`` is None where the run is not there, and all of it where no
    such cell is.
    """
    return provenances(path, [cell]).get(cell)


def provenances(path: Path, cells: Sequence[str]) -> dict[str, dict[str, Any]]:
    """:func:`provenance` of each of these cells that is there, by key."""
    wanted = "key IN (SELECT unnest(?))"
    with reader(path) as connection:
        if connection is None:
            return {}
        found = _records(connection, f"SELECT * FROM cells WHERE {wanted}", [list(cells)])
        own = f"SELECT * FROM runs WHERE run_id IN (SELECT run_id FROM cells WHERE {wanted})"
        runs = {run["run_id"]: run for run in _records(connection, own, [list(cells)])}
    return {cell["key"]: {**cell, "run": runs.get(cell["run_id"])} for cell in found}


def items(path: Path, cell: str) -> list[dict[str, Any]]:
    """Every item of a cell in order, with all its columns; ``filtered`` is text."""
    return items_of(path, [cell])[cell]


def items_of(path: Path, cells: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """:func:`items` of each of these cells, by key."""
    query = "SELECT * FROM items WHERE cell IN (SELECT unnest(?)) ORDER BY cell, item"
    found: dict[str, list[dict[str, Any]]] = {cell: [] for cell in cells}
    with reader(path) as connection:
        for row in _records(connection, query, [list(cells)]) if connection else ():
            found[row["cell"]].append(row)
    return found


def places(path: Path, cell: str = "", matrix: str | None = None) -> list[dict[str, Any]]:
    """One row a scored cell, by key, with the first place that it has in a matrix.

    Of cells whose key starts with ``cell``, in any matrix or in one. Keys: cell, matrix, variant,
    method, title, family, ability, asked, language, seed, model_key, model_path.
    """
    query = """
        SELECT DISTINCT ON (cell) cell, matrix, variant, method, title, family, ability, asked,
               language, seed, model_key, model_path
        FROM placements WHERE starts_with(cell, $1) AND ($2::VARCHAR IS NULL OR matrix = $2)
        ORDER BY cell, matrix, row
    """
    with reader(path) as connection:
        return _records(connection, query, [cell, matrix]) if connection else []


def matrix_files(path: Path) -> dict[str, dict[str, Any]]:
    """By name, the matrix file of each matrix as its newest run checked it."""
    query = "SELECT matrix, arg_max(matrix_file, started) AS matrix_file FROM runs GROUP BY matrix"
    with reader(path) as connection:
        found = _records(connection, query, []) if connection else []
    return {row["matrix"]: row["matrix_file"] for row in found}


def progress(path: Path) -> list[dict[str, Any]]:
    """Every run, newest first: run_id, matrix, status, started, finished, cells (scored in it),
    last (time of its newest score), and of its matrix placed and scored, how many rows it has."""
    query = """
        WITH own AS (
            SELECT run_id, count(*) AS cells, max(created) AS last FROM cells GROUP BY run_id),
        whole AS (
            SELECT matrix, count(*) AS placed, count(cell) AS scored FROM placements
            GROUP BY matrix)
        SELECT r.run_id, r.matrix, r.status, r.started, r.finished, coalesce(o.cells, 0) AS cells,
               o.last, coalesce(w.placed, 0) AS placed, coalesce(w.scored, 0) AS scored
        FROM runs r LEFT JOIN own o USING (run_id) LEFT JOIN whole w USING (matrix)
        ORDER BY r.started DESC, r.run_id
    """
    with reader(path) as connection:
        return _records(connection, query, []) if connection else []


def failures(path: Path) -> list[dict[str, Any]]:
    """What failed and was not done since, newest first: label, message, lasting, times, created.

    ``lasting`` is what would fail again as it is, and is not tried by itself.
    """
    query = """
        SELECT label, message, lasting, times, created FROM failures ORDER BY created DESC, label
    """
    with reader(path) as connection:
        return _records(connection, query, []) if connection else []


def _frame(path: Path, query: str, values: list[Any], columns: Sequence[str]) -> pd.DataFrame:
    with reader(path) as connection:
        if connection is None:
            return pd.DataFrame(columns=list(columns))
        return connection.execute(query, values).df()


def _records(
    connection: duckdb.DuckDBPyConnection, query: str, values: list[Any]
) -> list[dict[str, Any]]:
    """Rows as dicts, with JSON columns parsed."""
    return [
        {
            name: json.loads(value) if name in _JSON and value is not None else value
            for name, value in row.items()
        }
        for row in dicts(connection.execute(query, values))
    ]

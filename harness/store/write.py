"""The one connection that may write to the store."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pandas as pd

from harness.home import snapshot_path, store_path
from harness.store import records
from harness.store.lock import alone
from harness.store.read import sweep_trials
from harness.store.schema import is_damage, prepare, quote, refusal, unwritable
from maec.errors import InputError

_ITEM_COLUMNS = [
    *("cell", "item", "id", "words", "prompt", "output", "extracted", "gold"),
    *("correct", "choices", "loglikelihoods", "filtered"),
]

_UNWRITABLE = (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException)

SNAPSHOT_SHARE = 0.05
"""At most this share of a run's time goes into snapshots."""


class Writer:
    """The one connection that may write. Use :func:`writer`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._snapshot_after = 0.0

    def begin_run(self, run: Mapping[str, Any]) -> None:
        with self._transaction():
            self._insert("runs", {**run, "status": "running"})
            records.keep(self._connection, "runs", run["run_id"])

    def finish_run(self, run_id: str, status: str, finished: Any, engine: Mapping | None) -> None:
        """Record how a run ended: done, failed or interrupted."""
        with self._transaction():
            self._connection.execute(
                "UPDATE runs SET status = ?, finished = ?, engine = ? WHERE run_id = ?",
                [status, finished, _json(engine) if engine else None, run_id],
            )
            records.keep(self._connection, "runs", run_id)

    def record_artifact(self, artifact: Mapping[str, Any]) -> None:
        """Remember an artifact's manifest; a second time replaces the first."""
        with self._transaction():
            self._connection.execute("DELETE FROM artifacts WHERE key = ?", [artifact["key"]])
            self._insert("artifacts", artifact)
            self.forget_failures([artifact["key"]])

    def artifacts(self) -> set[str]:
        """Keys of all artifacts that were ever recorded."""
        rows = self._connection.execute("SELECT key FROM artifacts").fetchall()
        return {key for (key,) in rows}

    def commit_cell(self, cell: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
        """Add a score and its items in one transaction: both are there, or neither is."""
        with self._transaction():
            self._insert("cells", cell)
            self._insert_frame("items", pd.DataFrame(items, columns=_ITEM_COLUMNS))
            self.forget_failures([cell["key"]])
            records.keep(self._connection, "cells", cell["key"])

    def record_failure(self, failure: Mapping[str, Any]) -> None:
        """Remember that a step or a cell failed, and how often it did; success forgets it."""
        self._insert(
            "failures",
            {**failure, "times": 1},
            "ON CONFLICT (key) DO UPDATE SET times = times + 1, label = excluded.label, "
            "message = excluded.message, lasting = excluded.lasting, run_id = excluded.run_id, "
            "created = excluded.created",
        )

    def forget_failures(self, keys: Iterable[str]) -> None:
        """Let steps and cells with these keys be tried as if they had never failed."""
        self._connection.execute(
            "DELETE FROM failures WHERE key IN (SELECT unnest(?))", [list(keys)]
        )

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
        with self._transaction():
            added = self._insert_frame("questions", frame, "ANTI JOIN questions USING (question)")
            if added or not records.path_of("questions", split).is_file():
                records.keep(self._connection, "questions", split)

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
            records.keep(self._connection, "sweeps", sweep["key"])

    def record_trial(self, trial: Mapping[str, Any]) -> None:
        """Add one point of a sweep's curve."""
        with self._transaction():
            self._insert("trials", trial)
            records.keep(self._connection, "sweeps", trial["sweep"])

    def trials(self, sweep: str) -> list[dict[str, Any]]:
        """The points of a sweep so far, in the order in which they were tried."""
        return sweep_trials(self._connection, "WHERE s.key = ?", [sweep])

    def set_cell(self, matrix: str, rows: Iterable[int], cell: str) -> None:
        """Say which cell the rows of a matrix have."""
        for row in rows:
            self._connection.execute(
                "UPDATE placements SET cell = ? WHERE matrix = ? AND row = ?", [cell, matrix, row]
            )

    def renew_records(self) -> None:
        """Write the records that are missing or damaged."""
        records.renew(self._connection)

    def snapshot(self, *, now: bool = False) -> None:
        """Replace the readers' copy, unless that was done too recently to be worth the time."""
        began = time.monotonic()
        if not now and began < self._snapshot_after:
            return
        target = snapshot_path()
        scratch = target.with_suffix(f".{os.getpid()}.partial")
        scratch.unlink(missing_ok=True)
        name = self._connection.execute("SELECT current_database()").fetchone()[0]
        self._connection.execute(f"ATTACH '{quote(scratch)}' AS snapshot_copy")
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

    def _insert_frame(self, table: str, frame: pd.DataFrame, clause: str = "") -> int:
        """Returns how many rows were added."""
        columns = ", ".join(f'"{column}"' for column in frame.columns)
        # DuckDB finds the frame by the name of the variable
        added = self._connection.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM frame {clause}"
        )
        return added.fetchone()[0]

    def _insert(self, table: str, row: Mapping[str, Any], clause: str = "") -> None:
        values = [_json(v) if isinstance(v, Mapping) else v for v in row.values()]
        columns = ", ".join(f'"{column}"' for column in row)
        marks = ", ".join("?" for _ in row)
        self._connection.execute(
            f"INSERT INTO {table} ({columns}) VALUES ({marks}) {clause}", values
        )


@contextmanager
def writer() -> Iterator[Writer]:
    """Open the store for writing, making it when it is not there.

    Raises:
        InputError: another process writes, or the file is damaged, of a newer version, or gone
            while its records are there; or, at any time, it cannot be written any more. What was
            committed is kept.
    """
    with alone():
        path = store_path()
        if not path.is_file() and any(map(records.names, records.KINDS)):
            raise InputError(f"{path}: it is gone; `harness doctor --repair` restores it")
        with opened() as store:
            yield store


@contextmanager
def opened() -> Iterator[Writer]:
    """What :func:`writer` does, for a process that is :func:`~harness.store.lock.alone`."""
    path = store_path()
    try:
        connection = duckdb.connect(str(path))
    except duckdb.Error as error:
        raise InputError(refusal(path, error)) from None
    try:
        with connection:
            prepare(connection, path)
            yield Writer(connection)
    except duckdb.Error as error:
        if is_damage(error):  # of a block, that shows when it is first read
            raise InputError(refusal(path, error)) from None
        if isinstance(error, _UNWRITABLE):
            raise InputError(unwritable(path, error)) from error
        raise


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

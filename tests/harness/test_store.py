"""A score is there with all its items or not at all, and readers never see half of it."""

import hashlib
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from harness import store
from harness.home import living_in, snapshot_path, store_path
from harness.store import records, schema
from maec.errors import InputError


def cell(key: str, **changes: object) -> dict:
    return {
        "key": key, "model_key": "m", "fingerprint": "f", "task": "t", "task_version": "1.0",
        "task_data": "d", "task_path": "/t", "metric": "acc", "filter": "none", "score": 0.5,
        "stderr": 0.1, "n": 4, "metrics": {"acc,none": 0.5}, "engine": {"kind": "vllm"},
        "seconds": 1.0, "run_id": "r", "created": datetime.now(UTC), **changes,
    }  # fmt: skip


def items(key: str, verdicts: list[bool]) -> list[dict]:
    return [
        {
            "cell": key,
            "item": index,
            "id": str(index),
            "words": "known" if index % 2 else "new",
            "prompt": "Q: ఎన్ని?",
            "output": " 3 <b>",
            "extracted": "3",
            "gold": "4",
            "correct": verdict,
            "choices": ["a", "b"],
            "loglikelihoods": [-1.5, -2.0],
        }
        for index, verdict in enumerate(verdicts)
    ]


@pytest.fixture
def written(home: Path) -> Iterator[store.Writer]:
    with store.writer() as writer:
        yield writer


def test_a_committed_cell_comes_back_with_its_items_and_its_known_and_new_means(
    written: store.Writer,
) -> None:
    written.commit_cell(cell("a"), items("a", [True, False, True, True]))
    written.snapshot(now=True)
    found = store.scores(["a"]).iloc[0]
    assert (found["score"], found["stderr"], found["n"]) == (0.5, 0.1, 4)
    assert (found["known"], found["new"]) == (0.5, 1.0)
    with store.reader() as connection:
        row = connection.execute(
            "SELECT prompt, choices, loglikelihoods FROM items WHERE item = 0"
        ).fetchone()
    assert row == ("Q: ఎన్ని?", ["a", "b"], [-1.5, -2.0])


def test_known_and_new_are_means_over_judged_items_and_blank_where_no_item_is_marked(
    written: store.Writer,
) -> None:
    marked = items("marked", [True, False, True, False, True])
    marked[3]["correct"] = None  # as an item of a text task
    plain = [{**item, "words": None} for item in items("plain", [True, False])]
    written.commit_cell(cell("marked"), marked)
    written.commit_cell(cell("plain"), plain)
    written.snapshot(now=True)
    judged = pd.DataFrame(marked).dropna(subset="correct")
    means = judged.groupby("words")["correct"].agg(lambda verdicts: sum(verdicts) / len(verdicts))
    found = store.scores(["marked", "plain"]).set_index("key")
    assert found.loc["marked", ["known", "new"]].to_dict() == means.to_dict()
    assert found.loc["plain", ["known", "new"]].isna().all()


def test_the_manifest_of_an_artifact_comes_back_as_it_was(written: store.Writer) -> None:
    manifest = {"seconds": 1.25, "bytes": 2**40, "label": "తెలుగు", "losses": [0.5]}
    artifact = {"key": "a", "kind": "train", "path": "/a", "manifest": manifest}
    written.record_artifact({**artifact, "created": datetime.now(UTC)})
    written.snapshot(now=True)
    assert store.manifests(["a", "never made"]) == {"a": manifest}


def test_when_an_item_cannot_be_stored_neither_can_the_score(written: store.Writer) -> None:
    twice = items("a", [True]) * 2
    with pytest.raises(duckdb.ConstraintException):
        written.commit_cell(cell("a"), twice)
    written.commit_cell(cell("b"), items("b", [True]))
    written.snapshot(now=True)
    assert store.known()[0] == {"b"}
    with store.reader() as connection:
        assert connection.execute("SELECT DISTINCT cell FROM items").fetchall() == [("b",)]


def test_the_same_cell_cannot_be_counted_twice(written: store.Writer) -> None:
    written.commit_cell(cell("a"), items("a", [True]))
    with pytest.raises(duckdb.ConstraintException):
        written.commit_cell(cell("a"), items("a", [True]))


def _open_and_say(pipe) -> None:
    try:
        with store.writer():
            pipe.send("opened")
    except InputError as error:
        pipe.send(str(error))


def test_a_second_writer_is_told_in_one_line_and_harms_nothing(written: store.Writer) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_open_and_say, args=(theirs,))
    process.start()
    said = ours.recv()
    process.join()
    assert "another run writes to this store" in said and "\n" not in said
    assert f"process {os.getpid()} on {socket.gethostname()}, since 20" in said
    assert Path(sys.argv[0]).name in said
    written.commit_cell(cell("a"), items("a", [True]))


def _commit_and_die(home: str, recorded: bool) -> None:
    """Commit one cell, and be killed in the middle of the next."""
    os.environ["MAEC_HOME"] = home
    keep = records.keep

    def keep_and_die(connection: duckdb.DuckDBPyConnection, kind: str, name: str) -> None:
        if recorded or name == "a":
            keep(connection, kind, name)
        if name == "b":
            os.kill(os.getpid(), signal.SIGKILL)

    records.keep = keep_and_die
    with store.writer() as writer:
        writer.commit_cell(cell("a"), items("a", [True, False]))
        writer.commit_cell(cell("b"), items("b", [True, False]))


def test_a_cell_whose_process_is_killed_is_there_with_all_its_items_or_not_at_all(
    home: Path,
) -> None:
    context = multiprocessing.get_context("spawn")
    for recorded in (False, True):
        process = context.Process(
            target=_commit_and_die, args=(str(home / str(recorded)), recorded)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        with living_in(home / str(recorded)):
            with store.writer() as writer:  # nothing of the killed one is in the way
                writer.snapshot(now=True)
            assert store.known()[0] == {"a"}
            with store.reader() as connection:
                counted = "SELECT cell, count(*) FROM items GROUP BY cell"
                assert connection.execute(counted).fetchall() == [("a", 2)]
            assert records.names("cells") == ({"a", "b"} if recorded else {"a"})
            with store.writer() as writer:
                writer.commit_cell(cell("b"), items("b", [True, True]))
            assert len(records.read(records.path_of("cells", "b"))["items"]) == 2


def test_a_cell_that_cannot_be_recorded_is_not_committed(written: store.Writer, home: Path) -> None:
    (home / "records").mkdir()
    (home / "records" / "cells").write_text("no folder")
    with pytest.raises(InputError, match="cannot be written"):
        written.commit_cell(cell("a"), items("a", [True]))
    written.snapshot(now=True)
    assert store.known()[0] == set()


def test_readers_see_the_last_snapshot_while_a_writer_writes(written: store.Writer) -> None:
    written.commit_cell(cell("a"), items("a", [True]))
    written.snapshot(now=True)
    with store.reader() as reader:
        written.commit_cell(cell("b"), items("b", [True]))
        written.snapshot(now=True)
        assert reader.execute("SELECT count(*) FROM cells").fetchone() == (1,)
    assert store.known()[0] == {"a", "b"}


def test_a_snapshot_cannot_be_written_to(written: store.Writer) -> None:
    written.snapshot(now=True)
    with store.reader() as reader, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        reader.execute("DELETE FROM cells")


def test_nothing_is_known_before_the_first_run(home: Path) -> None:
    assert store.known() == (set(), {})
    assert store.manifests(["a"]) == {}
    assert store.placed().empty
    assert store.overview() is None


def test_a_file_that_is_no_store_is_refused_in_one_line(home: Path) -> None:
    home.mkdir()
    store_path().write_text("not a database " * 100)
    with pytest.raises(InputError, match="not a readable store"), store.writer():
        pass


def test_a_store_of_another_schema_version_is_refused(home: Path) -> None:
    with store.writer():
        pass
    with duckdb.connect(str(store_path())) as connection:
        connection.execute("UPDATE schema_version SET version = 999")
    with pytest.raises(InputError, match="schema version 999"), store.writer():
        pass


def test_snapshots_leave_no_scratch_files_behind(written: store.Writer) -> None:
    for _ in range(3):
        written.snapshot(now=True)
    found = {path.name for path in snapshot_path().parent.iterdir()}
    own = {"snapshot.duckdb", "store.duckdb", "writer.lock"}
    assert found - {"store.duckdb.wal"} == own


# --- schema versions ---------------------------------------------------------------------------

OLD = {
    "runs": "('r', 'm', '{\"pivot\": \"en\"}', '2024-10-10', NULL, 'done', 'c', false, '{}', '{}', "
    "NULL)",
    "artifacts": "('a', 'train', 'label', 'f', '/a', '{\"bytes\": 5}', '2024-10-10')",
    "cells": "('c', 'k', 'f', 't', '1.0', 'd', '/t', 'acc', 'none', 0.5, NULL, 2, '{}', '{}', 1.0, "
    "'r', '2024-10-10')",
    "items": "('c', 0, 'i0', 'known', 'Q: ఎన్ని?', 'out', 'e', 'g', true, ['a', 'b'], [-1.5, -2.0], "
    "NULL), ('c', 1, 'i1', 'new', 'Q', NULL, NULL, 'g', false, NULL, NULL, '{\"x\": 1}')",
    "placements": "('m', 0, 'maec', 'MAEC', 'maec', 'math', 'te', 3, 'k', '/m', 'c'), "
    "('m', 1, 'tv', 'TV', 'merging', 'math', 'te', 3, 'l', '/l', NULL)",
}


FROZEN = (
    "8ef1b897dd347f2befb367ae04a0d0de974035278f1e77e6621de6d91d7a5058",
    "5f02a0e9b8607a65f26834c2284cf968f5d7ac8827c7c0124566d77c6b07e332",
    "ecf193d6c1fcfd45bde4a4fbbd2dc07c0295b16326796e1fcd786b211b9b436c",
)
"""SHA-256 of the SQL that made the stores which others have: it never changes again."""

SECOND = {
    **{table: OLD[table] for table in ("runs", "artifacts", "cells")},
    "items": OLD["items"] + ", ('c', 2, 'i2', NULL, 'text', NULL, NULL, 'g', NULL, NULL, [-7.25], "
    "NULL)",
    "placements": "('m', 0, 'v', 'maec', 'MAEC', 'maec', 'math', 'text', 'te', 3, 'k', '/m', 'c')",
    "questions": "('q', 'dev'), ('p', 'test')",
    "sweeps": "('s', 'm', 'tv', 'math', 0, '{}', '{\"scale\": 1}', ['te', 'bn'], 5, 'TPE', '{}', "
    "NULL, '2026-01-01')",
    "sweep_questions": "('s', 'q', 'dev')",
    "trials": "('s', 0, '{\"scale\": 1}', 0.5, '{\"te\": 0.5}', [true, false], 1.0, 2.0, "
    "'2026-01-01')",
}

THIRD = SECOND | {
    "failures": "('k', 'step', 'ability math', 'ఎందుకు', true, 2, 'r', '2026-01-01')",
}


def test_what_made_the_stores_of_earlier_versions_is_as_it_was() -> None:
    made = [hashlib.sha256(sql.encode()).hexdigest() for sql in schema.MIGRATIONS]
    assert tuple(made[: len(FROZEN)]) == FROZEN


@pytest.mark.parametrize(("version", "rows"), [(2, SECOND), (3, THIRD)])
def test_a_store_of_a_later_schema_is_migrated_with_nothing_lost(
    home: Path, version: int, rows: dict[str, str]
) -> None:
    home.mkdir()
    with duckdb.connect(str(store_path())) as connection:
        for migration in schema.MIGRATIONS[:version]:
            connection.execute(migration)
        connection.execute("INSERT INTO schema_version VALUES (?)", [version])
        for table, values in rows.items():
            connection.execute(f"INSERT INTO {table} VALUES {values}")
        before = contents(connection, rows)
    with store.writer() as writer:
        writer.snapshot(now=True)
    for path in (store_path(), snapshot_path()):
        with duckdb.connect(str(path), read_only=True) as connection:
            assert contents(connection, rows) == before
            assert schema.version_of(connection) == len(schema.MIGRATIONS)
    (trial,) = store.trials()
    assert (trial["parameters"], trial["correct"]) == ({"scale": 1}, [True, False])


def contents(connection: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> dict[str, list]:
    return {
        table: connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()
        for table in tables
    }


@pytest.fixture
def old(home: Path) -> dict[str, list[tuple]]:
    """A store of the first schema with rows in every table; returns them."""
    home.mkdir()
    with duckdb.connect(str(store_path())) as connection:
        connection.execute(schema.MIGRATIONS[0])
        connection.execute("INSERT INTO schema_version VALUES (1)")
        for table, values in OLD.items():
            connection.execute(f"INSERT INTO {table} VALUES {values}")
        tables = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
        assert tables == OLD.keys() | {"schema_version"}
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()
            for table in OLD
        }


def test_a_store_of_the_first_schema_is_migrated_with_nothing_lost(
    old: dict[str, list[tuple]],
) -> None:
    with store.writer() as writer:
        writer.snapshot(now=True)
    for path in (store_path(), snapshot_path()):
        with duckdb.connect(str(path), read_only=True) as connection:

            def rows(query: str, connection: duckdb.DuckDBPyConnection = connection) -> list:
                return connection.execute(query).fetchall()

            assert rows("SELECT version FROM schema_version") == [(len(schema.MIGRATIONS),)]
            for table in OLD.keys() - {"placements"}:
                assert rows(f"SELECT * FROM {table} ORDER BY ALL") == old[table], table
            assert (
                rows(
                    "SELECT matrix, row, method, title, family, ability, language, seed, "
                    "model_key, model_path, cell FROM placements ORDER BY ALL"
                )
                == old["placements"]
            )
            assert rows("SELECT DISTINCT variant, asked FROM placements") == [("", "math")]
    placed = store.placed()
    assert list(placed["score"].dropna()) == [0.5]
    assert list(store.outcomes("m")["correct"]) == [True, False]


@pytest.mark.parametrize(
    ("base", "embedded"),
    [("embedded", True), ({"num_hidden_layers": 8}, True), ("some/folder", False)],
)
def test_a_base_of_the_embedded_world_is_known_as_one_in_any_size(
    home: Path, base: str | dict, embedded: bool
) -> None:
    with store.writer() as writer:
        writer.begin_run(
            {
                "run_id": "r", "matrix": "m", "matrix_file": {"base": base}, "versions": {},
                "hardware": {}, "started": datetime.now(UTC),
            }
        )  # fmt: skip
        writer.place(
            "m",
            [
                {
                    "variant": "", "method": "tv", "title": "TV", "family": "merging",
                    "ability": "math", "asked": "math", "language": "te", "seed": 0,
                    "model_key": "k", "model_path": "/k", "cell": None,
                }
            ],
        )  # fmt: skip
        writer.snapshot(now=True)
    assert list(store.placed()["embedded"]) == [embedded]


def test_a_migrated_store_takes_what_a_new_one_takes(old: dict[str, list[tuple]]) -> None:
    with store.writer() as writer:
        text = {**items("t", [True])[0], "correct": None}
        writer.commit_cell(cell("t"), [text])
        with pytest.raises(duckdb.ConstraintException):
            writer.commit_cell(cell("u"), [text, text])
        writer.claim_questions("test", ["q"], "matrix.yaml")
        writer.snapshot(now=True)
    with store.writer() as writer:  # a second time there is nothing to migrate
        writer.commit_cell(cell("v"), items("v", [True]))


def test_a_store_of_the_second_schema_keeps_what_it_holds_and_remembers_failures(
    old: dict[str, list[tuple]],
) -> None:
    with duckdb.connect(str(store_path())) as connection:
        connection.execute(schema.MIGRATIONS[1])
        connection.execute("UPDATE schema_version SET version = 2")
    failure = {
        "key": "t", "what": "cell", "label": "tv te", "message": "KeyError", "lasting": True,
        "run_id": "r", "created": datetime.now(UTC),
    }  # fmt: skip
    with store.writer() as writer:
        for message in ("KeyError", "ValueError"):
            writer.record_failure({**failure, "message": message})
            writer.record_failure({**failure, "key": message})
        writer.forget_failures(["KeyError", "no such"])
        writer.snapshot(now=True)
    found = {entry["key"]: entry for entry in store.failures()}
    assert found.keys() == {"t", "ValueError"}
    assert (found["t"]["times"], found["t"]["message"]) == (2, "ValueError")
    with store.writer() as writer:
        writer.commit_cell(cell("t"), items("t", [True]))
        writer.snapshot(now=True)
    assert [entry["key"] for entry in store.failures()] == ["ValueError"]
    assert len(store.placed()) == len(old["placements"])


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    old: dict[str, list[tuple]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (*schema.MIGRATIONS, "DROP TABLE items; SELECT * FROM nowhere")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", broken)
        with pytest.raises(duckdb.Error), store.writer():
            pass
    with duckdb.connect(str(store_path())) as connection:
        assert connection.execute("SELECT * FROM items ORDER BY ALL").fetchall() == old["items"]


def test_a_snapshot_of_an_older_schema_can_be_read_and_stays_as_it_is(
    old: dict[str, list[tuple]],
) -> None:
    store_path().rename(snapshot_path())
    before = snapshot_path().read_bytes()
    assert list(store.placed()["score"].dropna()) == [0.5]
    assert list(store.outcomes("m")["correct"]) == [True, False]
    assert store.trials() == []
    assert store.known() == ({"c"}, {"a": "f"})
    assert snapshot_path().read_bytes() == before


def test_a_snapshot_of_a_newer_schema_is_refused_in_one_line(home: Path) -> None:
    with store.writer() as writer:
        writer.snapshot(now=True)
    with duckdb.connect(str(snapshot_path())) as connection:
        connection.execute("UPDATE schema_version SET version = 999")
    with pytest.raises(InputError, match="schema version 999") as caught:
        store.placed()
    assert "\n" not in str(caught.value)

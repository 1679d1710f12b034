"""A released set holds what the store holds, not where it was made, and cannot be altered."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from harness import store
from harness.home import CHECKOUT, snapshot_path
from harness.store import release as released
from harness.store import schema
from harness.store.export import export, portable
from maec.errors import InputError
from tests.harness.test_store import cell, items

NOW = datetime(2025, 1, 2, tzinfo=UTC)


def run(name: str, matrix: str, **file: object) -> dict:
    return {
        "run_id": name, "matrix": matrix, "matrix_file": {"pivot": "en", **file}, "started": NOW,
        "commit": "c0ffee", "dirty": False, "versions": {"duckdb": "2"}, "hardware": {"cores": 2},
    }  # fmt: skip


def placed(model: str, path: Path, key: str | None, method: str = "tv") -> dict:
    return {
        "variant": "", "method": method, "title": "TV", "family": "merging", "ability": "math",
        "asked": "math", "language": "te", "seed": 0, "model_key": model, "model_path": str(path),
        "cell": key,
    }  # fmt: skip


@pytest.fixture
def filled(home: Path) -> Path:
    """A home with matrices ``one`` and ``two``, a sweep each, and paths wherever they occur."""
    model = home / "artifacts" / "train" / "m"
    manifest = {
        "inputs": {"start": "base"},
        "recipe": {"models": [str(model), str(CHECKOUT / "harness" / "x"), "/mnt/else/corpus.txt"]},
    }
    with store.writer() as writer:
        writer.begin_run(run("r1", "one", base="embedded"))
        writer.begin_run(run("r2", "two", base={"num_hidden_layers": 2}))
        for key in ("m", "base", "unrelated"):
            writer.record_artifact(
                {"key": key, "kind": "train", "label": key, "fingerprint": f"f-{key}",
                 "path": str(model.with_name(key)), "created": NOW,
                 "manifest": manifest if key == "m" else {"inputs": {}}}
            )  # fmt: skip
        for key, of in (("a", "r1"), ("b", "r2")):
            task = str(home / "tasks" / key)
            engine = {"kind": "vllm", "cache": str(home / "cache")}
            writer.commit_cell(
                cell(key, task_path=task, run_id=of, engine=engine, created=NOW),
                items(key, [True, False, True]),
            )
        writer.place("one", [placed("m", model, "a"), placed("n", CHECKOUT / "base", None)])
        writer.place("two", [placed("m2", Path("/srv/models/llama"), "b")])
        for name in ("one", "two"):
            sweep = {
                "key": name, "matrix": name, "method": "tv", "ability": "math", "seed": 0,
                "space": {"scale": [1]}, "start": {"scale": 1}, "languages": ["te"], "items": 4,
                "sampler": "random", "versions": {}, "commit": "c", "created": NOW,
            }  # fmt: skip
            writer.begin_sweep(sweep, [f"q-{name}"], "here")
            writer.record_trial(
                {"sweep": name, "number": 0, "parameters": {"scale": 1}, "score": 0.5,
                 "by_language": {"te": 0.5}, "correct": [True, False], "seconds": 1.0,
                 "training_seconds": 0.0, "created": NOW}
            )  # fmt: skip
        writer.snapshot(now=True)
    return home


@pytest.fixture
def whole(filled: Path, tmp_path: Path) -> Path:
    """A set of all that ``filled`` holds."""
    return export("first", out=tmp_path / "set")


def text_of(folder: Path) -> str:
    """All that a set says, decompressed."""
    said = (folder / "manifest.json").read_text(encoding="utf-8")
    for path in folder.glob("*.parquet"):
        said += pd.read_parquet(path).to_csv()
    return said


def test_every_question_to_a_set_is_answered_as_by_the_store(whole: Path) -> None:
    paths = ["model_path", "task_path"]
    ours, theirs = store.placed(), store.placed(whole)
    pd.testing.assert_frame_equal(ours.drop(columns=paths), theirs.drop(columns=paths))
    for matrix in ("one", "two"):
        assert len(store.outcomes(matrix)) == 3
        pd.testing.assert_frame_equal(store.outcomes(matrix), store.outcomes(matrix, whole))
        assert store.runs(matrix) == store.runs(matrix, whole) != []
    assert store.trials() == store.trials(whole) != []


def test_the_tables_of_a_set_have_the_names_and_types_of_the_stores(whole: Path) -> None:
    query = (
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal "
        "ORDER BY table_name, column_index"
    )
    with store.reader() as ours, store.reader(whole) as theirs:
        assert ours.execute(query).fetchall() == theirs.execute(query).fetchall()
        for table in released.TABLES:
            count = f"SELECT count(*) FROM {table}"
            assert theirs.execute(count).fetchone()[0] == (
                ours.execute(count).fetchone()[0] - (table == "artifacts")
            )


def test_items_are_released_to_the_letter(whole: Path) -> None:
    query = "SELECT * FROM items ORDER BY cell, item"
    with store.reader() as connection:
        ours = connection.execute(query).fetchall()
    found = duckdb.execute(f"SELECT * FROM '{whole}/items.parquet' ORDER BY cell, item")
    assert found.fetchall() == ours
    assert len(ours) == 6


def test_only_the_matrices_that_are_named_are_released(filled: Path, tmp_path: Path) -> None:
    path = export("part", ["one"], out=tmp_path / "part")
    sizes = {table: len(pd.read_parquet(path / f"{table}.parquet")) for table in released.TABLES}
    assert sizes == {
        "runs": 1, "artifacts": 2, "cells": 1, "items": 3, "placements": 2, "sweeps": 1,
        "trials": 1,
    }  # fmt: skip
    # the model, and what it was made from
    assert set(pd.read_parquet(path / "artifacts.parquet")["key"]) == {"m", "base"}
    assert set(store.placed(path)["matrix"]) == {"one"}
    assert store.outcomes("two", path).empty


def test_a_run_of_another_matrix_that_scored_a_cell_comes_along(
    filled: Path, tmp_path: Path
) -> None:
    with store.writer() as writer:
        writer.place("two", [placed("m", Path("/x"), "a")])
        writer.snapshot(now=True)
    path = export("two", ["two"], out=tmp_path / "two")
    assert set(pd.read_parquet(path / "runs.parquet")["run_id"]) == {"r1", "r2"}


def test_no_path_of_the_machine_is_in_a_set(whole: Path, filled: Path) -> None:
    said = text_of(whole)
    for root in (filled, CHECKOUT, "/srv", "/mnt"):
        assert str(root) not in said
    assert set(store.placed(whole)["model_path"]) == {"artifacts/train/m", "base", "llama"}
    with store.reader(whole) as connection:
        (manifest,) = connection.execute(
            "SELECT manifest FROM artifacts WHERE key = 'm'"
        ).fetchone()
    assert json.loads(manifest)["recipe"]["models"] == [
        *("artifacts/train/m", "harness/x", "corpus.txt")
    ]


@pytest.mark.slow
def test_no_path_of_the_machine_is_in_the_set_of_a_matrix_that_ran(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAEC_HOME", str(ran))
    path = export("nano-1", out=tmp_path / "set")
    said = text_of(path)
    assert str(ran) not in said and str(CHECKOUT) not in said and str(Path.home()) not in said
    assert sum(file.stat().st_size for file in path.iterdir()) < 200_000
    paths = ["model_path", "task_path"]
    pd.testing.assert_frame_equal(
        store.placed().drop(columns=paths), store.placed(path).drop(columns=paths)
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("harness/languages", "harness/languages"),
        ("embedded", "embedded"),
        ("/data/models/llama", "llama"),
        ("~/models/llama", "llama"),
        ("/data/{language}.tsv", "{language}.tsv"),
    ],
)
def test_a_path_reads_the_same_anywhere(home: Path, given: str, expected: str) -> None:
    assert portable(given) == expected
    assert portable(f"{home}/tasks/k") == "tasks/k"
    assert portable(f"{CHECKOUT}/harness/embedded/base") == "harness/embedded/base"


def test_the_manifest_has_a_hash_and_the_rows_of_every_file(whole: Path) -> None:
    manifest = json.loads((whole / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["files"]) == {path.name for path in whole.glob("*.parquet")}
    for name, entry in manifest["files"].items():
        content = (whole / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)
        assert entry["rows"] == len(pd.read_parquet(whole / name))
    assert manifest["release"] == "first" and manifest["licence"] == "Apache-2.0"
    assert manifest["matrices"] == {
        "one": {"rows": 2, "scored": 1}, "two": {"rows": 1, "scored": 1}
    }  # fmt: skip
    assert manifest["runs"]["r1"]["commit"] == "c0ffee"
    assert manifest["fingerprints"] == {"m": "f"}


def test_the_same_rows_are_the_same_bytes(whole: Path, filled: Path, tmp_path: Path) -> None:
    again = export("first", out=tmp_path / "again")
    for path in whole.glob("*.parquet"):
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


# --- what is refused ---------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught, store.reader(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder: Path, **entries: object) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, **entries}), encoding="utf-8")


def test_an_altered_file_is_refused_even_after_the_set_was_read(whole: Path) -> None:
    assert not store.placed(whole).empty
    path = whole / "cells.parquet"
    cells = pd.read_parquet(path).assign(score=1.0)
    cells.to_parquet(path)
    os.utime(path, ns=(1, 1))
    assert "cells.parquet: altered since it was released" in refusal(whole)


def test_a_missing_file_and_a_link_are_refused(whole: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.parquet"
    (whole / "runs.parquet").rename(target)
    assert "runs.parquet: there is no such file" in refusal(whole)
    (whole / "runs.parquet").symlink_to(target)
    assert "runs.parquet: there is no such file" in refusal(whole)


def test_a_manifest_cannot_name_a_file_outside_of_its_folder(whole: Path, tmp_path: Path) -> None:
    manifest = json.loads((whole / "manifest.json").read_text(encoding="utf-8"))
    outside = tmp_path / "runs.parquet"
    (whole / "runs.parquet").rename(outside)
    for name in ("../runs.parquet", str(outside), "sub/runs.parquet"):
        change(whole, files={**manifest["files"], name: manifest["files"]["runs.parquet"]})
        assert f"'{name}' is not allowed" in refusal(whole)


def test_a_broken_or_newer_manifest_is_refused_in_one_line(whole: Path) -> None:
    change(whole, schema_version=999)
    assert "schema_version: this set has 999" in refusal(whole)
    change(whole, schema_version=2, files={"cells.parquet": {"sha256": "no", "rows": 1}})
    assert "files.cells.parquet" in refusal(whole)
    (whole / "manifest.json").write_text("{", encoding="utf-8")
    assert "not valid JSON" in refusal(whole)
    (whole / "manifest.json").unlink()
    assert "cannot be read" in refusal(whole)


def test_a_set_of_an_older_schema_is_read_under_todays(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export("older", out=tmp_path / "older")
    before = store.placed(path)
    newer = (*schema.MIGRATIONS, "ALTER TABLE placements ADD COLUMN note VARCHAR DEFAULT 'new'")
    monkeypatch.setattr(released, "MIGRATIONS", newer)
    monkeypatch.setattr(released, "RELEASED", len(newer))
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    pd.testing.assert_frame_equal(store.placed(path), before)
    with store.reader(path) as connection:
        assert connection.execute("SELECT DISTINCT note FROM placements").fetchall() == [("new",)]
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [
            (len(newer),)
        ]


@pytest.mark.parametrize("file", [{"base": "models/llama"}, {"tasks": {"math": {"files": "x"}}}])
def test_what_is_not_the_projects_own_needs_a_licence(
    filled: Path, tmp_path: Path, file: dict
) -> None:
    with store.writer() as writer:
        writer.begin_run(run("r3", "one", **file))
        writer.snapshot(now=True)
    with pytest.raises(InputError, match=r"--licence: .* matrix 'one'"):
        export("x", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    path = export("x", licence="CC-BY-SA-4.0", out=tmp_path / "x")
    assert released.read_manifest(path).licence == "CC-BY-SA-4.0"


def test_an_export_that_cannot_be_is_refused_in_one_line_and_leaves_nothing(
    filled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name, matrices, said in (
        ("../x", [], "RELEASE: '../x' is no name"),
        ("x", ["tow"], "did you mean 'two'?"),
    ):
        with pytest.raises(InputError) as caught:
            export(name, matrices, out=out)
        assert said in str(caught.value) and "\n" not in str(caught.value)
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        export("x", out=out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    assert not list(tmp_path.glob(".partial-*"))


def test_nothing_can_be_released_before_the_first_run(home: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing was run here yet"):
        export("x", out=tmp_path / "x")


def test_an_export_that_fails_half_way_leaves_nothing(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.store.export._manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export("x", out=tmp_path / "x")
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".partial-*"))


def test_the_command_says_what_it_wrote(filled: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "export", "first", "--out", tmp_path / "set"],
        cwd=CHECKOUT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "one, two; 2 cells, 6 items" in done.stdout


# --- sources -----------------------------------------------------------------------------------


def test_sources_are_the_live_store_and_the_released_sets(filled: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"  # the fixture's MAEC_RESULTS
    for name in ("micro-2", "micro-1"):
        assert export(name) == results / name
    (results / "no-set").mkdir()
    (results / "report.md").write_text("text")
    assert store.sources() == [
        store.Source("this store", snapshot_path(), "store"),
        store.Source("micro-1", results / "micro-1", "release"),
        store.Source("micro-2", results / "micro-2", "release"),
    ]
    for source in store.sources():
        assert len(store.placed(source.path)) == 3


def test_without_a_run_there_are_only_released_sets(home: Path, tmp_path: Path) -> None:
    assert store.sources() == []

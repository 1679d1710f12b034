"""Somebody else's set comes in as it was released, or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness import store
from harness.store import release as released
from harness.store.export import export
from harness.store.importing import bring_in
from maec.errors import InputError
from tests.conftest import CHECKOUT
from tests.harness.test_release import filled, whole  # noqa: F401

SHIPPED = CHECKOUT / "results" / "micro-2026-11"


@pytest.fixture
def theirs(home: Path, tmp_path: Path) -> Path:
    """A copy of the shipped set, as it would be downloaded; MAEC_RESULTS is empty."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "downloads" / "their set"))


def rewritten(folder: Path, table: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Alter a table and make the manifest fit, as a forger or a broken program would."""
    path = folder / f"{table}.parquet"
    frame = change(pd.read_parquet(path))
    frame.to_parquet(path, index=False)
    content = path.read_bytes()
    entry = {
        "sha256": hashlib.sha256(content).hexdigest(), "rows": len(frame), "bytes": len(content)
    }  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][path.name] = entry
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def refused(folder: Path, results: Path, *arguments: str) -> str:
    before = sorted(results.rglob("*"))
    with pytest.raises(InputError) as caught:
        bring_in(folder, *arguments)
    assert "\n" not in str(caught.value)
    assert sorted(results.rglob("*")) == before
    return str(caught.value)


def test_a_set_comes_in_byte_for_byte_and_is_read_like_any_other(
    theirs: Path, tmp_path: Path
) -> None:
    (theirs / "notes.txt").write_text("not in the manifest")
    path = bring_in(theirs)
    assert path == tmp_path / "results" / "micro-2026-11"
    names = sorted(file.name for file in SHIPPED.iterdir())
    assert sorted(file.name for file in path.iterdir()) == names
    for name in names:
        assert (path / name).read_bytes() == (SHIPPED / name).read_bytes()
    assert [source.name for source in store.sources()] == ["micro-2026-11"]
    assert store.find_release("micro-2026-11") == path
    assert store.find_release(str(theirs)) == theirs
    assert len(store.placed(path)) == 90
    # what others measured is not measured here
    assert store.known() == (set(), {})


def test_a_set_with_a_name_that_is_taken_needs_another(theirs: Path, tmp_path: Path) -> None:
    bring_in(theirs)
    results = tmp_path / "results"
    assert "exists already" in refused(theirs, results)
    assert "--as: '../x' is no name" in refused(theirs, results, "../x")
    assert bring_in(theirs, "theirs") == results / "theirs"
    with pytest.raises(InputError, match="did you mean 'theirs'"):
        store.find_release("their")


def test_a_name_in_a_manifest_leads_nowhere_else(theirs: Path, tmp_path: Path) -> None:
    manifest = json.loads((theirs / "manifest.json").read_text(encoding="utf-8"))
    for name in ("../../outside", "/tmp/outside", "a/b", "", ".hidden", "name\n", "a" * 300):
        text = json.dumps({**manifest, "release": name})
        (theirs / "manifest.json").write_text(text, encoding="utf-8")
        assert "release: must match" in refused(theirs, tmp_path / "results")


@pytest.mark.parametrize(
    "name",
    [
        *("../items.parquet", "/etc/items.parquet", "a/../items.parquet", "items.parquet\0"),
        *("items.csv", "questions.parquet", "items-" + "9" * 5_000 + ".parquet", ".."),
    ],
)
def test_a_file_that_a_manifest_names_is_one_of_a_tables_or_the_set_is_refused(
    theirs: Path, tmp_path: Path, name: str
) -> None:
    manifest = json.loads((theirs / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = manifest["files"].pop("items.parquet")
    (theirs / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert "manifest.json: files: " in refused(theirs, tmp_path / "results")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY (SELECT 1) TO '{folder}/written.csv'",
        "ATTACH '{folder}/other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM 'https://example.com/x.parquet'",
    ],
)
def test_a_connection_to_a_set_reads_its_files_and_touches_nothing_else(
    theirs: Path, statement: str
) -> None:
    with store.reader(theirs) as connection:
        assert connection.execute("SELECT count(*) FROM items").fetchone() == (21_600,)
    with (
        pytest.raises(InputError, match=r"not a readable set .*(disabled|locked)"),
        store.reader(theirs) as connection,
    ):
        connection.execute(statement.format(folder=theirs))
    assert not (theirs / "written.csv").exists() and not (theirs / "other.db").exists()


def test_links_are_refused_wherever_they_lead(theirs: Path, tmp_path: Path) -> None:
    for name in ("items.parquet", "manifest.json"):
        real = tmp_path / name
        (theirs / name).rename(real)
        (theirs / name).symlink_to(real)
        said = refused(theirs, tmp_path / "results")
        assert name in said and ("no such file" in said or "is a link" in said)
        (theirs / name).unlink()
        real.rename(theirs / name)
    bring_in(theirs)


def test_altered_partial_and_newer_sets_are_refused(theirs: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    content = (theirs / "items.parquet").read_bytes()
    (theirs / "items.parquet").write_bytes(content[:-1])
    assert "items.parquet: altered since" in refused(theirs, results)
    (theirs / "items.parquet").unlink()
    assert "items.parquet: there is no such file" in refused(theirs, results)
    os.mkfifo(theirs / "items.parquet")  # reading it would never end
    assert "items.parquet: there is no such file" in refused(theirs, results)
    manifest = json.loads((theirs / "manifest.json").read_text(encoding="utf-8"))
    newer = json.dumps({**manifest, "schema_version": 999})
    (theirs / "manifest.json").write_text(newer, encoding="utf-8")
    assert "use a newer program" in refused(theirs, results)
    shutil.rmtree(theirs)
    assert "cannot be read" in refused(theirs, results)


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("items", lambda rows: rows.iloc[1:], "another number of items than it says"),
        ("items", lambda rows: rows[rows["cell"] != rows["cell"][0]], "another number of items"),
        ("items", lambda rows: rows.assign(correct=True), "not the share of its items"),
        ("cells", lambda rows: rows.iloc[1:], "a score that a matrix shows is not there"),
        ("cells", lambda rows: rows.assign(score=1.0), "not the share of its items"),
        ("runs", lambda rows: rows.iloc[:0], "run is not recorded"),
        ("items", lambda rows: rows.drop(columns="gold"), "not a readable set"),
        ("items", lambda rows: rows.assign(gold=None), "NOT NULL"),
        ("items", lambda rows: rows.assign(item=0), "duplicate key"),
        ("items", lambda rows: rows.assign(choices="a"), "not a readable set"),
        ("cells", lambda rows: rows.assign(n="many"), "Could not convert"),
        ("cells", lambda rows: rows.assign(metrics="{"), "Malformed JSON"),
        ("cells", lambda rows: rows.assign(metrics="[]"), "cells.metrics is no JSON object"),
    ],
)
def test_a_set_that_contradicts_itself_is_refused_though_its_hashes_fit(
    theirs: Path, tmp_path: Path, table: str, change: Callable, said: str
) -> None:
    rewritten(theirs, table, change)
    assert said in refused(theirs, tmp_path / "results")


def test_a_file_that_changes_while_it_is_copied_is_found_out(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.copyfile

    def changed(source: Path, target: Path, **options: bool) -> None:
        real(source, target, **options)
        with open(target, "ab") as file:
            file.write(b"x")

    monkeypatch.setattr(shutil, "copyfile", changed)
    assert "altered since" in refused(theirs, tmp_path / "results")


# --- sets in parts -----------------------------------------------------------------------------


def test_a_large_table_is_released_in_parts_that_read_as_one(
    whole: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.store.export.PART", 1_500)
    parts = export("parts", out=tmp_path / "parts")
    names = sorted(path.name for path in parts.glob("items*"))
    assert names == ["items-1.parquet", "items-2.parquet"]
    with store.reader(whole) as one, store.reader(parts) as other:
        for table in released.TABLES:
            query = f"SELECT * FROM {table}"
            assert other.execute(query).fetchall() == one.execute(query).fetchall()
    (parts / "items-2.parquet").unlink()
    assert "items-2.parquet: there is no such file" in refused(parts, tmp_path / "results")


@pytest.mark.parametrize(
    "names",
    [
        ["items-2.parquet"],
        ["items-1.parquet", "items-3.parquet"],
        ["items.parquet", "items-1.parquet"],
        ["items-01.parquet"],
        ["items-0.parquet"],
        [],
    ],
)
def test_parts_are_numbered_from_one_without_a_gap(names: list[str]) -> None:
    others = [f"{table}.parquet" for table in released.TABLES if table != "items"]
    with pytest.raises(ValueError, match="items"):
        released.by_table([*others, *names])
    assert released.by_table([*others, "items-2.parquet", "items-1.parquet"])["items"] == [
        *("items-1.parquet", "items-2.parquet")
    ]

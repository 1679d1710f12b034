"""Nothing that was committed is lost, whatever is damaged; and nothing damaged is used."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import artifacts, doctor, live, store
from harness.execute import execute
from harness.home import living_in, snapshot_path, store_path
from harness.manifests import sealed
from harness.plan import make_plan
from harness.spec import load_matrix
from harness.steps import Step
from harness.store import records
from harness.store.export import export
from maec.checkpoint import fingerprint as checkpoint_fingerprint
from maec.checkpoint import open_checkpoint
from maec.errors import Damaged, InputError
from tests.conftest import CHECKOUT, NANO, environment
from tests.harness.test_store import cell, items
from tests.maec.checkpoints import llama, write

HOURS = {"started": datetime(2026, 1, 1, tzinfo=UTC), "created": datetime(2026, 1, 2, tzinfo=UTC)}
CELLS = ("a", "b", "c", "d")
TEXT = {"metric": "bits_per_byte", "score": 2.5 / 3 / 0.6931471805599453, "n": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a run and a sweep ended: something in every table, and one artifact."""
    folder = tmp_path_factory.mktemp("whole") / "home"
    with living_in(folder):
        fill(folder)
    return folder


@pytest.fixture
def kept(whole: Path, home: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole, home))


def fill(home: Path) -> None:
    folder = home / "artifacts" / "train" / "k"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    manifest = {
        "key": "k", "kind": "train", "label": "ability", "fingerprint": "f", "inputs": {},
        "created": "2026-01-02T00:00:00+00:00",
    }  # fmt: skip
    manifest = sealed(manifest, folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with store.writer() as writer:
        writer.begin_run(
            {
                "run_id": "r", "matrix": "m", "matrix_file": {"base": "embedded"},
                "started": HOURS["started"], "versions": {}, "hardware": {}, "commit": "c",
                "dirty": False,
            }
        )  # fmt: skip
        writer.claim_questions("test", ["q1", "q2"], "m.yaml")
        described = {name: manifest[name] for name in ("key", "kind", "label", "fingerprint")}
        described |= {"path": str(folder), "manifest": manifest, "created": HOURS["created"]}
        writer.record_artifact(described)
        for key in CELLS:
            writer.commit_cell(cell(key, model_key="k"), items(key, [True, False, True, False]))
        text = {"item": 0, "id": "0", "prompt": "", "gold": "abc", "loglikelihoods": [-2.5]}
        writer.commit_cell(cell("t", model_key="k", **TEXT), [{"cell": "t", **text}])
        place(writer, [*CELLS, "t", None])
        sweep = {
            "key": "s", "matrix": "m", "method": "tv", "ability": "math", "seed": 0, "space": {},
            "start": {}, "languages": ["te"], "items": 1, "sampler": "TPE", "versions": {},
            "commit": None, "created": HOURS["created"],
        }  # fmt: skip
        writer.begin_sweep(sweep, ["d1"], "m.yaml")
        trial = {
            "sweep": "s", "parameters": {"scale": 0.5}, "score": 1.0, "by_language": {"te": 1.0},
            "correct": [True], "seconds": 1.0, "training_seconds": 0.0, "created": HOURS["created"],
        }  # fmt: skip
        for number in range(2):
            writer.record_trial({**trial, "number": number})
        writer.finish_run("r", "done", HOURS["created"], {"items": 9})
        writer.snapshot(now=True)


def place(writer: store.Writer, cells: list[str | None]) -> None:
    row = {
        "variant": "", "method": "tv", "title": "TV", "family": "merging", "ability": "math",
        "asked": "math", "language": "te", "seed": 0, "model_key": "k", "model_path": "/k",
    }  # fmt: skip
    writer.place("m", [{**row, "cell": key} for key in cells])


def content(path: Path | None = None) -> dict[str, list[tuple]]:
    with duckdb.connect(str(path or store_path()), read_only=True) as connection:
        tables = [table for (table,) in connection.execute("SHOW TABLES").fetchall()]
        return {
            # every home has another path of its own
            table: connection.execute(
                f"SELECT COLUMNS(lambda name: name <> 'path') FROM {table} ORDER BY ALL"
            ).fetchall()
            for table in tables
        }


def change(statement: str) -> None:
    with duckdb.connect(str(store_path())) as connection:
        connection.execute(statement)


def found() -> list[str]:
    """Each finding, after its kind, with the name alone of where it is."""
    findings = doctor.examine().findings
    return [f"{one.kind}: {one.where.name}: {one.what}; {one.advice}" for one in findings]


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    bit %= len(data) * 8
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def everything(home: Path) -> dict[str, bytes]:
    return {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if p.is_file()}


# --- what is looked at -------------------------------------------------------------------------


def test_a_home_in_which_nothing_is_wrong_is_sound_and_stays_as_it_is(kept: Path) -> None:
    before = everything(kept)
    assert doctor.examine() == doctor.Examined([], cells=5, artifacts=1, gone=0)
    was, left = doctor.repair()
    assert was.findings == left.findings == []
    assert everything(kept) == before


ROWS = {
    "DELETE FROM items WHERE cell = 'a' AND item = 3": "cell a: a cell has another number of items",
    "UPDATE cells SET score = 0.75 WHERE key = 'b'": "cell b: a score is not the share of its",
    "UPDATE items SET correct = NOT correct WHERE cell = 'b' AND item = 0": "cell b: a score",
    "UPDATE cells SET score = 1.5 WHERE key = 't'": "cell t: a score is not the bits per byte",
    "DELETE FROM cells WHERE key = 'c'": "cell c: items belong to no cell",
    "DELETE FROM items WHERE cell = 'd'; DELETE FROM cells WHERE key = 'd'": "cell d: a score that "
    "a matrix shows is not there",
    "DELETE FROM runs": "cell a: a cell's run is not recorded",
    "DELETE FROM artifacts": "k: its manifest is not in the store",
    "DELETE FROM trials WHERE number = 1": "s.json.gz: has other rows than the store",
    "DELETE FROM questions WHERE question = 'q1'": "test.json.gz: has other rows than the store",
}
"""Damage that DuckDB does not see, and what is said of it."""


def test_what_contradicts_itself_is_named_and_restored_to_what_it_was(kept: Path) -> None:
    before = content()
    for statement in ROWS:
        change(statement)
    lines = found()
    for said in ROWS.values():
        assert any(said in line for line in lines), said
    assert all("\n" not in line and "doctor --repair" in line for line in lines)
    was, left = doctor.repair()
    assert was.findings and left.findings == found() == []
    assert content() == content(snapshot_path()) == before


def older_log(home: Path) -> None:
    """Put the log of an earlier state beside the store, as a careless restore does."""
    earlier = Path(shutil.copy(store_path(), home.parent))
    log = f"{earlier.name}.wal"
    change("CREATE TABLE later (it INTEGER); DROP TABLE later")
    with duckdb.connect(str(earlier)) as connection:
        connection.execute("DELETE FROM items")
        shutil.copy(earlier.with_name(log), home)


FILES: dict[str, Callable[[Path], object]] = {
    "store: store.duckdb: this is no": lambda home: store_path().write_bytes(b""),
    "store: store.duckdb: this is not a readable": older_log,
    "store: store.duckdb: it is gone": lambda home: store_path().unlink(),
    "snapshot: snapshot.duckdb: this is no": lambda home: snapshot_path().write_bytes(b"DUCK"),
    "snapshot: snapshot.duckdb: ": lambda home: snapshot_path().unlink(),
    "record: cells: 5 cells in the store have no": lambda home: shutil.rmtree(home / "records"),
    "record: a.json.gz: this record is": lambda home: flip(records.path_of("cells", "a"), 900),
    "leftover: .partial-k: a killed run left": lambda home: (home / ".partial-k").mkdir(),
}


@pytest.mark.parametrize(("said", "damage"), FILES.items())
def test_a_file_that_is_damaged_or_gone_is_named_and_restored(
    kept: Path, said: str, damage: Callable[[Path], object]
) -> None:
    before = content()
    damage(kept)
    assert any(line.startswith(said) for line in found())
    was, left = doctor.repair()
    assert was.findings and left.findings == []
    assert content() == content(snapshot_path()) == before


def test_a_store_that_is_gone_is_not_begun_anew(kept: Path) -> None:
    store_path().unlink()
    with (
        pytest.raises(InputError, match=r"store.duckdb: it is gone; `harness doctor"),
        store.writer(),
    ):
        pass
    assert not store_path().exists()


def test_a_snapshot_that_is_cut_short_is_refused_in_one_line(kept: Path) -> None:
    size = snapshot_path().stat().st_size
    for share in (0.9, 0.6, 0.3, 0.01):
        os.truncate(snapshot_path(), int(share * size))
        # of some blocks it shows when they are read
        with pytest.raises(InputError, match=r"snapshot.duckdb: this is not a readable .* doctor"):
            _ = [store.placed(), store.scores(CELLS), store.trials()]


def test_a_cell_that_was_recorded_when_its_run_was_killed_is_taken_in(kept: Path) -> None:
    recorded = content()
    change("DELETE FROM items WHERE cell = 'a'; DELETE FROM cells WHERE key = 'a'")
    change("UPDATE placements SET cell = NULL WHERE cell = 'a'")
    assert any("1 cells were recorded and are not in the store, such as a" in x for x in found())
    assert doctor.repair()[1].findings == []
    assert content()["items"] == recorded["items"] and content()["cells"] == recorded["cells"]


def test_a_score_of_other_weights_than_its_model_has_is_shown_no_more(kept: Path) -> None:
    change("UPDATE cells SET fingerprint = 'other' WHERE key = 'a'")
    assert any("other weights than its model has now" in line for line in found())
    assert doctor.repair()[1].findings == []
    assert list(store.placed()["cell"].dropna()) == ["b", "c", "d", "t"]
    assert store.known()[0] == {*CELLS, "t"}  # it is a score of the weights that were


def test_what_contradicts_itself_and_was_never_recorded_is_left_to_the_next_run(kept: Path) -> None:
    shutil.rmtree(kept / "records")
    snapshot_path().unlink()
    change("DELETE FROM items WHERE cell = 'a' AND item = 3")
    damaged = store_path().read_bytes()
    assert doctor.repair()[1].findings == []
    assert store.known()[0] == {"b", "c", "d", "t"}
    (aside,) = kept.glob("store.damaged-*.duckdb")
    assert aside.read_bytes() == damaged


def test_a_store_of_a_newer_version_is_refused_and_stays_as_it_is(kept: Path) -> None:
    change("UPDATE schema_version SET version = 999")
    before = everything(kept)
    for look in (doctor.examine, doctor.repair):
        with pytest.raises(InputError, match="schema version 999"):
            look()
    assert everything(kept) == before


# --- a store that is damaged anywhere ----------------------------------------------------------

ANYWHERE = settings(max_examples=6, deadline=None)


@ANYWHERE
@given(
    at=st.floats(0, 1, exclude_max=True),
    cut=st.booleans(),
    without=st.sampled_from(["nothing", "records", "snapshot"]),
)
def test_a_store_cut_or_altered_anywhere_comes_back_whole(
    whole: Path, at: float, cut: bool, without: str
) -> None:
    with TemporaryDirectory() as scratch, living_in(Path(scratch)):
        home = shutil.copytree(whole, Path(scratch), dirs_exist_ok=True)
        before = content()
        place = int(at * store_path().stat().st_size)
        os.truncate(store_path(), place) if cut else flip(store_path(), place * 8)
        damaged = store_path().read_bytes()
        if without == "records":
            shutil.rmtree(home / "records")
        if without == "snapshot":
            snapshot_path().unlink()
        assert doctor.repair()[1].findings == []
        after = content()
        # what it was is kept; damage to a part that DuckDB does not use is none
        asides = [path.read_bytes() for path in home.glob("store.damaged-*")]
        if asides:
            assert asides == [damaged]
            if without == "snapshot":  # the next run places its cells anew
                del before["placements"], after["placements"]
        assert after == before
        with store.writer() as writer:  # indexes, too
            writer.commit_cell(cell("new"), items("new", [True, True, False, False]))
            with pytest.raises(duckdb.ConstraintException):
                writer.commit_cell(cell("a"), items("a", [True]))


def test_cells_that_are_left_in_a_released_set_alone_come_back_if_they_were_scored_here(
    kept: Path, tmp_path: Path
) -> None:
    export("mine", ["m"], licence="MIT", out=tmp_path / "results" / "mine")
    before = content()
    shutil.rmtree(kept / "records" / "cells")
    snapshot_path().unlink()
    os.truncate(store_path(), 5000)
    assert doctor.repair()[1].findings == []
    after = content()
    assert after["items"] == before["items"]
    assert [row[0] for row in after["cells"]] == [*CELLS, "t"]
    # to a store that knows nothing of the run, they are somebody else's
    shutil.rmtree(kept / "records")
    for path in kept.glob("*.duckdb"):
        path.unlink()
    assert doctor.repair()[1].findings == []
    assert content()["cells"] == []


def test_a_released_set_that_was_altered_is_named_and_cannot_be_repaired(
    kept: Path, tmp_path: Path
) -> None:
    path = export("mine", ["m"], licence="MIT", out=tmp_path / "results" / "mine")
    assert found() == []
    flip(path / "items.parquet", 999)
    (line,) = found()
    assert "items.parquet: altered since it was released" in line and "get the set again" in line
    assert doctor.repair()[1].findings == doctor.examine().findings != []


@ANYWHERE
@given(bit=st.integers(0, 10**6))
def test_a_record_with_any_bit_changed_is_known_as_damaged_or_says_the_same(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, bit: int
) -> None:
    with living_in(whole):
        path = records.path_of("cells", "a")
    altered = tmp_path_factory.mktemp("record") / path.name
    shutil.copyfile(path, altered)
    flip(altered, bit)
    with suppress(Damaged):
        assert records.read(altered) == records.read(path)


# --- artifacts ---------------------------------------------------------------------------------


@ANYWHERE
@given(
    name=st.sampled_from(["config.json", "model.safetensors", "manifest.json"]),
    at=st.floats(0, 1, exclude_max=True),
    cut=st.booleans(),
)
def test_an_artifact_with_any_bit_changed_or_cut_short_is_found(
    whole: Path, name: str, at: float, cut: bool
) -> None:
    with TemporaryDirectory() as scratch, living_in(Path(scratch)):
        home = shutil.copytree(whole, Path(scratch), dirs_exist_ok=True)
        folder = home / "artifacts" / "train" / "k"
        place = int(at * (folder / name).stat().st_size)
        os.truncate(folder / name, place) if cut else flip(folder / name, int(place * 8 + at * 8))
        was, left = doctor.repair()
        assert [finding.where for finding in was.findings] == [folder]
        assert left == doctor.Examined([], cells=5, artifacts=0, gone=1)


def made(home: Path, kind: str, key: str) -> Step:
    """A step that looks as if the artifact of that kind and key were its own."""
    step = Step(kind=kind, settings={}, label="ability math")
    step.__dict__["key"] = key
    assert step.folder == home / "artifacts" / kind / key
    return step


def test_a_step_does_not_use_a_damaged_input_and_sets_it_aside_to_be_made_again(
    kept: Path,
) -> None:
    part = made(kept, "train", "k")
    assert part.done
    artifacts.require_sound(part)
    flip(part.folder / "model.safetensors", 12345)
    merge = Step(kind="mergekit", settings={}, inputs={"base": part}, label="merge")
    with pytest.raises(Damaged, match="ability math was damaged after it was made") as caught:
        execute(merge)
    assert "\n" not in str(caught.value) and not merge.folder.exists()
    assert not part.done
    (aside,) = part.folder.parent.iterdir()
    assert aside.name.startswith(".damaged-k-") and (aside / "model.safetensors").is_file()
    assert doctor.examine().findings == []


def test_an_engine_does_not_serve_a_damaged_model_and_that_is_not_the_models_fault(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(load_matrix(CHECKOUT / NANO))
    monkeypatch.setattr(live, "start", lambda *_, **__: SimpleNamespace(start_seconds=1.0))
    model = made(kept, "train", "k")
    flip(model.folder / "model.safetensors", 1)
    tasks = [cell.task for cell in plan.cells[:2]]
    answer = live.Live().answer(plan.matrix.engine, plan.cells[0].base, model, tasks)
    assert answer.failures.keys() == {task.name for task in tasks} and answer.results == {}
    for failure in answer.failures.values():
        assert "was damaged after it was made" in failure.why and not failure.lasting
    assert not model.done


def test_a_model_that_was_made_again_with_other_weights_has_other_scores(home: Path) -> None:
    plan = make_plan(load_matrix(CHECKOUT / NANO))
    wanted = next(cell for cell in plan.cells if cell.model.kind == "train")
    plan.made(wanted.model, "these")
    before = plan.key(wanted)
    plan.made(wanted.model, "those")
    assert None not in (before, plan.key(wanted)) and before != plan.key(wanted)
    plan.made(wanted.model, "these")
    assert plan.key(wanted) == before


def test_an_artifact_from_before_digests_is_known_by_the_fingerprint_of_its_weights(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "model", llama(np.random.default_rng(0)))
    fingerprint = checkpoint_fingerprint(open_checkpoint(folder))
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": fingerprint}))
    assert artifacts.damage(folder) is None
    weights = folder / "model.safetensors"
    flip(weights, weights.stat().st_size * 8 - 100)
    assert artifacts.damage(folder) == "its weights are not those of its manifest"


def test_a_damaged_file_of_the_hubs_cache_is_set_aside_and_its_commit_is_remembered(
    home: Path, tmp_path: Path
) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"weights" * 100)
    step = made(home, "fetch", "f")
    step.folder.mkdir(parents=True)
    (step.folder / "model.safetensors").symlink_to(blob)
    manifest = sealed({"fingerprint": None, "commit": "abc"}, step.folder)
    (step.folder / "manifest.json").write_text(json.dumps(manifest))
    artifacts.require_sound(step)
    flip(blob, 99)
    with pytest.raises(Damaged):
        artifacts.require_sound(step)
    assert not blob.exists() and list(tmp_path.glob(".damaged-blob-*"))
    assert [entry["commit"] for entry in artifacts.before(step.folder)] == ["abc"]


# --- questions ---------------------------------------------------------------------------------


def test_questions_that_were_altered_are_not_asked(home: Path) -> None:
    task = make_plan(load_matrix(CHECKOUT / NANO)).cells[0].task
    folder = task.write()
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    flip(folder / f"{task.name}.jsonl", 4321)
    assert task.write() == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == written
    state = folder.stat()
    assert task.write().stat() == state  # what is as it should be stays


# --- the command -------------------------------------------------------------------------------


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        capture_output=True,
        text=True,
        env=environment(home),
        cwd=CHECKOUT,
    )


def test_without_a_store_or_beside_a_writer_it_refuses_in_one_line(home: Path) -> None:
    done = command(home, "doctor")
    assert done.returncode == 2 and "nothing was run here yet" in done.stderr
    assert not home.exists()
    with store.writer():
        done = command(home, "doctor", "--repair")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"process {os.getpid()} on {socket.gethostname()}" in done.stderr


@pytest.mark.slow
def test_a_matrix_that_ran_is_sound_and_survives_damage_of_all_kinds(
    ran: Path, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(ran, tmp_path / "home", symlinks=True))
    before = json.loads(command(home, "table", NANO, "--json").stdout)
    done = command(home, "doctor", "--json")
    assert done.returncode == 0, done.stdout
    sound = json.loads(done.stdout)["left"]
    assert sound["cells"] > 0 and sound["artifacts"] > 0 and not sound["findings"]
    with living_in(home):
        os.truncate(store_path(), store_path().stat().st_size // 2)
        snapshot_path().write_bytes(b"")
        (pack, *_) = (home / "artifacts" / "extract").iterdir()
        flip(pack / "pack.safetensors", 8 * 5000)
    refused = command(home, "run", NANO)
    assert refused.returncode == 2 and "doctor --repair" in refused.stderr
    done = command(home, "doctor")
    assert done.returncode == 1
    assert f"{pack}: pack.safetensors has BLAKE3" in done.stdout
    assert "store.duckdb: this is not a readable store" in done.stdout
    assert command(home, "doctor", "--repair").returncode == 0
    assert command(home, "doctor", "--quick").returncode == 0
    assert json.loads(command(home, "table", NANO, "--json").stdout) == before
    with living_in(home):
        plan = make_plan(load_matrix(CHECKOUT / NANO))
    assert not plan.missing_cells and not pack.exists()

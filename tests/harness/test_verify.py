"""A set is measured again from nothing: equal to the last bit, or said not to be."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from harness import cli, store
from harness import verify as verifying
from harness.home import snapshot_path
from harness.steps import Step
from harness.store import view
from harness.store.export import export
from harness.verify import Verification
from maec.errors import InputError
from tests.conftest import CHECKOUT
from tests.harness.test_import import SHIPPED, rewritten


def verify(release: Path, cells: int = 3, seed: int = 1, **options: Any) -> Verification:
    return verifying.verify(str(release), cells, seed, Console(quiet=True), **options)


def fitting(folder: Path, table: str, **columns: Any) -> None:
    rewritten(folder, table, lambda frame: frame.assign(**columns))


@pytest.mark.slow
def test_a_released_matrix_is_measured_again_to_the_last_bit(
    ran: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAEC_HOME", str(ran))
    path = export("nano-1")
    # a home in which every cell has its score, which is not to be believed
    home.mkdir()
    shutil.copy(ran / "snapshot.duckdb", home)
    monkeypatch.setenv("MAEC_HOME", str(home))
    assert len(store.known()[0]) > 100

    found = verify(Path("nano-1"))
    assert found.good and found.differs == {}
    assert [check.verdict for check in found.checks] == ["equal"] * 3
    assert all(check.agreement.same_model for check in found.checks)
    assert {check.agreement.items for check in found.checks} <= {4, 12}
    assert found.home.parent == home / "verify"
    assert not (home / "artifacts").exists()
    own = found.home / "snapshot.duckdb"
    assert len(view.progress(own)) == 1 and len(view.places(own)) == 3
    # of other cells' steps none was made
    needed = {check.place.method for check in found.checks}
    made = {path.parent.name for path in found.home.glob("artifacts/*/*")}
    assert ("combine" in made) == ("maec" in needed) and len(made) < 5

    # what is done is not done again, in another process either
    again = verify(Path("nano-1"))
    assert again.good and len(view.progress(own)) == 1

    # a score that nobody measured
    forged = Path(shutil.copytree(path, tmp_path / "forged"))
    cell = found.checks[0].cell
    items = pd.read_parquet(forged / "items.parquet")
    right = items["correct"].where(items["cell"] != cell, ~items["correct"].astype(bool))
    fitting(forged, "items", correct=right)
    cells = pd.read_parquet(forged / "cells.parquet")
    score = cells["score"].where(cells["key"] != cell, 1 - cells["score"])
    fitting(forged, "cells", score=score)
    for name in ("runs",):  # the same measurements on another processor would be no excuse
        runs = pd.read_parquet(forged / f"{name}.parquet")
        hardware = [json.dumps({**json.loads(h), "processor": "Z80"}) for h in runs["hardware"]]
        fitting(forged, name, hardware=hardware)
    denied = verify(forged)
    assert not denied.good and "processor" in denied.differs
    by_cell = {check.cell: check for check in denied.checks}
    assert by_cell[cell].verdict == "differs"
    assert {check.verdict for key, check in by_cell.items() if key != cell} == {"equal"}
    assert len(view.progress(own)) == 1


def test_cells_are_drawn_by_a_seed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_again", lambda path, drawn, *rest: list(drawn))
    dozen = view.places(SHIPPED)[:12]
    monkeypatch.setattr(view, "places", lambda path: dozen)

    def drawn(cells: int, seed: int) -> list[str]:
        found = verify(SHIPPED, cells, seed)
        assert not found.good and {check.verdict for check in found.checks} == {"not run"}
        return [check.cell for check in found.checks]

    first = drawn(4, 0)
    assert first == drawn(4, 0) != drawn(4, 1)
    assert len(set(first)) == 4
    assert len(set(drawn(1000, 0))) == 12
    assert not snapshot_path().exists()


def test_what_this_program_would_ask_otherwise_is_not_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("was run")

    monkeypatch.setattr("harness.run.run", nothing)
    monkeypatch.setattr(
        "harness.tasks.TEMPLATES", {"math": "embedded_science", "science": "embedded_math"}
    )
    found = verify(SHIPPED, 2, 0)
    assert not found.good
    for check in found.checks:
        assert (
            check.verdict == "not run" and "this program asks otherwise: task" in check.reasons[0]
        )


def test_a_run_that_fails_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.run import Outcome

    failed = Outcome(failures={"ability math en": "no memory"})
    monkeypatch.setattr("harness.run.run", lambda *_, **__: failed)
    (check,) = verify(SHIPPED, 1, 0).checks
    assert check.verdict == "not run" and check.reasons == ("ability math en: no memory",)


def test_a_set_that_cannot_be_verified_is_refused_in_one_line(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Path(shutil.copytree(SHIPPED, tmp_path / "theirs"))
    runs = pd.read_parquet(theirs / "runs.parquet")
    (file,) = runs["matrix_file"].map(json.loads)
    for change, said in (
        ({"methods": ["no-such"]}, "no such matrix any more: .*unknown method 'no-such'"),
        ({"base": "my-base"}, "matrices/micro.yaml: base: .*my-base"),
        (
            {"base": "org/base", "engine": {"trust_remote_code": ["org/base"]}},
            "'micro' runs code of its models",
        ),
        ({"engine": {"trust_remote_code": True}}, "name the models that may run their own code"),
    ):
        fitting(theirs, "runs", matrix_file=[json.dumps({**file, **change})])
        with pytest.raises(InputError, match=said):
            verify(theirs)
    with pytest.raises(InputError, match="is no released set"):
        verify(tmp_path)
    (theirs / "items.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="altered"):
        verify(theirs)
    assert not home.exists()


def test_the_step_that_first_made_other_weights_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Step("base", {"fingerprint": "b"}, label="base")
    model = Step("train", {}, {"start": base}, label="language es")
    mask = Step("locate", {}, {"trained": model}, label="key neurons")
    merged = Step("combine", {}, {"mask": mask, "language": model}, label="combine math")
    steps = {step.key: step.label for step in merged.walk()}
    released = {key: {"fingerprint": label} for key, label in steps.items()}
    released[mask.key] = {}  # a mask has none
    monkeypatch.setattr(view, "manifests", lambda path, keys: released)

    def first(*others: Step) -> str | None:
        changed = {step.key for step in others}
        plan = SimpleNamespace(
            fingerprint=lambda step: "other" if step.key in changed else step.label
        )
        return verifying._first_other(SHIPPED, SimpleNamespace(model=merged), plan)

    assert first() is None
    assert first(merged) == f"combine combine math ({merged.key[:12]})"
    assert first(merged, mask, model) == f"train language es ({model.key[:12]})"


def test_an_interrupted_verification_ends_with_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.run.run", interrupted)
    monkeypatch.setenv("MAEC_RESULTS", str(CHECKOUT / "results"))
    monkeypatch.setattr("sys.argv", ["harness", "verify", SHIPPED.name, "--cells", "1"])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 130
    assert capsys.readouterr().err.endswith("run the same command again to go on\n")

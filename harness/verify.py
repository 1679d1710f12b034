"""Measure cells of a released set again, from nothing, and say what differs and why.

Everything that a drawn cell needs is made anew by the ordinary machinery, in a home of its own
below MAEC_HOME: neither a score nor an artifact of this machine stands in for another measurement.
The home belongs to this program on this kind of machine, so that an interrupted verification goes
on, and a changed one starts anew.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import machine
from harness import run as running
from harness.agreement import (
    HARDWARE,
    RULE,
    VERSIONS,
    Agreement,
    agreement,
    by_chance,
    surroundings,
)
from harness.execute import versions
from harness.home import CHECKOUT, home, living_in, snapshot_path
from harness.identity import digest
from harness.plan import Cell, Place, Plan, make_plan
from harness.spec import Matrix, check_matrix
from harness.store import find_release, view
from harness.store.release import Manifest, read_manifest
from harness.tasks import fetch
from maec.errors import InputError

EQUAL, EXPLAINED, DIFFERS, NOT_RUN = "equal", "hardware rule", "differs", "not run"


@dataclass(frozen=True)
class Check:
    """One drawn cell: what was released, what came out again, and what that means.

    ``same_step`` says whether this program makes the cell's model by the step that made it then,
    ``other`` which step was the first to make other weights, ``reasons`` why the verdict is not
    better; ``again`` and ``agreement`` are None where nothing came out.
    """

    cell: str
    matrix: str
    place: Place
    released: Mapping[str, Any]
    same_step: bool
    again: Mapping[str, Any] | None = None
    agreement: Agreement | None = None
    other: str | None = None
    verdict: str = NOT_RUN
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """All that a verification found; ``differs`` is what may excuse a difference, by name."""

    path: Path
    manifest: Manifest
    home: Path
    seed: int
    cells: int
    checks: list[Check]
    differs: dict[str, tuple[Any, Any]]

    @property
    def good(self) -> bool:
        """Whether every cell is equal, or its difference falls under the rule."""
        return all(check.verdict in (EQUAL, EXPLAINED) for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        return {
            "release": self.manifest.release,
            "cells": self.cells,
            "seed": self.seed,
            "good": self.good,
            "rule": RULE,
            "differs": {name: list(pair) for name, pair in self.differs.items()},
            "checks": [_json(check) for check in self.checks],
        }


def verify(
    release: str,
    count: int,
    seed: int,
    console: Console,
    *,
    beside: Path = CHECKOUT / "harness" / "matrices",
    workers: int | None = None,
) -> Verification:
    """Run ``count`` cells of a set again and compare them, item by item, with what was released.

    Paths in its matrix files are relative to the folder ``beside``.

    Raises:
        InputError: there is no such set, it was altered, or this program cannot plan its matrices.
    """
    path = find_release(release)
    every = view.places(path)
    if not every:
        raise InputError(f"{path}: holds no score")
    drawn = random.Random(seed).sample(every, min(count, len(every)))
    matrices = _matrices(path, {row["matrix"] for row in drawn}, beside)
    folder = home() / "verify" / _who()
    checks: list[Check] = []
    with living_in(folder):
        for matrix in matrices.values():
            fetch(matrix, console)
        plans = {name: make_plan(matrix) for name, matrix in matrices.items()}
        for name, plan in plans.items():
            own = [_begin(path, row, plan) for row in drawn if row["matrix"] == name]
            checks += _again(path, own, plan.matrix, console, workers)
    p = by_chance({check.cell: check.agreement for check in checks if check.agreement})
    checks = [_judged(check, p.get(check.cell, 1.0)) for check in checks]
    return Verification(
        path=path,
        manifest=read_manifest(path),
        home=folder,
        seed=seed,
        cells=len(every),
        checks=checks,
        differs={
            name: pair
            for check in checks
            if check.again
            for name, pair in surroundings(check.released["run"], check.again["run"]).items()
        },
    )


def _who() -> str:
    """A name for this program on this kind of machine."""
    hardware, used = machine.hardware(), versions()
    return digest(
        [machine.commit(), {k: hardware[k] for k in HARDWARE}, {k: used.get(k) for k in VERSIONS}]
    )[:12]


def _matrices(path: Path, names: set[str], beside: Path) -> dict[str, Matrix]:
    files = view.matrix_files(path)
    found = {}
    for name in sorted(names):
        if name not in files:
            raise InputError(f"{path}: runs.parquet: no run of matrix '{name}', so no matrix file")
        try:
            found[name] = check_matrix(files[name], beside / f"{name}.yaml")
        except InputError as error:
            raise InputError(f"{path}: this program has no such matrix any more: {error}") from None
        if any(engine.trust_remote_code for engine in found[name].engines().values()):
            raise InputError(
                f"{path}: matrix '{name}' runs code of its models (engine.trust_remote_code), "
                "which is not done for a set of others; read that code, and run the matrix yourself"
            )
    return found


def _begin(path: Path, row: Mapping[str, Any], plan: Plan) -> Check:
    """A drawn cell, with a reason if this program would not ask what was asked."""
    place = Place(*(row[name] for name in Place._fields))
    released = view.provenance(path, row["cell"])
    planned = _planned(plan, place)
    reasons = []
    if planned is None:
        reasons = ["this program has no such cell in its plan of the matrix"]
    elif plan.key_of(planned, released["fingerprint"]) != row["cell"]:
        reasons = [f"this program asks otherwise: {_otherwise(released, planned)}"]
    same_step = planned is not None and planned.model.key == row["model_key"]
    return Check(row["cell"], row["matrix"], place, released, same_step, reasons=tuple(reasons))


def _otherwise(released: Mapping[str, Any], planned: Cell) -> str:
    task = planned.task
    for what, then, now in (
        ("task", released["task"], task.name),
        ("task version", released["task_version"], task.version),
        ("task data", released["task_data"], task.data_fingerprint),
    ):
        if then != now:
            return f"{what} {then} was released, {now} is planned"
    return "the task's configuration or the engine's settings"


def _again(
    path: Path, drawn: Sequence[Check], matrix: Matrix, console: Console, workers: int | None
) -> list[Check]:
    """Make and ask what can be asked, and put it beside what was released."""
    places = {check.place for check in drawn if not check.reasons}
    if not places:
        return list(drawn)

    def wanted(cell: Cell) -> bool:
        return cell.place in places

    outcome = running.run(matrix, console, workers=workers, wanted=wanted, retry_failed=True)
    plan = make_plan(matrix, wanted)
    failed = tuple(f"{what}: {why}" for what, why in outcome.failures.items())
    return [_compared(path, check, plan, failed) for check in drawn]


def _compared(path: Path, check: Check, plan: Plan, failed: tuple[str, ...]) -> Check:
    if check.reasons:
        return check
    planned = _planned(plan, check.place)
    key = plan.key(planned)
    again = view.provenance(snapshot_path(), key) if key else None
    if again is None:
        return replace(check, reasons=failed)
    items = [view.items(path, check.cell), view.items(snapshot_path(), key)]
    found = agreement(check.released, again, *items)
    other = None if found.same_model else _first_other(path, planned, plan)
    return replace(check, again=again, agreement=found, other=other)


def _first_other(path: Path, planned: Cell, plan: Plan) -> str | None:
    """The first step behind a cell whose weights are not those that it made then, inputs first."""
    released = view.manifests(path, [planned.model.key])
    for step in planned.model.walk():
        then, now = released.get(step.key, {}).get("fingerprint"), plan.fingerprint(step)
        if then and now and then != now:
            return f"{step.kind} {step.label} ({step.key[:12]})"
    return None


def _planned(plan: Plan, place: Place) -> Cell | None:
    return next((cell for cell in plan.cells if cell.place == place), None)


def _judged(check: Check, p: float) -> Check:
    if check.agreement is None:
        return check
    found = replace(check.agreement, p=p)
    check = replace(check, agreement=found)
    if found.equal:
        return replace(check, verdict=EQUAL)
    reasons = found.broken()
    if not surroundings(check.released["run"], check.again["run"]):
        reasons.append("hardware and versions are the same, as far as both runs say")
    if not found.same_model and not check.same_step:
        reasons.append("this program makes the model by other steps")
    return replace(check, verdict=DIFFERS if reasons else EXPLAINED, reasons=tuple(reasons))


def _json(check: Check) -> dict[str, Any]:
    found, again = check.agreement, check.again
    return {
        "cell": check.cell,
        "matrix": check.matrix,
        **check.place._asdict(),
        "verdict": check.verdict,
        "reasons": list(check.reasons),
        "first_other_step": check.other,
        "run": check.released["run_id"],
        "fingerprint": check.released["fingerprint"],
        "score": check.released["score"],
        "again": None
        if again is None
        else {name: again[name] for name in ("key", "run_id", "fingerprint", "score")},
        "agreement": None
        if found is None
        else {
            "items": found.items,
            "same_items": found.same_items,
            "differing": dict(found.differing),
            "loglikelihoods_apart": found.apart,
            "p": found.p,
        },
    }

"""Run a plan: make the missing artifacts side by side, score each model as soon as it is there.

What is done is in the artifacts' folder and in the store; everything here can be interrupted at any
moment and started again. What fails is recorded, and the rest goes on.
"""

import secrets
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from harness import artifacts, machine, methods, remote, tasks
from harness import store as stores
from harness.alone import require_none
from harness.board import Board, board
from harness.engines import Engines
from harness.execute import versions
from harness.executor import start_executor
from harness.failed import Failed
from harness.fit import require_fit
from harness.home import home
from harness.interrupt import Stop, heeded_signals
from harness.leftovers import remove_leftovers
from harness.live_status import LiveStatus
from harness.plan import Cell, Plan, make_plan
from harness.preflight import require_at_hand, require_machines, require_models_allowed
from harness.remaining import Remaining, model_name, name, remaining
from harness.schedule import Schedule
from harness.score import Asked, Scorer, ready_models
from harness.sizes import parameters, sizes
from harness.spec import Matrix
from harness.steps import Step
from harness.store import Writer, writer
from maec.folder import require_space


@dataclass
class Outcome:
    """What a run did: cells scored, and what failed with the reason.

    ``untried`` counts what failed in an earlier run, and was not tried again.
    """

    cells: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    untried: int = 0


def run(
    matrix: Matrix,
    console: Console,
    *,
    workers: int | None = None,
    wanted: Callable[[Cell], bool] | None = None,
    retry_failed: bool = False,
) -> Outcome:
    """Do what is missing of a matrix, or of its ``wanted`` cells alone, and record it.

    What failed before by its own fault is not tried again unless ``retry_failed``.

    Raises:
        InputError: the matrix cannot be run as it is, there is no space for it, or another
            process writes to the store.
        Interrupted: a signal asked for the end.
    """
    refused = make_plan(matrix, wanted)  # refuse before anything is written, the store included
    _require_space(refused)
    require_at_hand(refused.missing_steps)
    require_machines(matrix)
    tasks.fetch(matrix, console)
    outcome = Outcome()
    shared = matrix.executor.artifacts
    with heeded_signals() as stop, writer() as store:
        require_none()
        remove_leftovers()
        store.snapshot(now=True)  # a killed run may have left an older one
        if shared is not None:
            remote.learn(refused.steps, shared)
        plan = make_plan(matrix, wanted)
        _record_made(plan, store)
        _claim_questions(plan, store)
        store.place(matrix.name, _placements(plan))
        if retry_failed:
            cells = filter(None, map(plan.key, plan.missing_cells))
            store.forget_failures([*cells, *(step.key for step in plan.missing_steps)])
        store.snapshot(now=True)
        left = remaining(plan, failed_before())
        outcome.failures, outcome.untried = left.failures, len(left.failures)
        if not left.cells:
            return outcome
        require_models_allowed(left.steps)
        _require_fit(plan)
        run_id = _begin(store, matrix)
        status = "interrupted"
        live = LiveStatus(home(), matrix.name, run_id)
        with start_executor(matrix, len(left.steps), workers) as (pool, engines):
            scorer = Scorer(plan, store, engines, run_id)
            try:
                with board(console, live, left.steps, len(left.cells)) as shown:
                    book = _Book(plan, store, run_id, shown, outcome)
                    _work(left, Schedule(left.steps, pool), engines, scorer, book, stop)
                status = "failed" if outcome.failures else "done"
            finally:
                store.finish_run(run_id, status, datetime.now(UTC), scorer.figures)
                store.snapshot(now=True)
                live.end(status)
    return outcome


def failed_before() -> dict[str, str]:
    """Messages of what would fail again, by key."""
    return {entry["key"]: entry["message"] for entry in stores.failures() if entry["lasting"]}


def _work(
    left: Remaining,
    schedule: Schedule,
    engines: Engines,
    scorer: Scorer,
    book: "_Book",
    stop: Stop,
) -> None:
    """Alternate between what workers made and what engines answered, until nothing is left."""
    waiting, ready, asked = left.cells, [], []
    changed = True
    while waiting or ready or asked:
        stop.check()
        for step, result in schedule.ended(timeout=0):
            book.step(step, result)
            changed = True
        book.reports(schedule)
        if changed:
            # an artifact exists a moment before its manifest comes back to be recorded
            pending = schedule.pending
            made = [c for c in waiting if not pending & {c.base.key, c.model.key}]
            groups = ready_models(made)
            models = {group[0].model.key for group in groups}
            waiting = [cell for cell in waiting if cell.model.key not in models]
            ready += groups
            changed = False
        while group := scorer.next(ready):
            ready.remove(group)
            asked.append(scorer.ask(group))
        if not asked and not ready and schedule.idle:
            return  # what is left waits for steps that failed
        if not ready and schedule.starved:
            engines.rest()
        answers = {one.answer for one in asked}
        wait(schedule.running | answers, timeout=0.25, return_when=FIRST_COMPLETED)
        for one in [one for one in asked if one.answer.done()]:
            book.cells(one, scorer.finish(one))
            asked.remove(one)


@dataclass
class _Book:
    """Where a run writes down what happens: the store, the screen, and the outcome."""

    plan: Plan
    store: Writer
    run_id: str
    shown: Board
    outcome: Outcome

    def reports(self, schedule: Schedule) -> None:
        """Steps in work went on."""
        for step, done, total in schedule.reports():
            self.shown.working(step, done, total)
        self.shown.refresh()

    def step(self, step: Step, result: dict[str, Any] | Failed) -> None:
        """A step was made, or failed."""
        if not isinstance(result, Failed):
            record_artifact(self.store, step, result)
            self.plan.made(step, result["fingerprint"])
            self.shown.made(step, result["seconds"])
            return
        self.shown.failed(step.label, result.why, step=step)
        self.outcome.failures[step.label] = result.why
        record_failed_step(self.store, step, result, self.run_id)

    def cells(self, asked: Asked, failures: dict[str, Failed]) -> None:
        """A model was asked its cells; by the key of the task, what failed."""
        good = [cell for cell in asked.cells if cell.task.key not in failures]
        self.outcome.cells += len(good)
        if good:
            self.shown.scored(model_name(good[0]), len(good), asked.seconds)
        for cell in asked.cells:
            if failure := failures.get(cell.task.key):
                self.shown.failed(name(cell), failure.why, cells=1)
                self.outcome.failures[name(cell)] = failure.why
        for cell in asked.missing:
            if failure := failures.get(cell.task.key):
                key = self.plan.key(cell)
                record_failure(self.store, "cell", key, name(cell), failure, self.run_id)
        self.store.snapshot()


def record_failed_step(store: Writer, step: Step, failure: Failed, run_id: str) -> None:
    """Remember in the store that a step failed, and whether it is worth another try as it is."""
    # what is on a hub may be within reach another day, whatever was wrong
    lasting = failure.lasting and step.kind != "fetch"
    record_failure(store, "step", step.key, step.label, Failed(failure.why, lasting), run_id)


def record_failure(
    store: Writer, what: str, key: str, label: str, failure: Failed, run_id: str
) -> None:
    """Remember in the store that a ``what``, "step" or "cell", failed."""
    store.record_failure(
        {
            "key": key,
            "what": what,
            "label": label,
            "message": failure.why,
            "lasting": failure.lasting,
            "run_id": run_id,
            "created": datetime.now(UTC),
        }
    )


def record_artifact(store: Writer, step: Step, manifest: dict[str, Any]) -> None:
    """Remember in the store what a worker made."""
    store.record_artifact(
        {
            "key": step.key,
            "kind": step.kind,
            "label": step.label,
            "fingerprint": manifest["fingerprint"],
            "path": str(step.folder),
            "manifest": manifest,
            "created": datetime.now(UTC),
        }
    )


def _record_made(plan: Plan, store: Writer) -> None:
    """Remember artifacts that were made when a run was killed, or on other machines."""
    recorded = store.artifacts()
    for step in plan.steps:
        if step.path is not None or not step.done or (step.here and step.key in recorded):
            continue
        manifest = artifacts.manifest_of(step)
        # others may have made it with other weights than those that were here once
        if step.key not in recorded or manifest["fingerprint"] != plan.fingerprint(step):
            record_artifact(store, step, manifest)
            plan.made(step, manifest["fingerprint"])


def _begin(store: Writer, matrix: Matrix) -> str:
    started = datetime.now(UTC)
    run_id = f"{started:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    commit, dirty = machine.commit()
    store.begin_run(
        {
            "run_id": run_id,
            "matrix": matrix.name,
            "matrix_file": matrix.model_dump(mode="json"),
            "started": started,
            "commit": commit,
            "dirty": dirty,
            "versions": versions() | methods.packages(entry.name for entry in matrix.methods),
            "hardware": machine.hardware(),
        }
    )
    return run_id


def _claim_questions(plan: Plan, store: Writer) -> None:
    """Refuse a matrix that asks as test questions what something was tuned on."""
    known = {cell.task.key: cell.task for cell in plan.cells}
    for split in ("test", "dev"):
        asked = [q for task in known.values() if task.split == split for q in task.questions]
        if asked:
            store.claim_questions(split, asked, str(plan.matrix.file))


def _require_fit(plan: Plan) -> None:
    """Refuse questions that do not fit the engine; those of the embedded world do."""
    cells = [cell for cell in plan.missing_cells if cell.asked in plan.matrix.tasks]
    for engine in dict.fromkeys(cell.engine for cell in cells):
        own = [cell for cell in cells if cell.engine == engine]
        asked, bases = [cell.task for cell in own], [cell.base for cell in own]
        require_fit(asked, bases, engine, str(plan.matrix.file))


def _placements(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "variant": cell.variant,
            "method": cell.method,
            "title": cell.title,
            "family": cell.family,
            "ability": cell.ability,
            "asked": cell.asked,
            "language": cell.language,
            "seed": cell.seed,
            "model_key": cell.model.key,
            "model_path": str(cell.model.folder),
            "cell": key if (key := plan.key(cell)) in plan.scored else None,
        }
        for cell in plan.cells
    ]


def _require_space(plan: Plan) -> None:
    """Refuse a plan whose artifacts do not fit on the disk, as far as their size is known."""
    require_space(home(), sum(filter(None, sizes(plan.missing_steps, parameters(plan)).values())))

"""Run a plan: make the missing artifacts side by side, score each model as soon as it is there.

What is done is in the artifacts' folder and in the store; everything here can be interrupted at any
moment and started again.
"""

import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psutil
from rich.console import Console

from harness import machine, methods, tasks
from harness.board import Board, board
from harness.execute import versions
from harness.fit import require_fit
from harness.home import home
from harness.live_status import LiveStatus
from harness.plan import Cell, Plan, make_plan
from harness.schedule import Schedule
from harness.score import Scorer, ready_models
from harness.sizes import parameters, sizes
from harness.spec import Matrix
from harness.steps import Step
from harness.store import Writer, writer
from harness.text import located
from harness.workers import start_workers
from maec.errors import InputError
from maec.folder import require_space
from maec.hub import local_folder

WORKER_MEMORY = 1 << 30
"""Bytes a training process of a small model takes; the number of workers respects it."""


@dataclass
class Outcome:
    """What a run did: cells scored, and what failed with the reason."""

    cells: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def run(
    matrix: Matrix,
    console: Console,
    *,
    workers: int | None = None,
    wanted: Callable[[Cell], bool] | None = None,
) -> Outcome:
    """Do what is missing of a matrix, or of its ``wanted`` cells alone, and record it.

    Raises:
        InputError: the matrix cannot be run as it is, there is no space for it, or another
            process writes to the store.
    """
    refused = make_plan(matrix, wanted)  # refuse before anything is written, the store included
    _require_space(refused)
    _require_reachable(refused)
    tasks.fetch(matrix, console)
    outcome = Outcome()
    with writer() as store:
        _remove_leftovers()
        store.snapshot(now=True)  # a killed run may have left an older one
        plan = make_plan(matrix, wanted)
        _claim_questions(plan, store)
        store.place(matrix.name, _placements(plan))
        store.snapshot(now=True)
        if not plan.missing_cells:
            return outcome
        _require_fit(plan)
        run_id = _begin(store, matrix)
        status = "interrupted"
        scorer = Scorer(plan, store, run_id)
        live = LiveStatus(home(), matrix.name, run_id)
        try:
            with board(console, live, plan.missing_steps, len(plan.missing_cells)) as shown:
                _work(plan, store, scorer, shown, outcome, workers)
            status = "failed" if outcome.failures else "done"
        finally:
            store.finish_run(run_id, status, datetime.now(UTC), scorer.figures)
            store.snapshot(now=True)
            live.end(status)
    return outcome


def _work(
    plan: Plan,
    store: Writer,
    scorer: Scorer,
    shown: Board,
    outcome: Outcome,
    count: int | None,
) -> None:
    """Alternate between what workers made and scoring it, until nothing is left."""
    steps = plan.missing_steps
    left = list(plan.missing_cells)
    count = count or worker_count(len(steps))
    threads = max(1, machine.cores() // count)
    with (
        remembered_interrupt() as asked,
        start_workers(count, threads) if steps else nullcontext() as workers,
    ):
        schedule = Schedule(steps, workers) if workers else None
        while left:
            if asked.is_set():
                raise KeyboardInterrupt
            for step, result in schedule.ended(timeout=0) if schedule else ():
                _record(step, result, store, shown, outcome)
            for step, done, total in schedule.reports() if schedule else ():
                shown.training(step, done, total)
            shown.refresh()
            # an artifact exists a moment before its manifest comes back to be recorded
            pending = schedule.pending if schedule else set()
            made = [c for c in left if not pending & {c.base.key, c.model.key} and c.base.done]
            groups = ready_models(made)
            if not groups:
                if schedule is None or schedule.idle:
                    return  # what is left waits for steps that failed
                for step, result in schedule.ended(timeout=0.25):
                    _record(step, result, store, shown, outcome)
                continue
            cells = groups[0]
            asked_here = {(cell.model.key, cell.task.key) for cell in cells}
            answered = [c for c in left if (c.model.key, c.task.key) in asked_here]
            name = " ".join(filter(None, (cells[0].variant, cells[0].method, cells[0].ability)))
            try:
                seconds = scorer.score(cells)
                outcome.cells += len(answered)
                shown.scored(name, len(answered), seconds)
            except (InputError, RuntimeError, ValueError) as error:
                for cell in answered:
                    place = f"{name} {cell.asked} {cell.language} seed {cell.seed}"
                    outcome.failures[place] = _message(error)
                shown.failed(name, _message(error), cells=len(answered))
            left = [cell for cell in left if cell not in answered]
            store.snapshot()


@contextmanager
def remembered_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, besides raising KeyboardInterrupt as ever.

    Python drops an exception that is raised in a weakref callback or a destructor, and torch has
    many of them: an interrupt that hits one would be lost, but for a traceback on the screen.
    """
    asked = threading.Event()
    previous, report = signal.getsignal(signal.SIGINT), sys.unraisablehook

    def ask(*_: Any) -> None:
        asked.set()
        raise KeyboardInterrupt

    def report_others(dropped: Any) -> None:
        if dropped.exc_type is not KeyboardInterrupt:
            report(dropped)

    sys.unraisablehook = report_others
    # a job in the background ignores Ctrl-C, and goes on doing so
    if previous is signal.default_int_handler:
        signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        sys.unraisablehook = report
        signal.signal(signal.SIGINT, previous)


def _record(step: Step, result: Any, store: Writer, shown: Board, outcome: Outcome) -> None:
    if isinstance(result, BaseException):
        outcome.failures[step.label] = _message(result)
        shown.failed(step.label, _message(result), step=step)
        return
    record_artifact(store, step, result)
    shown.made(step, result["seconds"])


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
    asked, bases = [cell.task for cell in cells], [cell.base for cell in cells]
    require_fit(asked, bases, plan.matrix.engine, str(plan.matrix.file))


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


def _remove_leftovers() -> None:
    """Scratch of runs that were killed; safe, since this process holds the store."""
    for pattern in (
        "artifacts/*/.partial-*",
        "tasks/.partial-*",
        "questions/.partial-*",
        "*.partial",
    ):
        for path in home().glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _require_space(plan: Plan) -> None:
    """Refuse a plan whose artifacts do not fit on the disk, as far as their size is known."""
    require_space(home(), sum(filter(None, sizes(plan.missing_steps, parameters(plan)).values())))


def _require_reachable(plan: Plan) -> None:
    """Where no network may be asked, refuse a plan that needs what is not on this machine."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        return
    for step in plan.missing_steps:
        if step.kind == "fetch" and "model" in step.settings:
            local_folder("@".join(filter(None, step.settings.values())))
        for corpus in step.settings.get("corpora", []):
            if "dataset" in (corpus.get("source") or {}):
                located(corpus["source"]["dataset"], corpus["source"]["revision"])


def worker_count(steps: int) -> int:
    """How many steps to make side by side: as cores and memory allow, one on a GPU."""
    if machine.gpus():
        return 1  # one training run fills a GPU
    by_memory = int(psutil.virtual_memory().available // WORKER_MEMORY)
    return max(1, min(machine.cores(), by_memory, steps))


def _message(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"

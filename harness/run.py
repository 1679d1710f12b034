"""Run a plan: make the missing artifacts side by side, then score the missing cells on one engine.

What is done is in the artifacts' folder and in the store; everything here can be interrupted at any
moment and started again.
"""

import json
import queue
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness import machine
from harness.execute import versions
from harness.home import home
from harness.plan import Cell, Plan, base_path, make_plan
from harness.spec import Matrix
from harness.steps import Step
from harness.store import Writer, writer
from harness.workers import Workers, run_step, start_workers
from maec.checkpoint import open_checkpoint
from maec.errors import InputError
from maec.folder import require_space

WORKER_MEMORY = 1 << 30
"""Bytes a training process of a small model takes; the number of workers respects it."""


@dataclass
class Outcome:
    """What a run did: failures by what failed, and the engine's figures."""

    failures: dict[str, str] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    cells: int = 0


def run(matrix: Matrix, console: Console, *, workers: int | None = None) -> Outcome:
    """Do what is missing of a matrix, and record it.

    Raises:
        InputError: the matrix cannot be run as it is, there is no space for it, or another
            process writes to the store.
    """
    make_plan(matrix)  # refuse bad input before anything is written, the store included
    with writer() as store:
        _remove_leftovers()
        store.snapshot(now=True)
        plan = make_plan(matrix)
        _require_space(plan)
        store.place(matrix.name, _placements(plan))
        store.snapshot(now=True)
        outcome = Outcome()
        if not plan.missing_cells:
            return outcome
        run_id = _begin(store, matrix)
        status = "interrupted"
        try:
            with _progress(console) as progress:
                _make_artifacts(plan, store, progress, outcome, workers)
                _score_cells(plan, store, progress, outcome, run_id)
            status = "failed" if outcome.failures else "done"
        finally:
            store.finish_run(run_id, status, datetime.now(UTC), outcome.engine)
            store.snapshot(now=True)
    return outcome


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
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
            "versions": versions(),
            "hardware": machine.hardware(),
        }
    )
    return run_id


def _placements(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "method": cell.method,
            "title": cell.title,
            "family": cell.family,
            "ability": cell.ability,
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
    import shutil

    for pattern in ("artifacts/*/.partial-*", "tasks/.partial-*", "*.partial"):
        for path in home().glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _require_space(plan: Plan) -> None:
    """Refuse a plan whose artifacts do not fit on the disk; checkpoints are written in float32."""
    size = 4 * open_checkpoint(base_path(plan)).numel()
    # a mask takes a bit an entry, a pack at most as much as a checkpoint
    needed = sum(size // 32 if step.kind == "locate" else size for step in plan.missing_steps)
    require_space(home(), needed)


# -- artifacts ---------------------------------------------------------------------------------


def _make_artifacts(
    plan: Plan, store: Writer, progress: Progress, outcome: Outcome, count: int | None
) -> None:
    missing = plan.missing_steps
    if not missing:
        return
    count = count or _worker_count(len(missing))
    threads = max(1, machine.cores() // count)
    bars = {"steps": progress.add_task("steps", total=sum(_work(step) for step in missing))}
    with start_workers(count, threads) as workers:
        for step, result in _finished(missing, workers, count, progress, bars):
            if isinstance(result, BaseException):
                outcome.failures[step.label] = _message(result)
                progress.console.print(f"[red]failed[/red]  {step.label}: {_message(result)}")
                continue
            store.record_artifact(
                {
                    "key": step.key,
                    "kind": step.kind,
                    "label": step.label,
                    "fingerprint": result["fingerprint"],
                    "path": str(step.folder),
                    "manifest": result,
                    "created": datetime.now(UTC),
                }
            )
            outcome.steps += 1
            store.snapshot()
            progress.console.print(f"made    {step.label}  {result['seconds']:.1f} s")
    progress.remove_task(bars["steps"])


def _finished(
    steps: Sequence[Step],
    workers: Workers,
    count: int,
    progress: Progress,
    bars: dict[str, TaskID],
) -> Iterator[tuple[Step, Any]]:
    """Run steps as their inputs get ready, the longest chain first; yield each as it ends."""
    waiting = {step.key: step for step in steps}
    urgency = _urgency(steps)
    running: dict[Future, Step] = {}
    failed: set[str] = set()
    while waiting or running:
        blocked = [s for s in waiting.values() if any(p.key in failed for p in s.inputs.values())]
        for step in blocked:
            failed.add(step.key)
            del waiting[step.key]
            yield step, RuntimeError("a step that it needs failed")
        ready = [s for s in waiting.values() if all(p.done for p in s.inputs.values())]
        ready.sort(key=lambda step: -urgency[step.key])
        for step in ready[: count - len(running)]:
            running[workers.pool.submit(run_step, step)] = waiting.pop(step.key)
        done, _ = wait(running, timeout=0.25, return_when=FIRST_COMPLETED)
        _show_reports(workers, running, progress, bars)
        for future in done:
            step = running.pop(future)
            _finish_bar(step, progress, bars)
            error = future.exception()
            if error is not None:
                failed.add(step.key)
            yield step, error or future.result()
            if isinstance(error, BrokenProcessPool):
                raise error


def _show_reports(
    workers: Workers, running: dict[Future, Step], progress: Progress, bars: dict[str, TaskID]
) -> None:
    steps = {step.key: step for step in running.values()}
    while True:
        try:
            key, done, total = workers.reports.get_nowait()
        except queue.Empty:
            return
        if key not in steps:
            continue
        if key not in bars:
            bars[key] = progress.add_task(f"  {steps[key].label}", total=total)
        before = progress.tasks[progress.task_ids.index(bars[key])].completed
        progress.update(bars[key], completed=done)
        progress.advance(bars["steps"], (done - before) * _work(steps[key]) / total)


def _finish_bar(step: Step, progress: Progress, bars: dict[str, TaskID]) -> None:
    remaining = _work(step)
    if step.key in bars:
        task = progress.tasks[progress.task_ids.index(bars[step.key])]
        remaining -= task.completed * _work(step) / (task.total or 1)
        progress.remove_task(bars.pop(step.key))
    progress.advance(bars["steps"], remaining)


def _work(step: Step) -> int:
    """How long a step takes, in thousands of tokens trained; merges count as a little."""
    training = step.settings.get("training")
    if not training:
        return 20
    tokens = training["steps"] * training["batch_size"] * training["sequence_length"]
    return 20 + tokens // 1000


def _urgency(steps: Sequence[Step]) -> dict[str, int]:
    """Work from the start of each step to the end of the longest chain that waits for it."""
    after: dict[str, int] = {}
    for step in reversed(steps):
        after[step.key] = after.get(step.key, 0) + _work(step)
        for part in step.inputs.values():
            after[part.key] = max(after.get(part.key, 0), after[step.key])
    return after


def _worker_count(steps: int) -> int:
    import psutil

    if machine.gpus():
        return 1  # one training run fills a GPU
    by_memory = int(psutil.virtual_memory().available // WORKER_MEMORY)
    return max(1, min(machine.cores(), by_memory, steps))


def _message(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return f"{type(error).__name__}: {text}" if not isinstance(error, InputError) else text


# -- scores ------------------------------------------------------------------------------------


def _score_cells(
    plan: Plan, store: Writer, progress: Progress, outcome: Outcome, run_id: str
) -> None:
    groups = _by_model(plan)
    if not groups:
        return
    from harness import engine as engines
    from harness.evaluate import evaluate

    total = sum(len(cells) for cells in groups)
    bar = progress.add_task("cells: starting the engine", total=total)
    engine = engines.start(plan.matrix.engine, base_path(plan))
    figures = outcome.engine
    figures |= {
        "kind": plan.matrix.engine.kind,
        "start_seconds": round(engine.start_seconds, 3),
        "switch_seconds": [],
        "items": 0,
        "evaluation_seconds": 0.0,
    }
    for cells in groups:
        model = cells[0].model
        progress.update(bar, description=f"cells: {cells[0].method} {cells[0].ability}")
        began = datetime.now(UTC)
        try:
            figures["switch_seconds"].append(round(engine.switch(model.folder), 4))
            results = evaluate(engine, [cell.task for cell in cells], model.folder)
        except (InputError, RuntimeError, ValueError) as error:
            for cell in cells:
                outcome.failures[f"{cell.method} {cell.ability} {cell.language}"] = _message(error)
            progress.console.print(f"[red]failed[/red]  {model.label}: {_message(error)}")
            progress.advance(bar, len(cells))
            continue
        seconds = (datetime.now(UTC) - began).total_seconds()
        items = sum(result.n for result in results.values())
        figures["items"] += items
        figures["evaluation_seconds"] = round(figures["evaluation_seconds"] + seconds, 3)
        figures["items_per_second"] = round(
            figures["items"] / max(figures["evaluation_seconds"], 1e-9), 1
        )
        for cell in cells:
            result = results[cell.task.name]
            _commit(plan, store, cell, result, seconds * result.n / max(items, 1), run_id)
            outcome.cells += 1
            progress.advance(bar)
        store.snapshot()
        progress.console.print(f"scored  {model.label}  {len(cells)} cells  {seconds:.1f} s")
    progress.remove_task(bar)


def _by_model(plan: Plan) -> list[list[Cell]]:
    """Missing cells whose model is there, each score once, grouped by model and seed."""
    groups: dict[str, dict[str, Cell]] = {}
    for cell in plan.missing_cells:
        key = plan.key(cell)
        if key is not None and cell.model.done:
            groups.setdefault(plan.fingerprint(cell.model) or "", {}).setdefault(key, cell)
    return [list(cells.values()) for cells in groups.values()]


def _commit(
    plan: Plan, store: Writer, cell: Cell, result: Any, seconds: float, run_id: str
) -> None:
    key = plan.key(cell)
    task = cell.task
    row = {
        "key": key,
        "model_key": cell.model.key,
        "fingerprint": plan.fingerprint(cell.model),
        "task": task.name,
        "task_version": task.version,
        "task_data": task.data_fingerprint,
        "task_path": str(task.folder),
        "metric": task.metric,
        "filter": task.filter,
        "score": result.score,
        "stderr": result.stderr,
        "n": result.n,
        "metrics": result.metrics,
        "engine": plan.matrix.engine.model_dump(mode="json"),
        "seconds": round(seconds, 3),
        "run_id": run_id,
        "created": datetime.now(UTC),
    }
    store.commit_cell(row, [{"cell": key, **item} for item in result.items])
    same = [index for index, other in enumerate(plan.cells) if plan.key(other) == key]
    store.set_cell(plan.matrix.name, same, key)


def read_manifest(step: Step) -> dict[str, Any]:
    """The manifest of an artifact that exists."""
    return json.loads((step.folder / "manifest.json").read_text(encoding="utf-8"))

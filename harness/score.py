"""Score the cells of a plan on one live engine, as their models get ready."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from harness.engine import Engine
from harness.evaluate import Result
from harness.live import Live
from harness.plan import Cell, Plan
from harness.store import Writer


class Scorer:
    """Scores a run's models on a live engine, commits what they score, and keeps its figures."""

    def __init__(self, plan: Plan, store: Writer, run_id: str) -> None:
        self._plan = plan
        self._store = store
        self._run_id = run_id
        self._live = Live(plan.matrix.engine)
        self._scored = set(plan.scored)
        self.figures: dict[str, Any] = {}

    def score(self, cells: Sequence[Cell]) -> float:
        """Score cells of one model and commit each of them; returns seconds.

        Two steps may make the same weights: what one of them scored holds for the other.

        Raises:
            InputError: the checkpoint does not fit the engine.
            RuntimeError: the engine does not serve it, or the evaluation failed.
        """
        began = time.monotonic()
        missing = [cell for cell in cells if self._plan.key(cell) not in self._scored]
        if missing:
            self._evaluate(missing)
        for cell in cells:
            self._place(cell)
        return time.monotonic() - began

    def _evaluate(self, cells: Sequence[Cell]) -> None:
        engine = self._live.engine(cells[0].base)
        self._started(engine)
        seconds = engine.switch(cells[0].model.folder)
        self.figures["switch_seconds"].append(round(seconds, 4))
        tasks = [cell.task for cell in cells]
        self._live.load(tasks)
        began = time.monotonic()
        results = self._live.ask(engine, tasks)
        seconds = time.monotonic() - began
        items = sum(result.n for result in results.values())
        self._count(items, seconds)
        for cell in cells:
            result = results[cell.task.name]
            self._commit(cell, result, seconds * result.n / max(items, 1))

    def _started(self, engine: Engine) -> None:
        if not self.figures:
            self.figures = {
                "kind": self._plan.matrix.engine.kind,
                "start_seconds": round(engine.start_seconds, 3),
                "switch_seconds": [],
                "items": 0,
                "evaluation_seconds": 0.0,
                "items_per_second": 0.0,
            }

    def _count(self, items: int, seconds: float) -> None:
        figures = self.figures
        figures["items"] += items
        figures["evaluation_seconds"] = round(figures["evaluation_seconds"] + seconds, 3)
        figures["items_per_second"] = round(figures["items"] / figures["evaluation_seconds"], 1)

    def _commit(self, cell: Cell, result: Result, seconds: float) -> None:
        plan, task = self._plan, cell.task
        key = plan.key(cell)
        self._store.commit_cell(
            {
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
                "run_id": self._run_id,
                "created": datetime.now(UTC),
            },
            [{"cell": key, **item} for item in result.items],
        )
        self._scored.add(key)

    def _place(self, cell: Cell) -> None:
        """Show the score wherever the matrix has it."""
        plan, key = self._plan, self._plan.key(cell)
        same = [index for index, other in enumerate(plan.cells) if plan.key(other) == key]
        self._store.set_cell(plan.matrix.name, same, key)


def ready_models(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells whose models exist, grouped by model, each task of a model once."""
    groups: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        if cell.model.done:
            groups.setdefault(cell.model.key, {}).setdefault(cell.task.key, cell)
    # one base after the other, since each has an engine of its own
    return sorted((list(group.values()) for group in groups.values()), key=_base)


def _base(cells: Sequence[Cell]) -> str:
    return cells[0].base.key

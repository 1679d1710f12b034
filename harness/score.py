"""Score the cells of a plan, as their models get ready, and commit each score."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harness.engines import Engines
from harness.evaluate import Result
from harness.failed import Failed, failed
from harness.live import Answer
from harness.plan import Cell, Plan
from harness.spec_machine import Engine
from harness.store import Writer


@dataclass(frozen=True)
class Asked:
    """All cells of one model, and the answer to those of them that were not scored before.

    Several cells may stand for one task; ``missing`` has each once.
    """

    cells: Sequence[Cell]
    missing: Sequence[Cell]
    answer: Future[Answer]
    began: float

    @property
    def seconds(self) -> float:
        """Since the engine was asked."""
        return time.monotonic() - self.began


class Scorer:
    """Has engines answer a run's models, commits their scores, and keeps the engines' figures."""

    def __init__(self, plan: Plan, store: Writer, engines: Engines, run_id: str) -> None:
        self._plan = plan
        self._store = store
        self._engines = engines
        self._run_id = run_id
        self._scored = set(plan.scored)
        self._asking: set[str] = set()
        self._written: set[str] = set()
        self._rows: dict[tuple[str, str, Engine], list[int]] = {}
        for row, cell in enumerate(plan.cells):
            self._rows.setdefault((cell.model.key, cell.task.key, cell.engine), []).append(row)
        self.figures: dict[str, Any] = {}

    def next(self, groups: Sequence[list[Cell]]) -> list[Cell] | None:
        """Which of the models to ask now, each given by its cells; None where no engine is idle.

        Two steps may make the same weights: then what one of them scores holds for the other.
        """
        idle = {(engine.base, engine.settings) for engine in self._engines.idle}
        # stable: models of a base that an idle engine runs for come first
        ordered = sorted(groups, key=lambda group: _served_by(group) not in idle) if idle else []
        return next((g for g in ordered if self._asking.isdisjoint(map(self._plan.key, g))), None)

    def ask(self, cells: Sequence[Cell]) -> Asked:
        """Ask what is missing of all cells of one model."""
        distinct: dict[str, Cell] = {}
        for cell in cells:
            distinct.setdefault(cell.task.key, cell)
        missing = [c for c in distinct.values() if self._plan.key(c) not in self._scored]
        asked = [cell.task for cell in missing]
        for task in asked:
            if task.key not in self._written:
                task.write()  # for readers of the store; an engine may be on another machine
                self._written.add(task.key)
        first = cells[0]
        if asked:
            answer = self._engines.ask(first.engine, first.base, first.model, asked)
        else:
            answer = Future()
            answer.set_result(None)
        self._asking |= {self._plan.key(cell) for cell in missing}
        return Asked(cells, missing, answer, time.monotonic())

    def finish(self, asked: Asked) -> dict[str, Failed]:
        """Commit what was answered; returns what was not, by the key of the task."""
        self._asking -= {self._plan.key(cell) for cell in asked.missing}
        failures = self._commit_all(asked) if asked.missing else {}
        for cell in asked.cells:
            if self._plan.key(cell) in self._scored:
                self._place(cell)
        return failures

    def _commit_all(self, asked: Asked) -> dict[str, Failed]:
        if error := asked.answer.exception():
            return {cell.task.key: failed(error) for cell in asked.missing}
        answer = asked.answer.result()
        self._count(answer)
        items = sum(result.n for result in answer.results.values())
        for cell in asked.missing:
            if result := answer.results.get(cell.task.name):
                self._commit(cell, result, answer.seconds * result.n / max(items, 1))
        return {
            cell.task.key: answer.failures[cell.task.name]
            for cell in asked.missing
            if cell.task.name in answer.failures
        }

    def _count(self, answer: Answer) -> None:
        if not self.figures:
            self.figures = {
                "kind": self._plan.matrix.engine.kind,
                "start_seconds": round(answer.start_seconds, 3),
                "switch_seconds": [],
                "items": 0,
                "evaluation_seconds": 0.0,
                "items_per_second": 0.0,
            }
        figures = self.figures
        figures["switch_seconds"] += [round(seconds, 4) for seconds in answer.switch_seconds]
        figures["items"] += sum(result.n for result in answer.results.values())
        figures["evaluation_seconds"] = round(figures["evaluation_seconds"] + answer.seconds, 3)
        if figures["items"]:
            per_second = figures["items"] / figures["evaluation_seconds"]
            figures["items_per_second"] = round(per_second, 1)

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
                "engine": cell.engine.model_dump(mode="json"),
                "seconds": round(seconds, 3),
                "run_id": self._run_id,
                "created": datetime.now(UTC),
            },
            [{"cell": key, **item} for item in result.items],
        )
        self._scored.add(key)

    def _place(self, cell: Cell) -> None:
        """Show the score wherever the matrix asks the same of the same model."""
        same = self._rows[cell.model.key, cell.task.key, cell.engine]
        self._store.set_cell(self._plan.matrix.name, same, self._plan.key(cell))


def ready_models(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells whose models and bases exist, by model and the engine that is to serve it."""
    groups: dict[tuple[str, Engine], list[Cell]] = {}
    for cell in cells:
        served = cell.model.key, cell.engine
        if served in groups or (cell.model.done and cell.base.done):
            groups.setdefault(served, []).append(cell)
    # one base after the other, since each has an engine of its own
    return sorted(groups.values(), key=lambda group: group[0].base.key)


def _served_by(cells: Sequence[Cell]) -> tuple[str, Engine]:
    return cells[0].base.key, cells[0].engine

"""The one engine that a process holds at a time, and the questions that it is asked."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

from harness.artifacts import require_sound
from harness.engine import Engine, start
from harness.evaluate import Questions, Result, evaluate, load, together
from harness.failed import Failed, failed
from harness.spec_machine import Engine as Settings
from harness.steps import Step
from harness.streams import stored, tensors
from harness.tasks import Task
from harness.world import require_code_allowed
from maec.errors import Damaged


@dataclass(frozen=True)
class Answer:
    """What a model answered: by task name its results, or why there are none.

    Seconds are those of the engine's start, of each switch to the model, and of the evaluation.
    """

    start_seconds: float
    switch_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    results: dict[str, Result] = field(default_factory=dict)
    failures: dict[str, Failed] = field(default_factory=dict)

    def __add__(self, other: "Answer") -> "Answer":
        """Answers of one model to different tasks."""
        return Answer(
            self.start_seconds,
            self.switch_seconds + other.switch_seconds,
            self.seconds + other.seconds,
            self.results | other.results,
            self.failures | other.failures,
        )


class Live:
    """Starts an engine when one is first needed, and reads each task once."""

    def __init__(self, gpus: str | None = None) -> None:
        """``gpus`` are those that the engine may use, as CUDA_VISIBLE_DEVICES names them."""
        if gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus
        self._engine: Engine | None = None
        self._made: tuple[Settings, bytes] | None = None
        self._questions: dict[str, Questions] = {}

    def start(self, settings: Settings, base: Step) -> None:
        """Hold an engine for models of the size of ``base``; another one is stopped."""
        require_sound(base)
        require_code_allowed(base, base.folder)
        made = settings, (base.folder / "config.json").read_bytes()
        if self._engine is not None and (made != self._made or self._engine.lm.broken):
            self._engine.stop()
            self._engine = None
        if self._engine is None:
            self._engine = start(settings, base.folder, runs_code=base.runs_code)
            self._made = made

    def answer(self, settings: Settings, base: Step, model: Step, tasks: Sequence[Task]) -> Answer:
        """Serve a model, from its artifact or made on the way, and ask it the questions of tasks.

        Where one task of several fails, each is asked by itself; of a damaged model, none.
        """
        self.start(settings, base)
        try:
            return self._ask(model, tasks)
        except Exception as error:
            why, damaged = failed(error), isinstance(error, Damaged)
        if damaged or len(tasks) == 1:
            names = [task.name for task in tasks]
            return Answer(self._engine.start_seconds, failures=dict.fromkeys(names, why))
        alone = (self.answer(settings, base, model, [task]) for task in tasks)
        return reduce(Answer.__add__, alone)

    def _ask(self, model: Step, tasks: Sequence[Task]) -> Answer:
        engine = self._engine
        for part in [model] if model.done else stored(model):
            require_sound(part)
        if model.done:
            switching = engine.switch(model.folder)
        else:
            switching = engine.stream(tensors(model), model.label)
        questions = self._load(tasks)
        began = time.monotonic()
        results = evaluate(engine, questions)
        seconds = time.monotonic() - began
        return Answer(engine.start_seconds, [switching], seconds, results)

    def _load(self, tasks: Sequence[Task]) -> Questions:
        """The tasks as lm-eval reads them."""
        missing = [task for task in tasks if task.key not in self._questions]
        if missing:
            loaded = load(missing)
            self._questions |= {task.key: loaded.only([task]) for task in missing}
        return together([self._questions[task.key] for task in tasks])

"""The one engine that a run or a sweep holds at a time, and the questions that it is asked."""

from collections.abc import Sequence

from harness.engine import Engine, start
from harness.evaluate import Questions, Result, evaluate, load, together
from harness.spec import Engine as Settings
from harness.steps import Step
from harness.tasks import Task


class Live:
    """Starts an engine when one is first needed, and reads each task once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: Engine | None = None
        self._size = b""
        self._questions: dict[str, Questions] = {}

    def engine(self, base: Step) -> Engine:
        """The engine for models of the size of ``base``; that of another size is stopped."""
        size = (base.folder / "config.json").read_bytes()
        if self._engine is not None and size != self._size:
            self._engine.stop()
            self._engine = None
        if self._engine is None:
            self._engine, self._size = start(self._settings, base.folder), size
        return self._engine

    def ask(self, engine: Engine, tasks: Sequence[Task]) -> dict[str, Result]:
        """Results of the model that ``engine`` serves, by task name."""
        return evaluate(engine, self.load(tasks))

    def load(self, tasks: Sequence[Task]) -> Questions:
        """The tasks as lm-eval reads them."""
        missing = [task for task in tasks if task.key not in self._questions]
        if missing:
            loaded = load(missing)
            self._questions |= {task.key: loaded.only([task]) for task in missing}
        return together([self._questions[task.key] for task in tasks])

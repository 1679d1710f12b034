"""An engine in a process of its own, as the driver has it: asked, and replaced when it dies."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from harness.failed import Failed, tried_again
from harness.live import Answer
from harness.spec_machine import Engine as Settings
from harness.steps import Step
from harness.tasks import Task


class Process(Protocol):
    """A process with an object in it, as :class:`harness.actor.Actor` describes it."""

    def call(self, method: str, *arguments: Any) -> Any: ...

    def renew(self) -> None: ...

    def interrupt(self, grace: float = 0.0) -> None: ...

    def stop(self) -> None: ...


class EngineProcess:
    """A process with a :class:`harness.live.Live`, which starts when it is first asked.

    ``base`` and ``model`` are keys of what it was asked last, ``settings`` the engine's then.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._caller = ThreadPoolExecutor(1)
        self.base: str | None = None
        self.model: str | None = None
        self.settings: Settings | None = None

    def ask(
        self, settings: Settings, base: Step, model: Step, tasks: Sequence[Task]
    ) -> Future[Answer]:
        """A model's answers, when they are there.

        Fails with Died if the model killed the engine twice, and with Failed, which is not lasting,
        if there is no engine.
        """
        self.base, self.model, self.settings = base.key, model.key, settings
        return self._caller.submit(self._ask, settings, base, model, tasks)

    def rest(self) -> None:
        """End the process, and what it holds with it; the next question starts another."""
        self.base = self.model = self.settings = None
        self._process.renew()

    def interrupt(self) -> None:
        """Give up what it was asked."""
        self._process.interrupt()

    def stop(self) -> None:
        """End the process; what it was asked is given up."""
        self._process.interrupt()
        self._caller.shutdown(wait=True, cancel_futures=True)
        self._process.stop()

    def _ask(self, settings: Settings, base: Step, model: Step, tasks: Sequence[Task]) -> Answer:
        return tried_again(lambda: self._ask_once(settings, base, model, tasks), "the engine")

    def _ask_once(
        self, settings: Settings, base: Step, model: Step, tasks: Sequence[Task]
    ) -> Answer:
        try:
            self._process.call("start", settings, base)
        except Failed as error:
            self._process.renew()
            why = f"the engine does not start: {error}"
            raise type(error)(why, lasting=False) from None
        try:
            return self._process.call("answer", settings, base, model, tasks)
        except Failed:
            self._process.renew()  # an engine that cannot say what failed is not to be trusted
            raise

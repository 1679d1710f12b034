"""The engine in a process of its own, as the driver has it: asked, and replaced when it dies."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from harness.actor import Actor
from harness.failed import Died, Failed
from harness.live import Answer, Live
from harness.spec import Engine as Settings
from harness.steps import Step
from harness.tasks import Task


class EngineProcess:
    """One process with one :class:`harness.live.Live`, which starts when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self._actor = Actor("harness engine", Live, settings)
        self._caller = ThreadPoolExecutor(1)

    def ask(self, base: Step, model: Step, tasks: Sequence[Task]) -> Future[Answer]:
        """A model's answers, when they are there.

        Fails with Died if the model killed the engine twice, and with Failed, which is not lasting,
        if there is no engine.
        """
        return self._caller.submit(self._ask, base, model, tasks)

    def stop(self) -> None:
        """End the process; what it was asked is given up."""
        self._actor.interrupt()
        self._caller.shutdown(wait=True, cancel_futures=True)
        self._actor.stop()

    def _ask(self, base: Step, model: Step, tasks: Sequence[Task]) -> Answer:
        try:
            return self._ask_once(base, model, tasks)
        except Died:
            pass
        try:
            return self._ask_once(base, model, tasks)
        except Died as error:
            raise Died(f"twice, the engine {error}", error.lasting) from None

    def _ask_once(self, base: Step, model: Step, tasks: Sequence[Task]) -> Answer:
        try:
            self._actor.call("start", base)
        except Failed as error:
            self._actor.renew()
            why = f"the engine does not start: {error}"
            raise type(error)(why, lasting=False) from None
        try:
            return self._actor.call("answer", base, model, tasks)
        except Failed:
            self._actor.renew()  # an engine that cannot say what failed is not to be trusted
            raise


@contextmanager
def start_engine(settings: Settings) -> Iterator[EngineProcess]:
    """An engine until the block ends."""
    engine = EngineProcess(settings)
    try:
        yield engine
    finally:
        engine.stop()

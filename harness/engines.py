"""Engines side by side: each model goes to the one that needs least to have it."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from harness import machine
from harness.actor import Actor
from harness.engine_process import EngineProcess
from harness.live import Answer, Live
from harness.spec_machine import Engine as Settings
from harness.steps import Step
from harness.tasks import Task


class Engines:
    """Some engines, each with one model at a time; they start when they are first asked."""

    def __init__(self, engines: Sequence[EngineProcess]) -> None:
        self._engines = engines
        self._asked: dict[EngineProcess, Future[Answer]] = {}

    @property
    def idle(self) -> list[EngineProcess]:
        """Those that can be asked now."""
        return [one for one in self._engines if one not in self._asked or self._asked[one].done()]

    def ask(
        self, settings: Settings, base: Step, model: Step, tasks: Sequence[Task]
    ) -> Future[Answer]:
        """As :meth:`EngineProcess.ask`, by an idle engine.

        One that has the model or else runs for its base is best; next one that has yet to start,
        since to stop another is to start it again some day.
        """

        def cost(engine: EngineProcess) -> int:
            fits = engine.settings == settings
            known = (
                fits and engine.model == model.key,
                fits and engine.base == base.key,
                engine.base is None,
            )
            return known.index(True) if True in known else len(known)

        engine = min(self.idle, key=cost)
        self._asked[engine] = engine.ask(settings, base, model, tasks)
        return self._asked[engine]

    def rest(self) -> None:
        """Stop those that are idle, so that what they hold is free for steps."""
        for engine in self.idle:
            engine.rest()

    def stop(self) -> None:
        """End all; what they were asked is given up."""
        for engine in self._engines:
            engine.interrupt()
        for engine in self._engines:
            engine.stop()


@contextmanager
def start_engines(count: int) -> Iterator[Engines]:
    """So many engines on this machine until the block ends.

    Several share its GPUs among them.
    """
    shares = [",".join(share) for share in _shares(machine.visible_gpus(), count)]
    engines = Engines(
        [EngineProcess(Actor("harness engine", Live, share or None)) for share in shares]
    )
    try:
        yield engines
    finally:
        engines.stop()


def _shares(gpus: Sequence[str], count: int) -> list[Sequence[str]]:
    """Neighbours together, as they have the faster links."""
    size = len(gpus) // count
    return [gpus[number * size : (number + 1) * size] for number in range(count)]

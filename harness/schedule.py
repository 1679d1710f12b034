"""Missing steps on their way through worker processes: each as soon as its inputs are there."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from harness.executor import Pool
from harness.failed import Failed, failed, needs
from harness.policy import Job, ranks
from harness.steps import Step


class Schedule:
    """The steps of a plan that have to be made; the longest chain of work goes first."""

    def __init__(self, steps: Sequence[Step], workers: Pool) -> None:
        self._workers = workers
        self._waiting: dict[str, Step] = {}
        self._urgency: dict[str, float] = {}
        self._running: dict[Future, Step] = {}
        self._failed: dict[str, Step] = {}
        self.add(steps)

    def add(self, steps: Sequence[Step]) -> None:
        """More steps to make, inputs first; those that are on their way already stay so."""
        running = {step.key for step in self._running.values()}
        self._waiting |= {step.key: step for step in steps if step.key not in running}
        self._urgency |= urgency(steps)
        self._submit_ready()

    @property
    def idle(self) -> bool:
        """Whether nothing is running or waiting any more."""
        return not self._running and not self._waiting

    @property
    def pending(self) -> set[str]:
        """Keys of steps whose result :meth:`ended` has yet to give; their artifacts may exist."""
        return {*self._waiting, *(step.key for step in self._running.values())}

    @property
    def running(self) -> set[Future]:
        """What to wait for until :meth:`ended` has something to give."""
        return set(self._running)

    def ended(self, timeout: float) -> Iterator[tuple[Step, dict[str, Any] | Failed]]:
        """Steps that ended since the last call, with their manifests or what went wrong.

        Waits up to ``timeout`` seconds for the first. A step that needs a failed one fails too.
        """
        done, _ = wait(self._running, timeout=timeout, return_when=FIRST_COMPLETED)
        results = [(self._running.pop(future), future) for future in done]
        self._failed |= {step.key: step for step, future in results if future.exception()}
        self._submit_ready()
        for step, future in results:
            error = future.exception()
            yield step, failed(error) if error else future.result()
        yield from self._blocked()

    @property
    def starved(self) -> bool:
        """Whether steps wait for what idle engines hold."""
        return bool(self._running) and self._workers.starved

    def reports(self) -> Iterator[tuple[Step, int, int]]:
        """Progress that workers reported since the last call: (step, done, total)."""
        running = {step.key: step for step in self._running.values()}
        while not self._workers.reports.empty():
            key, done, total = self._workers.reports.get()
            if key in running:
                yield running[key], done, total

    def _submit_ready(self) -> None:
        """Hand over all steps whose inputs exist: a worker never waits for the driver to look."""
        # what is not there and will not come was set aside as damaged, as the worker will say
        coming = self.pending | self._failed.keys()
        ready = [
            step
            for step in self._waiting.values()
            if all(part.done or part.key not in coming for part in step.inputs.values())
        ]
        for step in sorted(ready, key=lambda step: -self._urgency[step.key]):
            del self._waiting[step.key]
            self._running[self._workers.submit(step)] = step

    def _blocked(self) -> Iterator[tuple[Step, Failed]]:
        for step in list(self._waiting.values()):
            failures = [p.key for p in step.inputs.values() if p.key in self._failed]
            if failures:
                self._failed[step.key] = self._failed[failures[0]]
                del self._waiting[step.key]
                yield step, Failed(needs(self._failed[step.key].label), lasting=False)


def work(step: Step) -> int:
    """How long a step takes, in thousands of tokens trained; merges count as a little."""
    training = step.settings.get("training")
    if not training:
        return 20
    tokens = training["steps"] * training["batch_size"] * training["sequence_length"]
    return 20 + tokens // 1000


def urgency(steps: Sequence[Step]) -> dict[str, float]:
    """Work from the start of each step to the end of the longest chain that waits for it.

    ``steps`` come inputs first.
    """
    return ranks(
        Job(step.key, work(step), tuple(part.key for part in step.inputs.values()))
        for step in steps
    )

"""Worker processes for steps: one thread each, so that independent steps run side by side.

On few cores, two runs of one thread each beat one run of two threads.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from harness.actor import Actor
from harness.execute import execute
from harness.failed import tried_again
from harness.steps import Step
from maec.progress import Progress

WORKER_MEMORY = 1 << 30
"""Bytes a training process of a small model takes; the number of workers respects it."""

GRACE = 2.0
"""Seconds that a step which is interrupted has to remove what it has half done."""

UNTIDY = "ignore::UserWarning:multiprocessing.resource_tracker"
"""Python tidies up after processes that were killed, and need not say so."""


class Workers:
    """Processes that make one step at a time; a step whose worker died is tried once more.

    ``reports`` holds (key, done, total) of steps that are in work; ``starved`` says whether steps
    wait for what engines hold, which they share here.
    """

    starved = False

    def __init__(self, count: int, threads: int) -> None:
        self.reports: SimpleQueue[tuple[str, int, int]] = SimpleQueue()
        self._actors = [Actor("harness step", _Worker, threads) for _ in range(count)]
        self._idle: SimpleQueue[Actor] = SimpleQueue()
        for actor in self._actors:
            self._idle.put(actor)
        self._callers = ThreadPoolExecutor(count)

    def submit(self, step: Step) -> Future[dict[str, Any]]:
        """The step's manifest when it is made; else Failed, which is Died if two workers died."""
        return self._callers.submit(self._make, step)

    def stop(self) -> None:
        """End all processes; what they work at is given up."""
        for actor in self._actors:
            actor.interrupt(GRACE)
        self._callers.shutdown(wait=True, cancel_futures=True)
        for actor in self._actors:
            actor.stop()

    def _make(self, step: Step) -> dict[str, Any]:
        def report(done: int, total: int) -> None:
            self.reports.put((step.key, done, total))

        actor = self._idle.get()
        try:
            return tried_again(lambda: actor.call("make", step, report=report), "its process")
        finally:
            self._idle.put(actor)


class _Worker:
    """What a worker process does."""

    def __init__(self, threads: int) -> None:
        prepare(threads)

    def make(self, step: Step, report: Progress) -> dict[str, Any]:
        return execute(step, report)


def prepare(threads: int) -> None:
    """Let this process make steps, silently, with so many threads."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(threads)
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def environment(threads: int) -> dict[str, str]:
    """What must be set before a process that makes steps starts, beside what is set here.

    Threads are read by the numerical libraries, the others by Python itself.
    """
    warnings = filter(None, (os.environ.get("PYTHONWARNINGS"), UNTIDY))
    return {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": ",".join(warnings),
    }


@contextmanager
def start_workers(count: int, threads: int) -> Iterator[Workers]:
    """Up to ``count`` worker processes with ``threads`` threads each until the block ends."""
    with _environment(environment(threads)):
        workers = Workers(count, threads)
        try:
            yield workers
        finally:
            workers.stop()


@contextmanager
def _environment(changed: Mapping[str, str]) -> Iterator[None]:
    previous = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

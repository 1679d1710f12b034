"""Who does a run's work: processes of this machine, or those of a Ray cluster."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Protocol

import psutil

from harness import machine
from harness.engines import Engines, start_engines
from harness.spec import Matrix
from harness.steps import Step
from harness.workers import WORKER_MEMORY, start_workers


class Pool(Protocol):
    """What makes steps, as :class:`harness.workers.Workers` describes it."""

    reports: SimpleQueue[tuple[str, int, int]]
    starved: bool

    def submit(self, step: Step) -> Future[dict[str, Any]]: ...


@contextmanager
def start_executor(
    matrix: Matrix, steps: int, workers: int | None = None
) -> Iterator[tuple[Pool, Engines]]:
    """What makes ``steps`` steps of a matrix, ``workers`` side by side, and what serves its models.

    Both work until the block ends.

    Raises:
        InputError: the cluster that the matrix names cannot be used.
    """
    count = workers or worker_count(steps, matrix.resources.processes)
    if matrix.executor.kind == "ray":
        from harness.on_ray import start_ray

        with start_ray(matrix, count) as started:
            yield started
        return
    with (
        start_workers(count, max(1, machine.cores() // count)) as pool,
        start_engines(matrix.engine.data_parallel_size or 1) as engines,
    ):
        yield pool, engines


def worker_count(steps: int, processes: int = 1) -> int:
    """How many steps to make side by side: as cores and memory allow, one on a GPU.

    ``processes`` share each training.
    """
    if machine.gpus():
        return 1  # one training run fills a GPU
    by_memory = int(psutil.virtual_memory().available // WORKER_MEMORY)
    return max(1, min(machine.cores() // processes, by_memory // processes, steps))

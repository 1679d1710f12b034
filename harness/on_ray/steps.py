"""Steps as Ray tasks, with what each needs; Ray finds their place."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness import remote
from harness.execute import execute
from harness.failed import Died, failed, tried_again
from harness.on_ray.cluster import ON_GPUS, Cluster
from harness.on_ray.process import answered, died
from harness.on_ray.training import train
from harness.on_ray.work import EVERY, Work
from harness.steps import Step
from harness.workers import GRACE

IN_FLIGHT = 256
"""Steps that Ray has at a time, running or waiting for room; enough for a cluster to grow by."""


class RayWorkers:
    """What makes steps on a cluster, as :class:`harness.workers.Workers` does on a machine."""

    def __init__(self, cluster: Cluster) -> None:
        self.reports: SimpleQueue[tuple[str, int, int]] = SimpleQueue()
        self._cluster = cluster
        self._callers = ThreadPoolExecutor(IN_FLIGHT)
        self._running: dict[Step, ray.ObjectRef] = {}
        self._stopped = threading.Event()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._board = _Board.options(num_cpus=0, scheduling_strategy=here).remote()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def starved(self) -> bool:
        """Whether steps wait for GPUs, as far as can be told: some want one and none is free."""
        wanted = any(step.kind in ON_GPUS for step in list(self._running))
        return bool(self._cluster.gpus and wanted and not ray.available_resources().get("GPU"))

    def submit(self, step: Step) -> Future[dict[str, Any]]:
        """The step's manifest when it is made; else Failed, which is Died if two tasks died."""
        return self._callers.submit(self._make, step)

    def stop(self) -> None:
        """End all tasks; what they work at is given up."""
        self._stopped.set()
        for force in (False, True):
            running = list(self._running.values())
            for task in running:
                ray.cancel(task, force=force)
            ray.wait(running, num_returns=len(running), timeout=GRACE) if running else None
        self._callers.shutdown(wait=True, cancel_futures=True)

    def _make(self, step: Step) -> dict[str, Any]:
        return tried_again(lambda: self._make_once(step), "its task")

    def _make_once(self, step: Step) -> dict[str, Any]:
        if self._stopped.is_set():
            raise Died("was stopped")
        executor = self._cluster.matrix.executor
        given = self._cluster.located(step.inputs.values())
        work = Work(step, given, executor.cpus, executor.artifacts, self._board)
        if self._cluster.spreads(step):
            self._running[step] = train.remote(work, bool(self._cluster.gpus))
        else:
            self._running[step] = _make.options(**self._cluster.needs(step)).remote(work)
        try:
            manifest, pointer = answered(ray.get(self._running[step]))
        except ray.exceptions.RayError as error:
            raise died(error) from None
        finally:
            del self._running[step]
        remote.take([step], [pointer] if pointer else [])
        return manifest

    def _listen(self) -> None:
        """Pass on what tasks report, the latest of each."""
        while not self._stopped.wait(EVERY):
            try:
                for key, (done, total) in ray.get(self._board.take.remote()).items():
                    self.reports.put((key, done, total))
            except ray.exceptions.RayError:
                return  # it went with its node; the work goes on without a bar


@ray.remote
class _Board:
    """Where tasks say how far they are."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[int, int]] = {}

    def put(self, key: str, done: int, total: int) -> None:
        self._latest[key] = (done, total)

    def take(self) -> dict[str, tuple[int, int]]:
        latest, self._latest = self._latest, {}
        return latest


# what is done again is decided above, as it is where there is no Ray
@ray.remote(max_retries=0)
def _make(work: Work) -> Any:
    """The manifest and, where artifacts go to a place of their own, what points to it there."""
    try:
        work.prepare()
        return work.done(execute(work.step, work.report))
    except BaseException as error:
        return failed(error)


@contextmanager
def start_workers(cluster: Cluster) -> Iterator[RayWorkers]:
    """What makes steps on the cluster until the block ends."""
    workers = RayWorkers(cluster)
    try:
        yield workers
    finally:
        workers.stop()

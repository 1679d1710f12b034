"""Engines as Ray actors, as many as the cluster has room for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness import remote
from harness.engine_process import EngineProcess
from harness.engines import Engines
from harness.live import Live
from harness.on_ray.cluster import Cluster
from harness.on_ray.process import RayActor
from harness.parallel import require_gpus
from harness.steps import Step
from harness.streams import stored


class _Live(Live):
    """An engine on a node that has to be told where the artifacts are that it serves."""

    def told(
        self, steps: Sequence[Step], given: Sequence[remote.Pointer], method: str, *arguments: Any
    ) -> Any:
        remote.take(steps, given)
        return getattr(self, method)(*arguments)


class _Actor(RayActor):
    """One that tells it so, of all steps among the arguments."""

    def __init__(self, cluster: Cluster, place: Mapping[str, Any]) -> None:
        super().__init__(place, _Live)
        self._cluster = cluster

    def call(self, method: str, *arguments: Any) -> Any:
        named = [step for step in arguments if isinstance(step, Step)]
        steps = [part for step in named for part in (step, *stored(step))]
        return super().call("told", steps, self._cluster.located(steps), method, *arguments)


@contextmanager
def start_engines(cluster: Cluster) -> Iterator[Engines]:
    """Engines until the block ends: as many as have GPUs, or where there are none one a node.

    There, an engine shares its node's cores with the steps, as it does without Ray. An engine that
    is split has its GPUs on one node.

    Raises:
        InputError: no node has so many GPUs, or there are none and models are to be quantised.
    """
    require_gpus(cluster.matrix, max(cluster.gpus.values(), default=0))
    places = [
        {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)}
        for node in cluster.nodes
    ]
    split = max(engine.workers for engine in cluster.matrix.engines().values())
    if room := sum(gpus // split for gpus in cluster.gpus.values()):
        places = [{"num_cpus": split, "num_gpus": split}] * room
    count = cluster.matrix.engine.data_parallel_size or len(places)
    made = [_Actor(cluster, places[i % len(places)]) for i in range(count)]
    engines = Engines([EngineProcess(actor) for actor in made])
    try:
        yield engines
    finally:
        engines.stop()

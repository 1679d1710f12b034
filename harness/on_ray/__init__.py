"""A run's work on a Ray cluster: steps are tasks, engines are actors, this process drives them."""

from collections.abc import Iterator
from contextlib import contextmanager

from harness.engines import Engines
from harness.on_ray.cluster import connected
from harness.on_ray.engines import start_engines
from harness.on_ray.steps import RayWorkers, start_workers
from harness.spec import Matrix


@contextmanager
def start_ray(matrix: Matrix, steps: int) -> Iterator[tuple[RayWorkers, Engines]]:
    """What makes steps and what serves models until the block ends.

    Without a cluster one is started here, for ``steps`` steps side by side.

    Raises:
        InputError: the cluster cannot be reached, or a node of it cannot do this work.
    """
    with (
        connected(matrix, steps) as cluster,
        start_workers(cluster) as pool,
        start_engines(cluster) as engines,
    ):
        yield pool, engines

"""Which work goes first and where: pure functions, for the simulator and for every executor.

List scheduling by the longest way to the end: the order is HEFT's (Topcuoglu, Hariri & Wu 2002,
doi 10.1109/71.993206), and nothing that fits waits while a GPU that it could have is idle. Engines
keep the model that they have for as long as it has questions left (affinity). A run that needs more
GPUs than are free keeps others from taking them one by one, which is EASY backfilling (Mu'alem &
Feitelson 2001, doi 10.1109/71.932708).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Place = tuple[tuple[int, int], ...]
"""Nodes by number, and how many GPUs of each."""


@dataclass(frozen=True)
class Job:
    """A step, or the questions of one task to one model.

    ``seconds`` are those on what it asks for: ``gpus``, or a slot where that is 0, and ``memory``
    bytes of a node. ``needs`` are keys of the jobs before it. An evaluation has a ``model``, which
    an engine of its ``base`` has after ``switch`` seconds; starting that engine takes ``start``.
    ``group`` is what people call jobs of this kind.
    """

    key: str
    seconds: float
    needs: tuple[str, ...] = ()
    gpus: int = 0
    memory: int = 0
    model: str = ""
    base: str = ""
    start: float = 0.0
    switch: float = 0.0
    group: str = ""
    label: str = ""

    @property
    def least(self) -> float:
        """Seconds that it takes at least, on an engine that runs already."""
        return self.switch + self.seconds


@dataclass
class Node:
    """What of a node is free: GPUs, those of engines that wait, slots, and bytes of memory."""

    gpus: int
    slots: int
    memory: float
    waiting: int = 0


@dataclass(eq=False)
class Engine:
    """An engine on ``place`` for models of ``base``, with the weights of ``model``."""

    base: str
    place: Place
    model: str = ""


def ranks(jobs: Iterable[Job]) -> dict[str, float]:
    """Seconds from the start of each job to the end of the longest chain that waits for it.

    The highest goes first. ``jobs`` come after what they need.
    """
    after: dict[str, float] = {}
    for job in reversed(list(jobs)):
        after[job.key] = after.get(job.key, 0.0) + job.least
        for needed in job.needs:
            after[needed] = max(after.get(needed, 0.0), after[job.key])
    return after


def slot(job: Job, nodes: Sequence[Node]) -> Place | None:
    """The node with most memory among those that can take a job without a GPU."""
    fit = [i for i, node in enumerate(nodes) if node.slots and node.memory >= job.memory]
    return ((max(fit, key=lambda i: nodes[i].memory), 0),) if fit else None


def room(gpus: int, free: Sequence[int], size: int) -> Place | None:
    """Where ``gpus`` are free: the node that they fill best, else whole nodes of ``size`` each."""
    if gpus <= size:
        fit = [i for i, count in enumerate(free) if count >= gpus]
        return ((min(fit, key=free.__getitem__), gpus),) if fit else None
    count = -(-gpus // size)
    empty = [i for i, count in enumerate(free) if count == size][:count]
    if len(empty) < count:
        return None
    return (*((i, size) for i in empty[:-1]), (empty[-1], gpus - size * (count - 1)))


def reserved(gpus: int, nodes: Sequence[Node], size: int) -> list[int]:
    """Nodes that are kept for a run that needs more GPUs than any have free: the freest ones."""
    freest = sorted(range(len(nodes)), key=lambda i: -(nodes[i].gpus + nodes[i].waiting))
    return freest[: -(-gpus // size)]


def to_stop(place: Place, nodes: Sequence[Node], waiting: Iterable[Engine]) -> list[Engine]:
    """Which waiting engines give their GPUs to a run on ``place``; the first ones go first."""
    stopped = []
    missing = {i: gpus - nodes[i].gpus for i, gpus in place}
    for engine in waiting:
        ((i, gpus),) = engine.place
        if missing.get(i, 0) > 0:
            missing[i] -= gpus
            stopped.append(engine)
    return stopped


def helps(left: float, job: Job, *, start: bool) -> bool:
    """Whether a second engine is worth its switch for a model with ``left`` seconds to be asked."""
    return left > job.switch + (job.start if start else 0.0)

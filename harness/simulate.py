"""What a schedule will be: the jobs of a plan on so many nodes and GPUs, by discrete events.

Nothing runs; durations are taken as they are given. All that is decided, :mod:`harness.policy`
decides.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from harness.policy import (
    Engine,
    Job,
    Node,
    Place,
    helps,
    ranks,
    reserved,
    room,
    slot,
    to_stop,
)


@dataclass(frozen=True)
class Resources:
    """``nodes`` with ``gpus``, ``slots`` and ``memory`` (bytes) each.

    A slot does one job that needs no GPU; it starts with its first one, which takes ``slot_start``
    seconds. All that runs shares ``cores``, one each while they last; fewer than the machine has
    where others take the rest. On a cluster nothing is shared.
    """

    nodes: int = 1
    gpus: int = 1
    slots: int = 1
    memory: float = math.inf
    cores: float = math.inf
    slot_start: float = 0.0


@dataclass(frozen=True)
class Span:
    """What was where from ``start`` to ``end`` (seconds): a job, ready after ``overhead`` of them.

    The overhead is the start of a slot or an engine, and the switch of the engine's weights.
    """

    job: Job
    place: Place
    start: float
    end: float
    overhead: float


@dataclass(frozen=True)
class Simulated:
    """A schedule: spans by start, and the chain of jobs that no number of GPUs could shorten."""

    resources: Resources
    spans: list[Span]
    critical: list[Job]

    @property
    def makespan(self) -> float:
        return max((span.end for span in self.spans), default=0.0)

    @property
    def shortest(self) -> float:
        """Seconds of the critical path."""
        return sum(job.least for job in self.critical)

    def gpu_seconds(self) -> Counter[str]:
        """By group, and what engines took to start and switch under ``overhead``."""
        found: Counter[str] = Counter()
        for span in self.spans:
            found[span.job.group] += span.job.gpus * (span.end - span.start - span.overhead)
            found["overhead"] += span.job.gpus * span.overhead
        return found


def simulate(jobs: Iterable[Job], resources: Resources) -> Simulated:
    """Schedule ``jobs``, which come after what they need; needs that are no jobs are there already.

    Raises:
        ValueError: a job fits on no node.
    """
    ordered = list(jobs)
    rank = ranks(ordered)
    simulation = _Simulation(ordered, rank, resources)
    simulation.run()
    return Simulated(resources, simulation.spans, critical_path(ordered, rank))


def critical_path(jobs: Sequence[Job], rank: Mapping[str, float]) -> list[Job]:
    """The longest chain of jobs that need one another."""
    after: dict[str, list[Job]] = defaultdict(list)
    known = {job.key for job in jobs}
    for job in jobs:
        for needed in job.needs:
            after[needed].append(job)
    starts = [job for job in jobs if not known & set(job.needs)]
    path: list[Job] = []
    while starts:
        path.append(max(starts, key=lambda job: rank[job.key]))
        starts = after[path[-1].key]
    return path


@dataclass(eq=False)
class _Run:
    """A job under way; ``end`` is by the clock that stands still while a job has no core."""

    job: Job
    place: Place
    start: float
    end: float
    overhead: float
    engine: Engine | None


@dataclass
class _Asked:
    """What a model has yet to be asked, all at once ready, the longest last; its engines."""

    jobs: list[Job]
    left: float
    engines: int = 0

    def take(self) -> Job:
        job = self.jobs.pop()
        self.left -= job.seconds
        return job


class _Simulation:
    """The state of a schedule; every method keeps what nodes have free in step with what runs."""

    def __init__(
        self, jobs: Sequence[Job], rank: Mapping[str, float], resources: Resources
    ) -> None:
        self.spans: list[Span] = []
        self._rank, self._resources = rank, resources
        self._nodes = [
            Node(resources.gpus, resources.slots, resources.memory) for _ in range(resources.nodes)
        ]
        self._slots_started = [0] * resources.nodes
        self._now = self._clock = 0.0
        self._running: list[tuple[float, int, _Run]] = []
        self._engines: list[Engine] = []  # those that wait
        self._steps: dict[int, list[tuple[float, int, Job]]] = defaultdict(list)  # by GPUs
        self._models: list[tuple[float, int, str]] = []  # that no engine has
        self._asked: dict[str, _Asked] = {}
        self._kept: dict[int, float] = {}  # nodes for a larger run, by the time when it can start
        self._order = count()
        known = {job.key for job in jobs}
        self._missing = {job.key: len(known.intersection(job.needs)) for job in jobs}
        self._after: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            for needed in known.intersection(job.needs):
                self._after[needed].append(job)
        self._ready([job for job in jobs if not self._missing[job.key]])

    def run(self) -> None:
        self._dispatch()
        while self._running:
            end = self._running[0][0]
            share = len(self._running) / self._resources.cores
            self._now += (end - self._clock) * max(1.0, share)
            self._clock = end
            # all that ends at a time makes room before anything starts
            while self._running and self._running[0][0] == end:
                self._end(heappop(self._running)[2])
            self._dispatch()
        self.spans.sort(key=lambda span: span.start)
        waiting = [job for steps in self._steps.values() for _, _, job in steps]
        waiting += [job for asked in self._asked.values() for job in asked.jobs]
        if waiting:
            raise ValueError(f"{waiting[0].label}: no node has room for it")

    def _ready(self, jobs: Iterable[Job]) -> None:
        asked: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            if job.model:
                asked[job.model].append(job)
            else:
                entry = (-self._rank[job.key], next(self._order), job)
                heappush(self._steps[job.gpus], entry)
        for model, own in asked.items():
            left = sum(job.seconds for job in own)
            self._asked[model] = _Asked(sorted(own, key=lambda job: job.seconds), left)
            heappush(self._models, (-left, next(self._order), model))

    def _end(self, run: _Run) -> None:
        self.spans.append(Span(run.job, run.place, run.start, self._now, run.overhead))
        if run.engine is not None:
            self._wait(run.engine, waits=True)
        elif run.job.gpus:
            self._free(run.place)
        else:
            self._nodes[run.place[0][0]].slots += 1
            self._nodes[run.place[0][0]].memory += run.job.memory
        opened = []
        for job in self._after[run.job.key]:
            self._missing[job.key] -= 1
            if not self._missing[job.key]:
                opened.append(job)
        self._ready(opened)

    def _dispatch(self) -> None:
        self._kept = {}
        self._start_steps()
        self._go_on()
        self._take_models()
        self._help()

    def _start_steps(self) -> None:
        """Steps in their order; a kind that finds no room lets smaller ones pass."""
        open_kinds = {gpus for gpus, steps in self._steps.items() if steps}
        while open_kinds:
            gpus = min(open_kinds, key=lambda kind: self._steps[kind][0][:2])
            job = self._steps[gpus][0][2]
            place = self._place(job)
            if place is None:
                open_kinds.discard(gpus)
                if gpus and not self._kept:
                    self._keep(gpus)
                continue
            heappop(self._steps[gpus])
            if not self._steps[gpus]:
                open_kinds.discard(gpus)
            overhead = 0.0 if gpus else self._take_slot(job, place[0][0])
            self._take(place)
            self._start(job, place, overhead)

    def _take_slot(self, job: Job, i: int) -> float:
        """Returns the seconds that the slot takes to start."""
        node, resources = self._nodes[i], self._resources
        fresh = resources.slots - node.slots == self._slots_started[i]
        self._slots_started[i] += fresh
        node.slots -= 1
        node.memory -= job.memory
        return resources.slot_start * fresh

    def _place(self, job: Job) -> Place | None:
        if not job.gpus:
            return slot(job, self._nodes)
        return self._room(job.gpus) or self._room(job.gpus, stop=True)

    def _go_on(self) -> None:
        """Engines that wait ask the model that they have."""
        for engine in list(self._engines):
            left = self._asked[engine.model].jobs
            if left and self._may(engine, left[-1].seconds):
                self._ask(engine, engine.model)

    def _take_models(self) -> None:
        """The models that no engine has, those with most to be asked first."""
        while self._models:
            model = self._models[0][2]
            if not self._asked[model].jobs or self._asked[model].engines:
                heappop(self._models)
            elif not self._serve(model):
                return

    def _help(self) -> None:
        """A second engine for a model with much left, where nothing else is to be done."""
        held = {run.engine.model for _, _, run in self._running if run.engine}
        busy = {model for model in held if self._asked[model].jobs}
        while busy:
            model = max(busy, key=lambda model: (self._asked[model].left, model))
            if not (self._is_worth(model) and self._serve(model) and self._asked[model].jobs):
                busy.remove(model)

    def _is_worth(self, model: str) -> bool:
        job = self._next(model)
        start = all(engine.base != job.base for engine in self._engines)
        return helps(self._asked[model].left, job, start=start)

    def _serve(self, model: str) -> bool:
        """Give a model an engine of its base that waits, else a new one; False without room."""
        job = self._next(model)
        for engine in self._engines:
            if engine.base == job.base and self._may(engine, job.least):
                self._ask(engine, model)
                return True
        seconds = job.start + job.least
        place = self._room(job.gpus, seconds) or self._room(job.gpus, seconds, stop=True)
        if place is None:
            return False
        self._take(place)
        self._ask(Engine(job.base, place), model)
        return True

    def _ask(self, engine: Engine, model: str) -> None:
        """Start the longest question set that ``model`` has left."""
        job = self._asked[model].take()
        overhead = 0.0 if engine.model else job.start
        if engine in self._engines:
            self._wait(engine, waits=False)
        if engine.model != model:
            self._leave(engine)
            engine.model = model
            self._asked[model].engines += 1
            overhead += job.switch
        self._start(job, engine.place, overhead, engine)

    def _start(
        self, job: Job, place: Place, overhead: float = 0.0, engine: Engine | None = None
    ) -> None:
        end = self._clock + overhead + job.seconds
        run = _Run(job, place, self._now, end, overhead, engine)
        heappush(self._running, (end, next(self._order), run))

    def _room(self, gpus: int, seconds: float = 0.0, *, stop: bool = False) -> Place | None:
        """Where ``gpus`` are free, or will be if engines that wait are stopped."""
        free = [
            (node.gpus + node.waiting * stop) if self._open(i, seconds) else 0
            for i, node in enumerate(self._nodes)
        ]
        return room(gpus, free, self._resources.gpus)

    def _open(self, node: int, seconds: float) -> bool:
        """Whether a node is kept for no larger run, or free again before that can start."""
        return self._clock + seconds <= self._kept.get(node, math.inf)

    def _may(self, engine: Engine, seconds: float) -> bool:
        return all(self._open(node, seconds) for node, _ in engine.place)

    def _keep(self, gpus: int) -> None:
        """Keep nodes for a run until what runs there leaves it enough GPUs."""
        size = self._resources.gpus
        kept = reserved(gpus, self._nodes, size)
        when = self._clock
        for i in kept:
            free = self._nodes[i].gpus + self._nodes[i].waiting
            for end, _, run in sorted(self._running, key=lambda entry: entry[:2]):
                if free >= min(gpus, size):
                    break
                free += dict(run.place).get(i, 0)
                when = max(when, end)
        self._kept = dict.fromkeys(kept, when)

    def _take(self, place: Place) -> None:
        """Take GPUs; engines that wait there are stopped as far as they are in the way."""
        spent = sorted(self._engines, key=lambda engine: len(self._asked[engine.model].jobs))
        for engine in to_stop(place, self._nodes, spent):
            self._wait(engine, waits=False)
            self._leave(engine)
            self._free(engine.place)
        for i, gpus in place:
            self._nodes[i].gpus -= gpus

    def _free(self, place: Place) -> None:
        for i, gpus in place:
            self._nodes[i].gpus += gpus

    def _wait(self, engine: Engine, *, waits: bool) -> None:
        """An engine has nothing to do, or no longer."""
        (self._engines.append if waits else self._engines.remove)(engine)
        for i, gpus in engine.place:
            self._nodes[i].waiting += gpus if waits else -gpus

    def _leave(self, engine: Engine) -> None:
        """An engine has its model no more; what that has left is for another one."""
        if not engine.model:
            return
        asked = self._asked[engine.model]
        asked.engines -= 1
        if asked.jobs and not asked.engines:
            heappush(self._models, (-asked.left, next(self._order), engine.model))

    def _next(self, model: str) -> Job:
        return self._asked[model].jobs[-1]

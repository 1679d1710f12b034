"""The jobs of a plan for :mod:`harness.policy`: what each takes, and for how long.

Seconds are recorded ones of the same or of like work, where this machine is the one that is asked
for, else they follow from prices. Bandwidths and starting times are assumed, round and said so.
"""

from collections import Counter
from dataclasses import dataclass, field

from rich.filesize import decimal

from harness import machine
from harness.identity import digest
from harness.plan import Cell, Plan
from harness.policy import Job
from harness.price import Gpu, Prices, asked, gpus_needed, trained_tokens
from harness.recorded import Recorded
from harness.simulate import Resources
from harness.spec_machine import Engine
from harness.steps import Step
from maec.errors import InputError

DISK = 1e9
"""Bytes a second that a node reads and writes of checkpoints, one merge at a time."""

NETWORK = 1.25e8
"""Bytes a second from a hub: 1 Gbit/s."""

HOST = 2.5e10
"""Bytes a second between a GPU and its host: PCIe 4.0 × 16 without its overhead."""

TRAINING_START, ENGINE_START = 30.0, 60.0
"""Seconds until a process on a GPU can begin, reading weights not counted."""

CORE = 1e10
"""FLOP/s of a core, where nothing was recorded."""

WORKER_START, ENGINE_START_ON_CPU = 5.0, 15.0
"""The same without a GPU, where nothing was recorded."""


@dataclass
class Work:
    """Jobs, each after those that it needs, and what they run on.

    ``sources`` counts jobs by where their seconds come from: ``recorded``, ``like`` recorded ones,
    ``price`` or, counted as 0 seconds, ``unknown``. ``offloaded`` are trainings for which all GPUs
    together have too little memory.
    """

    resources: Resources
    jobs: list[Job] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    offloaded: int = 0

    def add(self, job: Job, source: str) -> None:
        self.jobs.append(job)
        self.sources[source] += 1


def on_gpus(
    plan: Plan, prices: Prices, gpu: Gpu, nodes: int, gpus: int, *, again: bool = False
) -> Work:
    """What a plan has left, or ``again`` all of it, on ``nodes`` with ``gpus`` each.

    Trainings have a GPU for each of their processes, or as many as their memory needs; engines a
    power of two of them, or what their settings say.

    Raises:
        InputError: a model does not fit on the GPUs of a node.
    """
    work = Work(Resources(nodes=nodes, gpus=gpus))
    steps, cells = _wanted(plan, again)
    for step in steps:
        row = prices.step(step)
        needed = step.processes * _gpus(row["gpu_memory"], gpu)
        count = min(needed, nodes * gpus)
        work.offloaded += needed > count
        moved = sum(prices.bytes(part) for part in step.inputs.values()) + prices.bytes(step)
        seconds = moved / DISK
        if step.kind == "fetch":
            seconds = (row["download"] or 0) / NETWORK
        elif count:
            seconds += TRAINING_START + 3600 * (row["gpu_hours"] or 0.0) / count
        if needed > count:
            out = max(0, step.processes * (row["gpu_memory"] or 0) - count * gpu.memory)
            seconds += step.settings["training"]["steps"] * 2 * out / (count * HOST)
        known = row["flops"] is not None and (not count or row["gpu_memory"])
        work.add(_step(step, seconds, row["group"], gpus=count), "price" if known else "unknown")
    for cell in cells:
        row, weights = prices.evaluation(cell), prices.weights(cell)
        split = cell.engine.workers
        if split > gpus:
            raise InputError(
                f"--gpus: {gpus}: an engine of this matrix is split among {split} GPUs of a node "
                "(tensor_parallel_size × pipeline_parallel_size); give more, or smaller sizes"
            )
        if weights > gpus * gpu.memory:
            raise InputError(
                f"--gpus: {gpus}: a model of {decimal(weights)} does not fit on the GPUs of a node "
                f"({gpus} × {decimal(round(gpu.memory))}); give more, or another --gpu"
            )
        count = min(1 << (max(1, _gpus(row["gpu_memory"], gpu)) - 1).bit_length(), gpus)
        count = split if split > 1 else count
        seconds = 3600 * (row["gpu_hours"] or 0.0) / count
        switch = prices.bytes(cell.model) / DISK
        job = _evaluation(
            cell, seconds, count, ENGINE_START + weights / DISK, switch, plan.matrix.engine
        )
        work.add(job, "unknown" if row["flops"] is None else "price")
    return work


def on_this_machine(
    plan: Plan, prices: Prices, recorded: Recorded, workers: int, *, again: bool = False
) -> Work:
    """What a plan has left, or ``again`` all of it, by the local executor without a GPU.

    One engine has the place of a GPU, and all that runs shares the cores.
    """
    start = WORKER_START if recorded.worker is None else recorded.worker
    work = Work(Resources(slots=workers, cores=machine.cores(), slot_start=start))
    steps, cells = _wanted(plan, again)
    for step in steps:
        row, training = prices.step(step), step.settings.get("training")
        kind = (step.label.split()[0], prices.parameters(step)) if training else (step.kind, None)
        units = trained_tokens(training) if training else prices.bytes(step)
        if step.key in recorded.steps:
            seconds, source = recorded.steps[step.key], "recorded"
        elif kind in recorded.likes:
            seconds, source = recorded.likes[kind] * units, "like"
        elif row["flops"] is None:
            seconds, source = 0.0, "unknown"
        else:
            seconds, source = row["flops"] / CORE + prices.bytes(step) / DISK, "price"
        work.add(_step(step, seconds, row["group"]), source)
    start = ENGINE_START_ON_CPU if recorded.engine is None else recorded.engine
    for cell in cells:
        flops, place = prices.evaluation(cell)["flops"], (cell.model.key, cell.task.name)
        if place in recorded.cells:
            seconds, source = recorded.cells[place], "recorded"
        elif recorded.item is not None and cell.task.docs:
            seconds, source = recorded.item * len(cell.task.docs), "like"
        elif flops is None:
            seconds, source = 0.0, "unknown"
        else:
            seconds, source = flops / CORE, "price"
        work.add(_evaluation(cell, seconds, 1, start, 0.0, plan.matrix.engine), source)
    return work


def _wanted(plan: Plan, again: bool) -> tuple[list[Step], list[Cell]]:
    """Steps, inputs first, and a cell for each task that each model is asked."""
    if again:
        return [step for step in plan.steps if step.path is None], asked(plan.cells)
    return plan.missing_steps, asked(plan.missing_cells)


def _gpus(memory: int | None, gpu: Gpu) -> int:
    """0 for what needs none; one where it is unknown."""
    if memory is None:
        return 1
    return gpus_needed(memory, gpu.memory) if memory else 0


def _step(step: Step, seconds: float, group: str, gpus: int = 0) -> Job:
    needs = tuple(part.key for part in step.inputs.values())
    named = step.label if step.label.startswith(step.kind) else f"{step.kind} {step.label}"
    return Job(step.key, seconds, needs, gpus, group=group, label=named)


def _evaluation(
    cell: Cell, seconds: float, gpus: int, start: float, switch: float, engine: Engine
) -> Job:
    """``engine`` is the matrix's; a cell with another one is for engines of their own."""
    own = "" if cell.engine == engine else " " + digest(cell.engine.model_dump())[:8]
    return Job(
        key=f"{cell.model.key} {cell.task.name}{own}",
        seconds=seconds,
        needs=(cell.model.key, cell.base.key),
        gpus=gpus,
        model=cell.model.key + own,
        base=cell.base.key + own,
        start=start,
        switch=switch,
        group="evaluation",
        label=f"{cell.task.name} to {cell.method} {cell.ability} {cell.language}",
    )


def assumptions(work: Work, gpu: Gpu | None) -> list[str]:
    """What a simulation takes for granted, a line each; without a GPU this machine is meant."""
    told = {
        "recorded": "recorded here",
        "like": "that of like work recorded here",
        "price": "by price",
        "unknown": "unknown and counted as 0",
    }
    sources = [f"{work.sources[name]:,} {told[name]}" for name in told if work.sources[name]]
    seconds = f"Seconds of jobs: {', '.join(sources)}."
    if gpu is None:
        start, cores = work.resources.slot_start, work.resources.cores
        return [
            f"{seconds} Workers start in {start:.0f} s; they and the engine share {cores:.0f} "
            "cores, one each at most."
        ]
    lines = [
        f"{seconds} FLOPs as above, checkpoints at {DISK / 1e9:.0f} GB/s a node, one merge at a "
        f"time, downloads at {NETWORK * 8e-9:.0f} Gbit/s; a training starts in "
        f"{TRAINING_START:.0f} s, an engine in {ENGINE_START:.0f} s."
    ]
    if work.offloaded:
        lines.append(
            f"{work.offloaded} trainings need more memory than all GPUs have: what is too much is "
            f"taken to go to the host and back at every step, at {HOST / 1e9:.0f} GB/s a GPU."
        )
    return lines

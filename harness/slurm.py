"""A matrix as Slurm jobs: a script that submits an array for each level of its steps, then the run.

A step's level is one more than the highest among its inputs, so that an array needs what the ones
before it made and nothing else. When a task fails, what comes after it is not started; written
anew, the script leaves out what is done.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.home import home
from harness.plan import Plan
from harness.price import DEFAULT_GPU, UTILISATION, price
from harness.sizes import parameters
from harness.steps import Step
from harness.world import known_numel
from maec.errors import InputError

LARGEST_ARRAY = 1000
"""Tasks of an array: Slurm's own limit, unless a cluster has another."""

HEADROOM = 3.0
"""How many times the price in hours a task may take, beside START."""

START = 0.5
"""Hours for imports, reading and writing."""

PROCESS_BYTES = 4 << 30
"""Memory of a process beside weights: Python, libraries, text."""


@dataclass(frozen=True)
class Cluster:
    """What jobs ask for: ``gpus`` of each training; ``options`` are sbatch's own, and override all
    that is found here."""

    gpus: int
    partition: str | None = None
    options: Sequence[str] = ()
    gpu: str = DEFAULT_GPU
    utilisation: float = UTILISATION


@dataclass(frozen=True)
class Array:
    """Steps that are made side by side, by tasks that ask for the same."""

    level: int
    steps: Sequence[Step]
    gpus: int


def script(plan: Plan, cluster: Cluster) -> str:
    """A bash script that submits everything that is missing of a matrix.

    Raises:
        InputError: nothing is missing, or what :func:`harness.price.price` refuses.
    """
    if not plan.missing_cells:
        raise InputError(f"{plan.matrix.file}: nothing to do: every cell has its score")
    found = price(plan, cluster.gpu, cluster.utilisation)
    rows = {row["key"]: row for row in found["steps"]}
    numbers = parameters(plan, known_numel)
    steps = arrays(plan.missing_steps, cluster.gpus)
    command = f"{shlex.quote(sys.executable)} -m harness.cli run {shlex.quote(_matrix(plan))}"
    lines = [
        "#!/bin/bash",
        f"# {plan.matrix.name}: {len(plan.missing_steps)} steps, then the cells. Submit with bash.",
        "# Written by `harness slurm`, which leaves out what is done when it writes this again.",
        "set -euo pipefail",
        f"cd {shlex.quote(os.getcwd())}",
        f"export MAEC_HOME={shlex.quote(str(home()))}",
        "export PYTHONHASHSEED=0",
        f"submit() {{ sbatch --parsable \"$@\"{_shared(cluster)} | cut -d ';' -f 1; }}",
    ]
    before: dict[int, list[str]] = {}
    for number, array in enumerate(steps):
        name = f"array{number}"
        lines += _array(plan, array, name, before.get(array.level - 1, []), rows, numbers, command)
        before.setdefault(array.level, []).append(name)
    # every level waits for all of the one before
    last = before[max(before)] if before else []
    asked = {"job-name": plan.matrix.name, **_gpus(min(cluster.gpus, 1))}
    lines += ["# the run", *_submitted("run", asked, last, [command])]
    lines.append('echo "submitted; the last job is $run"')
    return "\n".join(lines) + "\n"


def arrays(steps: Sequence[Step], gpus: int) -> list[Array]:
    """Missing ``steps``, inputs first, by level, and trainings apart from what needs no GPU."""
    levels: dict[str, int] = {}
    groups: dict[tuple[int, int], list[Step]] = {}
    for step in steps:
        level = 1 + max((levels.get(part.key, 0) for part in step.inputs.values()), default=0)
        levels[step.key] = level
        trains = step.kind in ("train", "pretrain")
        groups.setdefault((level, gpus if trains else 0), []).append(step)
    return [
        Array(level, found[first : first + LARGEST_ARRAY], needed)
        for (level, needed), found in sorted(groups.items(), key=lambda group: group[0])
        for first in range(0, len(found), LARGEST_ARRAY)
    ]


def _array(
    plan: Plan,
    array: Array,
    name: str,
    needs: Sequence[str],
    rows: Mapping[str, Mapping[str, Any]],
    numbers: Mapping[str, int | None],
    command: str,
) -> Iterator[str]:
    yield f"# level {array.level}: {_described(array.steps)}"
    asked = {
        "job-name": f"{plan.matrix.name}-{array.level}",
        "array": f"0-{len(array.steps) - 1}",
        **_gpus(array.gpus),
        **_memory(array, rows, numbers),
        **_time(array, rows),
    }
    keys = " ".join(step.key for step in array.steps)
    job = [f"keys=({keys})", f'{command} --step "${{keys[$SLURM_ARRAY_TASK_ID]}}"']
    yield from _submitted(name, asked, needs, job)


def _submitted(
    name: str, asked: Mapping[str, Any], needs: Sequence[str], job: Sequence[str]
) -> Iterator[str]:
    """Submit a job, and keep its number in the variable ``name``."""
    options = [f"--{key}={value}" for key, value in asked.items()]
    if needs:
        numbers = ":".join(f"${need}" for need in needs)
        options += [f"--dependency=afterok:{numbers}", "--kill-on-invalid-dep=yes"]
    yield f"{name}=$(submit {' '.join(options)} <<'JOB'"
    yield "#!/bin/bash"
    yield from job
    yield "JOB"
    yield ")"


def _shared(cluster: Cluster) -> str:
    partition = [f"--partition={cluster.partition}"] if cluster.partition else []
    return "".join(f" {shlex.quote(option)}" for option in (*partition, *cluster.options))


def _gpus(count: int) -> dict[str, Any]:
    return {"ntasks": 1, **({"gpus-per-task": count} if count else {})}


def _memory(
    array: Array, rows: Mapping[str, Mapping[str, Any]], numbers: Mapping[str, int | None]
) -> dict[str, str]:
    """Of the machine; nothing where the size of a model is unknown."""
    found = [_bytes(step, array.gpus, rows[step.key], numbers[step.key]) for step in array.steps]
    if None in found:
        return {}
    return {"mem": f"{-(-max(found) // 2**20)}M"}


def _bytes(step: Step, gpus: int, row: Mapping[str, Any], number: int | None) -> int | None:
    if number is None or row["gpu_memory"] is None:
        return None
    # each process reads the model, and the first one writes it
    weights = 4 * number * (step.processes + 1)
    on_gpus = 0 if gpus else row["gpu_memory"] * step.processes
    return PROCESS_BYTES * (step.processes + 1) + weights + on_gpus


def _time(array: Array, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Nothing where a price is unknown, or is not that of a GPU."""
    hours = [rows[step.key]["gpu_hours"] for step in array.steps]
    if None in hours or not array.gpus:
        return {}
    minutes = round(60 * (START + HEADROOM * max(hours) / array.gpus))
    return {"time": f"{minutes // 60}:{minutes % 60:02}:00"}


def _described(steps: Sequence[Step]) -> str:
    kinds = [step.kind for step in steps]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def _matrix(plan: Plan) -> str:
    return str(Path(plan.matrix.file).resolve())

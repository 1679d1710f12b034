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
    """What jobs ask for: ``gpus`` on each of ``nodes`` for a training, which so many processes
    share; ``options`` are sbatch's own, and override all that is found here."""

    gpus: int
    nodes: int = 1
    partition: str | None = None
    options: Sequence[str] = ()
    gpu: str = DEFAULT_GPU
    utilisation: float = UTILISATION


@dataclass(frozen=True)
class Array:
    """Steps that are made side by side, by tasks that ask for the same: GPUs on each node."""

    level: int
    steps: Sequence[Step]
    gpus: int
    nodes: int = 1

    @property
    def processes(self) -> int:
        """How many share a step: one a GPU, or as the matrix has it."""
        return self.gpus * self.nodes or max(step.processes for step in self.steps)


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
    steps = arrays(plan.missing_steps, cluster.gpus, cluster.nodes)
    python = shlex.quote(sys.executable)
    command = f"-m harness.cli run {shlex.quote(str(plan.matrix.file.resolve()))}"
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
        asked = {
            "job-name": f"{plan.matrix.name}-{array.level}",
            "array": f"0-{len(array.steps) - 1}",
            **_gpus(array.gpus, array.nodes),
            **_memory(array, rows, numbers),
            **_time(array, rows),
        }
        job = [
            f"keys=({' '.join(step.key for step in array.steps)})",
            f'{_started(array, python)} {command} --step "${{keys[$SLURM_ARRAY_TASK_ID]}}"',
        ]
        lines.append(f"# level {array.level}: {_described(array.steps)}")
        lines += _submitted(name, asked, before.get(array.level - 1, []), job)
        before.setdefault(array.level, []).append(name)
    # every level waits for all of the one before
    last = before[max(before)] if before else []
    asked = {"job-name": plan.matrix.name, **_gpus(min(cluster.gpus, 1))}
    lines += ["# the run", *_submitted("run", asked, last, [f"{python} {command}"])]
    lines.append('echo "submitted; the last job is $run"')
    return "\n".join(lines) + "\n"


def arrays(steps: Sequence[Step], gpus: int, nodes: int = 1) -> list[Array]:
    """Missing ``steps``, inputs first, by level, and trainings apart from what needs no GPU."""
    needs = {"train": (gpus, nodes), "pretrain": (min(gpus, 1), 1)}
    levels: dict[str, int] = {}
    groups: dict[tuple[int, tuple[int, int]], list[Step]] = {}
    for step in steps:
        level = 1 + max((levels.get(part.key, 0) for part in step.inputs.values()), default=0)
        levels[step.key] = level
        groups.setdefault((level, needs.get(step.kind, (0, 1))), []).append(step)
    return [
        Array(level, found[first : first + LARGEST_ARRAY], *needed)
        for (level, needed), found in sorted(groups.items(), key=lambda group: group[0])
        for first in range(0, len(found), LARGEST_ARRAY)
    ]


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


def _gpus(count: int, nodes: int = 1) -> dict[str, Any]:
    tasks = {"ntasks": 1} if nodes == 1 else {"nodes": nodes, "ntasks-per-node": 1}
    return {**tasks, **({"gpus-per-task": count} if count else {})}


def _started(array: Array, python: str) -> str:
    """What starts Python, as often as there are GPUs."""
    if array.gpus * array.nodes < 2:
        return python
    torchrun = f"{python} -m torch.distributed.run --nproc-per-node={array.gpus}"
    if array.nodes == 1:
        return f"{torchrun} --standalone"
    first = '$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
    # tasks of an array have job numbers of their own, and may have a node in common
    return (
        f"srun {torchrun} --nnodes={array.nodes} --rdzv-backend=c10d --rdzv-id=$SLURM_JOB_ID "
        f"--rdzv-endpoint={first}:$((20000 + SLURM_JOB_ID % 20000))"
    )


def _memory(
    array: Array, rows: Mapping[str, Mapping[str, Any]], numbers: Mapping[str, int | None]
) -> dict[str, str]:
    """Of a node; nothing where the size of a model is unknown."""
    models = [numbers[step.key] for step in array.steps]
    states = [0 if array.gpus else rows[step.key]["gpu_memory"] for step in array.steps]
    if None in models or None in states:
        return {}
    here = array.processes // array.nodes
    # each process reads the model, and the first one writes it
    needed = (here + 1) * (PROCESS_BYTES + 4 * max(models)) + here * max(states)
    return {"mem": f"{-(-needed // 2**20)}M"}


def _time(array: Array, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Nothing where a price is unknown, or is not that of a GPU."""
    hours = [rows[step.key]["gpu_hours"] for step in array.steps]
    if None in hours or not array.gpus:
        return {}
    minutes = round(60 * (START + HEADROOM * max(hours) / array.processes))
    return {"time": f"{minutes // 60}:{minutes % 60:02}:00"}


def _described(steps: Sequence[Step]) -> str:
    kinds = [step.kind for step in steps]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))

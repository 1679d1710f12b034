"""A simulated schedule as JSON values, and for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from harness import jobs, machine
from harness.jobs import Work
from harness.plan import Plan
from harness.price import DEFAULT_GPU, GPUS, UTILISATION, Gpu, Prices
from harness.recorded import recorded
from harness.simulate import Simulated, simulate


@dataclass(frozen=True)
class Simulation:
    """The schedule of what a plan has left; ``gpu`` is None where it is this machine's."""

    name: str
    work: Work
    gpu: Gpu | None
    found: dict[str, Any]

    @classmethod
    def on_gpus(
        cls, plan: Plan, gpu: str, utilisation: float, nodes: int, gpus: int
    ) -> "Simulation":
        """
        Raises:
            InputError: a model does not fit on the GPUs of a node.
        """
        work = jobs.on_gpus(plan, Prices(plan, gpu, utilisation), GPUS[gpu], nodes, gpus)
        return cls(plan.matrix.name, work, GPUS[gpu], summary(work))

    @classmethod
    def on_this_machine(cls, plan: Plan, workers: int) -> "Simulation":
        prices = Prices(plan, DEFAULT_GPU, UTILISATION)
        work = jobs.on_this_machine(plan, prices, recorded(machine.cores()), workers)
        return cls(plan.matrix.name, work, None, summary(work))

    def tables(self) -> list[Table]:
        """Phases with their sums, and the critical path."""
        return [_phases(self.name, self.found, self.gpu), _path(self.found["path"])]

    def assumptions(self) -> list[str]:
        return jobs.assumptions(self.work, self.gpu)


def summary(work: Work) -> dict[str, Any]:
    """Seconds throughout; ``schedule`` has a row a job, by start.

    ``utilisation`` is the share of all GPUs' time that trainings and evaluations take (without a
    GPU: of the engine's), ``overhead`` that in which engines start and switch. No schedule is
    shorter than ``critical_path``, nor than ``gpu_bound``, all work spread over all GPUs.
    """
    resources, found = work.resources, simulate(work.jobs, work.resources)
    makespan = found.makespan
    gpus = resources.nodes * resources.gpus
    spent = found.gpu_seconds()
    overhead = spent.pop("overhead", 0.0)
    busy = sum(spent.values())
    return {
        "nodes": resources.nodes,
        "gpus": resources.gpus,
        "slots": resources.slots,
        "makespan": makespan,
        "utilisation": busy / (gpus * makespan) if makespan else 0.0,
        "overhead": overhead / (gpus * makespan) if makespan else 0.0,
        "critical_path": found.shortest,
        "gpu_bound": busy / gpus,
        "groups": _groups(found),
        "path": [
            {"job": job.label, "seconds": job.seconds, "switch": job.switch, "gpus": job.gpus}
            for job in found.critical
        ],
        "seconds_from": dict(work.sources),
        "offloaded": work.offloaded,
        "schedule": [
            {
                "job": span.job.label,
                "key": span.job.key,
                "start": span.start,
                "end": span.end,
                "overhead": span.overhead,
                "gpus": {str(node): gpus for node, gpus in span.place},
            }
            for span in found.spans
        ],
    }


def _groups(found: Simulated) -> dict[str, dict[str, float]]:
    """Phases in the order in which they begin."""
    groups: dict[str, dict[str, float]] = {}
    for span in found.spans:
        group = groups.setdefault(
            span.job.group,
            {"jobs": 0, "seconds": 0.0, "gpu_seconds": 0.0, "start": span.start, "end": 0.0},
        )
        seconds = span.end - span.start - span.overhead
        group["jobs"] += 1
        group["seconds"] += seconds
        group["gpu_seconds"] += seconds * span.job.gpus
        group["end"] = max(group["end"], span.end)
    return groups


def _phases(name: str, found: Mapping[str, Any], gpu: Gpu | None) -> Table:
    bounds = [f"{time(found['critical_path'])} by the critical path"]
    if gpu is None:
        on = f"this machine, workers: {found['slots']}"
        busy = "the engine busy"
    else:
        on = f"{found['nodes']} × {found['gpus']} {gpu.name}"
        busy = "GPUs busy"
        bounds.append(f"{time(found['gpu_bound'])} by the work for GPUs")
    phases = Table(
        title=f"{name} on {on}: {time(found['makespan'])}, {busy} {found['utilisation']:.0%}",
        caption=f"Engines start and switch in {found['overhead']:.0%} of the time. No schedule is "
        f"shorter than {' or '.join(bounds)}.",
        title_justify="left",
        caption_justify="left",
    )
    phases.add_column("")
    for column in ("jobs", "from", "to", "work", *(["GPU time"] if gpu else [])):
        phases.add_column(column, justify="right")
    for group, figures in found["groups"].items():
        spans = [time(figures[part]) for part in ("start", "end", "seconds")]
        on_gpu = [time(figures["gpu_seconds"]) if figures["gpu_seconds"] else ""]
        phases.add_row(group, f"{figures['jobs']:,}", *spans, *(on_gpu if gpu else []))
    return phases


def _path(path: Sequence[Mapping[str, Any]]) -> Table:
    """A chain of steps is short: none needs more than a handful of others one after the other."""
    table = Table(title="critical path", title_justify="left")
    table.add_column("job")
    table.add_column("time", justify="right")
    for job in path:
        table.add_row(escape(job["job"]), time(job["seconds"] + job["switch"]))
    return table


def time(seconds: float) -> str:
    """``95 s``, ``2.5 min``, ``31.0 h`` or ``12.1 days``."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"

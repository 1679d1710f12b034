"""What work took on this machine, by the store: in seconds of a machine that does nothing else.

Processes that share cores slow one another, so that what was recorded is longer than what the same
work takes alone. When everything ran is recorded, too, and so the slowing can be taken out.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from harness import store

Interval = tuple[float, float]


@dataclass(frozen=True)
class Recorded:
    """Seconds by step key, by model key and task name, and of likes: by what a unit of them is.

    ``likes`` has seconds a unit by role or kind and the base's parameters: a token that is trained
    on, or a byte that is written. ``item`` is what a question took; ``engine`` and ``worker`` what
    starting one took. What was never done is not there, or None.
    """

    steps: Mapping[str, float] = field(default_factory=dict)
    likes: Mapping[tuple[str, int | None], float] = field(default_factory=dict)
    cells: Mapping[tuple[str, str], float] = field(default_factory=dict)
    item: float | None = None
    engine: float | None = None
    worker: float | None = None


def recorded(cores: float) -> Recorded:
    """What the store has of a machine of which ``cores`` were left to it."""
    artifacts, models, runs = store.timings()
    asked = _evaluations(models, runs, {row["key"]: row["ended"] for row in artifacts})
    starts = [(r["began"], r["began"] + r["start_seconds"]) for r in runs if r["start_seconds"]]
    workers = [_worker_start(run, artifacts) for run in runs]
    made = [(row["began"], row["ended"]) for row in artifacts]
    every = [*made, *asked, *starts, *(w for found in workers for w in found)]
    alone = dict(zip(every, unshared(every, cores), strict=True))
    took = [alone[interval] for interval in asked]
    items = sum(row["items"] for row in models)
    return Recorded(
        steps={row["key"]: alone[row["began"], row["ended"]] for row in artifacts},
        likes=_likes(artifacts, alone),
        cells={
            (row["model"], task): seconds * own / max(sum(row["tasks"].values()), 1e-9)
            for row, seconds in zip(models, took, strict=True)
            for task, own in row["tasks"].items()
        },
        item=sum(took) / items if items else None,
        engine=_mean(alone[interval] for interval in starts),
        worker=_mean(alone[found[0]] for found in workers if found),
    )


def unshared(intervals: Sequence[Interval], cores: float) -> list[float]:
    """What each of ``intervals`` would have lasted with a core of its own.

    Whatever runs at a time has an equal share of the cores, and one core at most.
    """
    changes: dict[float, int] = defaultdict(int)
    for began, ended in intervals:
        changes[began] += 1
        changes[ended] -= 1
    done, before, running = 0.0, 0.0, 0
    alone: dict[float, float] = {}
    for time in sorted(changes):
        if running:
            done += (time - before) * min(1.0, cores / running)
        alone[time] = done
        before, running = time, running + changes[time]
    return [alone[ended] - alone[began] for began, ended in intervals]


def _evaluations(
    models: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    made: Mapping[str, float],
) -> list[Interval]:
    """From when engine and model were both there to the last score: all that a model takes."""
    free = {run["run"]: run["began"] + (run["start_seconds"] or 0.0) for run in runs}
    found = []
    for row in models:
        # a store that was rebuilt may lack the run
        ready = free.get(row["run"], row["ended"] - sum(row["tasks"].values()))
        began = max(ready, made.get(row["model"], 0.0))
        # a model may have been made anew since
        found.append((min(began, row["ended"]), row["ended"]))
        free[row["run"]] = row["ended"]
    return found


def _worker_start(run: Mapping[str, Any], artifacts: Sequence[Mapping[str, Any]]) -> list[Interval]:
    """Until the first steps of a run began, once for each that began before one had ended."""
    own = [row for row in artifacts if run["began"] <= row["began"] <= (run["ended"] or 0.0)]
    first = min((row["ended"] for row in own), default=0.0)
    return [(run["began"], row["began"]) for row in own if row["began"] < first]


def _likes(
    artifacts: Sequence[Mapping[str, Any]], alone: Mapping[Interval, float]
) -> dict[tuple[str, int | None], float]:
    seconds: dict[tuple[str, int | None], float] = defaultdict(float)
    units: dict[tuple[str, int | None], float] = defaultdict(float)
    for row in artifacts:
        name = row["role"] if row["kind"] == "train" else row["kind"]
        key = (name, row["parameters"])
        seconds[key] += alone[row["began"], row["ended"]]
        units[key] += row["tokens"] or row["bytes"]
    return {key: seconds[key] / units[key] for key in seconds if units[key]}


def _mean(values: Iterable[float]) -> float | None:
    return fmean(found) if (found := list(values)) else None

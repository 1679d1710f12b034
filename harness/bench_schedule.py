"""Schedules measured: the simulator against real runs, and a matrix of 10,000 cells.

The runs are those of the smallest matrix; what others take of the cores meanwhile is taken into
account, as processor time. The large matrix is that of the paper with 20 methods, 10
abilities and 50 languages, its questions on the disk; nothing of it runs.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import psutil
import yaml

from harness import jobs, languages, methods, store
from harness.home import living_in
from harness.plan import make_plan
from harness.price import DEFAULT_GPU, GPUS, UTILISATION, Prices, price
from harness.recorded import recorded
from harness.simulate import simulate
from harness.spec import load_matrix
from maec.reading import read_yaml

MATRICES = Path(__file__).parent / "matrices"
RUN = MATRICES / "nano.yaml"
PAPER = MATRICES / "paper-llama3-8b.yaml"
LEFT_OUT = ("t-cpt", "maec-random-mask")
"""Methods that the large matrix does without: it is to have 20."""

ABILITIES, LANGUAGES, QUESTIONS = 10, 50, 250
CLUSTERS = ((1, 1), (1, 8), (8, 8))
"""Nodes, and GPUs of each."""


def measure() -> dict[str, float]:
    """Seconds, and bytes of memory; the large matrix in a process of its own."""
    command = [sys.executable, "-c", f"from {__name__} import large; large()"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {**_paper(), **found, **_against_runs()}


def _paper() -> dict[str, float]:
    plan = make_plan(load_matrix(PAPER))
    prices = Prices(plan, DEFAULT_GPU, UTILISATION)
    found = {}
    for nodes, gpus in CLUSTERS:
        work = jobs.on_gpus(plan, prices, GPUS[DEFAULT_GPU], nodes, gpus, again=True)
        simulated = simulate(work.jobs, work.resources)
        found[f"{PAPER.stem} on {nodes * gpus} {DEFAULT_GPU}, h"] = simulated.makespan / 3600
    return found


def large() -> None:
    """Plan, price and schedule a matrix of 10,000 cells; prints figures as JSON."""
    with tempfile.TemporaryDirectory() as folder, living_in(Path(folder)):
        codes = _write_large(Path(folder))
        with mock.patch.object(languages, "FOLDER", Path(folder, "languages")):
            began = _now()
            plan = make_plan(load_matrix(Path(folder, "large.yaml")))
            plan.summary()
            price(plan)
            planned = _since(began)
        assert len(plan.cells) == 20 * ABILITIES * (len(codes) + 1) == 10_000
        found = {"10,000 cells: steps": len(plan.steps), **_told("10,000 cells: planned", planned)}
        for nodes, gpus in CLUSTERS:
            began = _now()
            prices = Prices(plan, DEFAULT_GPU, UTILISATION)
            work = jobs.on_gpus(plan, prices, GPUS[DEFAULT_GPU], nodes, gpus)
            simulated = simulate(work.jobs, work.resources)
            name = f"10,000 cells on {nodes * gpus} {DEFAULT_GPU}"
            found |= _told(f"{name}: scheduled", _since(began))
            found[f"{name}: makespan, days"] = simulated.makespan / 86_400
    # ru_maxrss is in KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**found, "10,000 cells: memory, MB": peak / 1e6}))


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    wall, processor = _now()
    return wall - began[0], processor - began[1]


def _told(what: str, seconds: tuple[float, float]) -> dict[str, float]:
    """Of a busy machine the second says more."""
    return {f"{what}, s": seconds[0], f"{what}, s of a core": seconds[1]}


def _write_large(folder: Path) -> list[str]:
    """A matrix file with its questions, and files of made-up languages; returns their codes."""
    codes = [f"q{a}{b}" for a in "abcdefg" for b in "abcdefg"][: LANGUAGES - 1]
    (folder / "languages").mkdir()
    for code in ("en", *codes):
        head = f"name: {code}\nnative_name: {code}\nscript: Latin\nresource: low\n"
        (folder / "languages" / f"{code}.yaml").write_text(head)
    abilities = [f"ability{number}" for number in range(ABILITIES)]
    for ability in abilities:
        for code in ("en", *codes):
            question = f"What is {ability} in {code} " + "and then some more " * 11
            lines = [f"{question}{number}?\t{number}\n" for number in range(QUESTIONS)]
            (folder / f"{ability}_{code}.tsv").write_text("".join(lines))
    paper = read_yaml(PAPER)
    text = paper["corpora"]["ability"]["math"]
    asked = {
        "like": "mgsm_native_cot",
        "names": dict.fromkeys(("en", *codes), "mgsm_native_cot_en"),
        "num_fewshot": 0,
    }
    changed = {
        "name": "large",
        "languages": codes,
        "abilities": abilities,
        "methods": [
            {"name": name, "scope": "language"}
            for name in methods.available()
            if name not in LEFT_OUT
        ],
        "corpora": {**paper["corpora"], "ability": dict.fromkeys(abilities, text)},
        "tasks": {name: {**asked, "files": f"{name}_{{language}}.tsv"} for name in abilities},
    }
    content = yaml.safe_dump({**paper, **changed})
    (folder / "large.yaml").write_text(content, encoding="utf-8")
    return codes


def _against_runs() -> dict[str, float]:
    """Each of two runs, recorded, foretells the other: two workers on all cores, one on one."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        runs = [(Path(folder, "all"), 2, cores), (Path(folder, "one"), 1, cores[:1])]
        measured = [_run(*run) for run in runs]
        found = {}
        for (home, _, _), (_, left), (_, workers, on), (took, then) in zip(
            runs, measured, reversed(runs), reversed(measured), strict=True
        ):
            foretold = _foretold(home, left, workers, then)
            name = f"nano, cores {len(on)}, workers {workers}"
            found |= {f"{name}: left by others, cores": then, f"{name}: measured, s": took}
            found |= {f"{name}: foretold, s": foretold, f"{name}: ratio": foretold / took}
    return found


def _foretold(home: Path, left: float, workers: int, cores: float) -> float:
    """By what was recorded with so many cores ``left``, the seconds that a run takes on others."""
    with living_in(home):
        plan = make_plan(load_matrix(RUN))
        prices = Prices(plan, DEFAULT_GPU, UTILISATION)
        work = jobs.on_this_machine(plan, prices, recorded(left), workers, again=True)
        return simulate(work.jobs, replace(work.resources, cores=cores)).makespan


def _run(home: Path, workers: int, cores: Sequence[int]) -> tuple[float, float]:
    """Seconds that a run took, and how many of ``cores`` others left to it on average."""
    command = [sys.executable, "-m", "harness.cli", "run", str(RUN), "--workers", str(workers)]
    idle, spent, began = _idle(cores), _spent(), time.monotonic()
    with living_in(home):
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        _, _, (run,) = store.timings()
    left = (_idle(cores) - idle + _spent() - spent) / (time.monotonic() - began)
    return run["ended"] - run["began"], left


def _idle(cores: Sequence[int]) -> float:
    """Seconds in which ``cores`` had nothing to do, so far."""
    times = psutil.cpu_times(percpu=True)
    return sum(times[core].idle + times[core].iowait for core in cores)


def _spent() -> float:
    """Seconds of a core that processes took which were started here and ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

"""Schedules measured: the simulator against real runs, and a matrix of 10,000 cells.

The runs are those of the smallest matrix: one on all cores is recorded, and says how long another
one, with one worker on one core, should take. Processes of others that want a core all the while
are counted, and taken into account. The large matrix is that of the paper with 20 methods, 10
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
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean
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
            began = time.monotonic()
            plan = make_plan(load_matrix(Path(folder, "large.yaml")))
            plan.summary()
            price(plan)
            planned = time.monotonic() - began
        assert len(plan.cells) == 20 * ABILITIES * (len(codes) + 1) == 10_000
        found = {"10,000 cells: steps": len(plan.steps), "10,000 cells: planned, s": planned}
        for nodes, gpus in CLUSTERS:
            began = time.monotonic()
            prices = Prices(plan, DEFAULT_GPU, UTILISATION)
            work = jobs.on_gpus(plan, prices, GPUS[DEFAULT_GPU], nodes, gpus)
            simulated = simulate(work.jobs, work.resources)
            name = f"10,000 cells on {nodes * gpus} {DEFAULT_GPU}"
            found[f"{name}: scheduled, s"] = time.monotonic() - began
            found[f"{name}: makespan, days"] = simulated.makespan / 86_400
    # ru_maxrss is in KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**found, "10,000 cells: memory, MB": peak / 1e6}))


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
    paper = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
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
    """Two workers on all cores are recorded; one worker on one core is foretold, and then run."""
    with tempfile.TemporaryDirectory() as folder:
        cores = sorted(os.sched_getaffinity(0))
        first, second = Path(folder, "first"), Path(folder, "second")
        took, others = _run(first, workers=2, cores=cores)
        alone, others_then = _run(second, workers=1, cores=cores[:1])
        with living_in(first):
            known = recorded(len(cores), others)
            plan = make_plan(load_matrix(RUN))
            prices = Prices(plan, DEFAULT_GPU, UTILISATION)

            def foretold(workers: int, on: int, others: float) -> float:
                work = jobs.on_this_machine(plan, prices, known, workers, again=True)
                shared = replace(work.resources, cores=on, others=others)
                return simulate(work.jobs, shared).makespan

            again = foretold(2, len(cores), others)
            other = foretold(1, 1, others_then)
    return {
        "nano, 2 workers: recorded, s": took,
        "nano, 2 workers: simulated, s": again,
        "nano, 1 worker on 1 core: foretold, s": other,
        "nano, 1 worker on 1 core: measured, s": alone,
        "nano, 1 worker on 1 core: foretold / measured": other / alone,
        "processes of others, recorded": others,
        "processes of others, measured": others_then,
    }


def _run(home: Path, workers: int, cores: Sequence[int]) -> tuple[float, float]:
    """Seconds that a run took, and how many processes of others wanted ``cores`` on average."""
    command = [sys.executable, "-m", "harness.cli", "run", str(RUN), "--workers", str(workers)]
    with living_in(home):
        running = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        counts = []
        while running.poll() is None:
            counts.append(_others(running.pid, cores))
            time.sleep(0.5)
        if running.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {running.returncode}")
        _, _, (run,) = store.timings()
    return run["ended"] - run["began"], fmean(counts)


def _others(own: int, cores: Sequence[int]) -> int:
    """Threads that run or wait for one of ``cores`` now, without those of ``own`` and this one."""
    tree = {os.getpid(), own, *(child.pid for child in psutil.Process(own).children(True))}
    found = 0
    for task in Path("/proc").glob("[0-9]*/task/*/stat"):
        if int(task.parts[2]) in tree:
            continue
        with suppress(OSError):
            # its name, in brackets, may hold anything; after it come state and, 36 on, the core
            fields = task.read_text().rpartition(")")[2].split()
            found += fields[0] == "R" and int(fields[36]) in cores
    return found

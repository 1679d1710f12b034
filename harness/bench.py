"""Measurements, side by side in one run: ``make bench``. Writes results/bench.json and a table.

Ratios are what counts; absolute numbers belong to the machine that the file names.
"""

import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from harness import bench_leaderboard, bench_merge, bench_schedule, machine
from harness.home import CHECKOUT
from harness.spec import load_matrix
from harness.spec_machine import Engine
from harness.world import EMBEDDED_BASE

MODELS = 8
STARTS = 3
POINTS = 12
POINT_ITEMS = 100
MATRIX = Path(__file__).parent / "matrices" / "micro.yaml"
OUT = CHECKOUT / "results" / "bench.json"
SCRATCH = CHECKOUT / "build"


PARTS = ("cli", "training", "engine", "sweep", "leaderboard", "crowd", "schedule", "merge")


def main(
    part: Annotated[
        list[str] | None, typer.Option(help=f"Measure only this: one of {', '.join(PARTS)}.")
    ] = None,
    merge_parameters: Annotated[
        float, typer.Option(help="Parameters of a checkpoint that is merged.")
    ] = 4e8,
) -> None:
    """Measure, and write what was found to results/bench.json; other parts in it stay."""
    # read when tqdm is imported, here and in every process started from here
    os.environ.setdefault("TQDM_DISABLE", "1")
    console = Console()
    wanted = part or PARTS
    if unknown := set(wanted) - set(PARTS):
        raise typer.BadParameter(f"--part: {unknown.pop()!r}; give one of {', '.join(PARTS)}")
    measures = {
        "cli": _cli,
        "training": _training,
        "engine": _engine,
        "sweep": _sweep,
        "leaderboard": _leaderboard,
        "crowd": _crowd,
        "schedule": bench_schedule.measure,
    }
    measured_on = {"hardware": machine.hardware(), "commit": machine.commit()[0]}
    figures = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    table = Table("measurement", "value", title=f"written to {OUT.relative_to(CHECKOUT)}")
    SCRATCH.mkdir(exist_ok=True)
    for name in wanted:
        console.print(f"measuring: {name}")
        if name == "merge":
            found = bench_merge.measure(int(merge_parameters), SCRATCH, console)
            console.print(bench_merge.table(found))
        else:
            found = measures[name]()
            for measurement, value in found.items():
                table.add_row(f"{name}: {measurement}", f"{value:.4g}")
        figures[name] = {**found, **measured_on}
        OUT.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    console.print(table)


def _cli() -> dict[str, float]:
    """Wall seconds of commands that must not import torch: the median of five."""
    harness = [sys.executable, "-m", "harness.cli"]
    return {
        "help, s": _median(lambda: _wall([*harness, "--help"])),
        "plan micro.yaml, s": _median(lambda: _wall([*harness, "plan", str(MATRIX), "--json"])),
    }


def _training() -> dict[str, float]:
    """The same two training runs: side by side on one thread each, one after the other on two."""
    apart = _two_runs(workers=2, threads=1)
    together = _two_runs(workers=1, threads=2)
    return {
        "two runs side by side, one thread each, s": apart,
        "two runs in turn, two threads each, s": together,
        "in turn / side by side": together / apart,
    }


def _two_runs(*, workers: int, threads: int) -> float:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _set_threads, (threads,)) as pool:
        list(pool.map(_nothing, range(workers)))  # imports are not what is measured
        began = time.monotonic()
        list(pool.map(_train_briefly, range(2)))
        return time.monotonic() - began


def _set_threads(threads: int) -> None:
    import torch
    from transformers.utils import logging

    import maec.train  # noqa: F401

    logging.disable_progress_bar()
    torch.set_num_threads(threads)


def _nothing(_: int) -> None:
    time.sleep(0.5)  # so that every worker takes one and has finished its imports


def _train_briefly(seed: int) -> None:
    from harness.embedded import corpora
    from maec.settings import TrainSettings
    from maec.train import train

    with tempfile.TemporaryDirectory() as folder:
        train(
            EMBEDDED_BASE,
            corpora.general("en", 500, seed),
            Path(folder) / "out",
            TrainSettings(steps=60, learning_rate=1e-3, seed=seed),
        )


def _engine() -> dict[str, float]:
    """vLLM started anew for each model, against one engine whose weights are switched."""
    with tempfile.TemporaryDirectory() as folder:
        models = _variants(Path(folder), MODELS)
        starts = [_in_new_process(_start_once, models[0]) for _ in range(STARTS)]
        switches, items_per_second = _in_new_process(_switch_all, models)
    start = statistics.median(starts)
    return {
        "start, s": start,
        "switch with verification, s": statistics.median(switches),
        f"{MODELS} starts / {MODELS} switches": MODELS * start / sum(switches),
        "math items/s": items_per_second,
    }


def _variants(folder: Path, count: int) -> list[Path]:
    """Checkpoints of the embedded base's shapes with other weights."""
    import torch

    from maec.checkpoint import copy_companions, open_checkpoint, write_tensors

    base = open_checkpoint(EMBEDDED_BASE)
    paths = []
    for index in range(count):
        path = folder / f"model-{index}"
        path.mkdir()
        generator = torch.Generator().manual_seed(index)
        tensors = (
            (name, value + 1e-3 * torch.randn(value.shape, generator=generator))
            for name, value in ((name, base.read(name).float()) for name in base.tensors)
        )
        write_tensors(path, tensors)
        copy_companions(base, path, dtype="float32")
        paths.append(path)
    return paths


def _start_once(model: Path) -> float:
    from harness import engine

    return engine.start(Engine(), model).start_seconds


def _switch_all(models: list[Path]) -> tuple[list[float], float]:
    from harness import engine, tasks
    from harness.evaluate import evaluate, load

    live = engine.start(Engine(), models[0])
    live.switch(models[0])  # the first switch pays for imports and caches
    switches = [live.switch(model) for model in models]
    matrix = load_matrix(MATRIX)
    questions = load([tasks.task(matrix, "math", matrix.pivot)])
    evaluate(live, questions)  # warm-up
    began = time.monotonic()
    result = evaluate(live, questions)
    seconds = time.monotonic() - began
    return switches, next(iter(result.values())).n / seconds


def _sweep() -> dict[str, float]:
    """MAEC points a sweep tries in a minute: a merge a target language, 100 dev items a point."""
    with tempfile.TemporaryDirectory() as folder:
        models = _variants(Path(folder), 6)
        streamed, written = _in_new_process(_points, models, Path(folder))
    return {
        "points a minute, streamed": 60 / streamed,
        "points a minute, through the disk": 60 / written,
    }


def _points(models: list[Path], folder: Path) -> tuple[float, float]:
    """Seconds a point: merges streamed into the engine, and written, then switched to."""
    from harness import engine, tasks
    from harness.evaluate import evaluate, load
    from maec.checkpoint import open_checkpoint
    from maec.merge import merge, merged_tensors
    from maec.neurons import locate, value_change, write_mask
    from maec.recipe import Recipe

    matrix = load_matrix(MATRIX).on_dev()
    matrix = matrix.model_copy(update={"items": POINT_ITEMS // len(matrix.languages)})
    asked = {code: load([tasks.task(matrix, "math", code)]) for code in matrix.languages}
    ability, pivot, *languages = models
    base = open_checkpoint(EMBEDDED_BASE)
    mask = folder / "mask"
    mask.mkdir()
    change = value_change(base, open_checkpoint(ability))
    write_mask(mask, locate(change, base.float_shapes(), 0.4, "parameter"), {})
    live = engine.start(Engine(), models[0])

    def recipe(language: Path, gamma: float) -> Recipe:
        part = {"model": ability, "pivot": pivot, "mask": mask, "gamma": gamma}
        return Recipe.model_validate(
            {
                "base": EMBEDDED_BASE,
                "languages": [{"model": language}],
                "abilities": [part],
                "dtype": "float32",
            }
        )

    def stream(language: Path, gamma: float) -> None:
        live.stream(merged_tensors(recipe(language, gamma)), "point")

    def write(language: Path, gamma: float) -> None:
        out = folder / "merged"
        merge(recipe(language, gamma), out)
        live.switch(out)
        shutil.rmtree(out)

    def seconds(serve: Callable[[Path, float], None], points: int) -> float:
        began = time.monotonic()
        for point in range(points):
            for language, questions in zip(languages, asked.values(), strict=True):
                serve(language, point / POINTS)
                evaluate(live, questions)
        return (time.monotonic() - began) / points

    seconds(stream, 1)  # warm-up
    return seconds(stream, POINTS), seconds(write, POINTS)


def _leaderboard() -> dict[str, float]:
    """The leaderboard on a million items: the first view, a filter, memory."""
    with tempfile.TemporaryDirectory() as folder:
        return bench_leaderboard.measure(Path(folder), Console())


def _crowd() -> dict[str, float]:
    """Fifty visitors at once for five minutes, while the default matrix runs on the same store."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MAEC_HOME": folder}
        command = [sys.executable, "-m", "harness.cli", "run", str(MATRIX)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        run = subprocess.Popen(command, env=environment, **quiet)
        try:
            while run.poll() is None and not (Path(folder) / "snapshot.duckdb").is_file():
                time.sleep(0.2)
            # harness knows leaderboard as a command only
            visits = [sys.executable, "-m", "leaderboard.crowd", "50", "300"]
            done = subprocess.run(visits, env=environment, stdout=subprocess.PIPE, check=True)
            failed = run.poll() not in (None, 0)
        finally:
            run.terminate()
            run.wait()
    return {**json.loads(done.stdout), "runs that failed": int(failed)}


def _in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    # an executor, unlike a multiprocessing pool, lets its process end in peace
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _wall(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - began


def _median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(5))


if __name__ == "__main__":
    typer.run(main)

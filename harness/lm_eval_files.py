"""Scores as lm-eval's own files: a folder a model, with results and samples.

lm-eval writes them itself: a model that repeats the stored answers goes through its evaluation, so
that tasks, filters, metrics, hashes and the files' shape are lm-eval's own. Every number that comes
out is compared with the stored one. What describes a run (commit, date, versions) is the run's that
scored, not of the machine that writes the files.
"""

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from harness.board import COLUMNS
from harness.evaluate import FEWSHOT_SEED, Questions, ask, load
from harness.home import CHECKOUT, snapshot_path
from harness.plan import Cell, Place, make_plan
from harness.spec import Matrix, check_matrix
from harness.store import find_release, view
from harness.store.export import chosen, without_paths
from harness.tasks import fetch
from maec.errors import InputError
from maec.folder import new_folder, require_new

Row = Mapping[str, Any]

BOOTSTRAPS = 100_000
"""lm-eval's own default, which a run leaves as it is."""


def write(
    out: Path,
    console: Console,
    *,
    release: str | None = None,
    matrices: Sequence[str] = (),
    beside: Path = CHECKOUT / "harness" / "matrices",
) -> int:
    """Write the scores of the live store, or of a released set, to the new folder ``out``.

    Returns how many models there are. ``matrices`` are all by default; paths in matrix files are
    relative to the folder ``beside``, as their questions are asked anew.

    Raises:
        InputError: nothing was scored, there is no such set or matrix, ``out`` exists, or this
            program asks other questions than were asked.
    """
    require_new(out)
    path = find_release(release) if release else snapshot_path()
    models = [
        model
        for matrix in chosen(_scored(path), matrices, path)
        for model in _models(path, matrix, beside, console)
    ]
    questions: dict[tuple[str, ...], Questions] = {}
    with new_folder(out) as folder, Progress(*COLUMNS, console=console) as progress:
        for name, rows in progress.track(models, description="models"):
            tasks = [cell.task for _, cell in rows]
            key = tuple(task.key for task in tasks)
            if key not in questions:
                questions[key] = load(tasks)
            _write_model(path, folder, name, {r["task"]: r for r, _ in rows}, questions[key])
    return len({name for name, _ in models})


def _scored(path: Path) -> list[str]:
    return sorted({row["matrix"] for row in view.places(path)})


def _models(
    path: Path, matrix: str, beside: Path, console: Console
) -> list[tuple[str, list[tuple[Row, Cell]]]]:
    """Models of a matrix by name, one a run, with their scored cells and what this program asks."""
    checked = _matrix(path, matrix, beside)
    fetch(checked, console)
    plan = make_plan(checked)
    planned = {cell.place: (number, cell) for number, cell in enumerate(plan.cells)}
    places, found = view.places(path, matrix=matrix), []
    scores = view.provenances(path, [place["cell"] for place in places])
    for place in places:
        score = scores[place["cell"]]
        number, cell = planned.get(Place(*(place[name] for name in Place._fields)), (0, None))
        if cell is None or plan.key_of(cell, score["fingerprint"]) != place["cell"]:
            raise InputError(
                f"{path}: this program asks otherwise than cell {place['cell'][:12]} "
                f"({score['task']}) was asked; use commit {(score['run'] or {}).get('commit')}"
            )
        found.append((number, {**score, "place": place}, cell))
    groups: dict[tuple[str, str], list[tuple[Row, Cell]]] = {}
    abilities: dict[str, dict[str, None]] = {}
    for _, row, cell in sorted(found, key=lambda entry: entry[0]):
        key = row["place"]["model_key"]
        groups.setdefault((key, row["run_id"]), []).append((row, cell))
        abilities.setdefault(key, {})[row["place"]["ability"]] = None
    # as ids on a hub look; the key tells models apart that one method made
    return [
        (f"{matrix}/{rows[0][0]['place']['method']}-{'+'.join(abilities[key])}-{key[:8]}", rows)
        for (key, _), rows in groups.items()
    ]


def _matrix(path: Path, name: str, beside: Path) -> Matrix:
    files = view.matrix_files(path)
    if name not in files:
        raise InputError(f"{path}: no run of matrix '{name}' is there, so no matrix file")
    return check_matrix(files[name], beside / f"{name}.yaml")


def _write_model(
    path: Path, folder: Path, name: str, rows: Mapping[str, Row], questions: Questions
) -> None:
    from harness.replay import Replay

    items: dict[str, list[Row]] = {}
    stored = view.items_of(path, [rows[task.name]["key"] for task in questions.tasks])
    for task in questions.tasks:
        every = iter(stored[rows[task.name]["key"]])
        # a group's questions stand one part after the other
        items |= {part.name: list(islice(every, len(part.docs))) for part in task.parts}
    for asked, results in ask(Replay(items), questions):
        _write_files(folder, name, [rows[task.name] for task in asked.tasks], asked, results)


def _write_files(
    folder: Path, name: str, rows: Sequence[Row], asked: Questions, results: dict[str, Any]
) -> None:
    """One results file with its samples: what one command of lm-eval writes."""
    from lm_eval.loggers import EvaluationTracker

    samples = results.pop("samples")
    for row in rows:
        _require_equal(row, results["results"][row["task"]])
    for of_task in samples.values():
        _forget_greedy(of_task)
    for config in results["configs"].values():
        # what of a configuration holds paths
        held = config.keys() & {"dataset_kwargs", "metadata"}
        config |= {key: without_paths(config[key]) for key in held}
    results |= _about(rows)
    chat = asked.tasks[0].chat_template
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker = _tracked(name, rows, chat)
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in samples:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    # apart in name, too: lm-eval has one file of results for both
    then = _started(rows) + timedelta(microseconds=chat)
    own = folder / tracker.general_config_tracker.model_name_sanitized
    _dated(own, tracker.date_id, then, files=1 + len(samples))


def _require_equal(row: Row, numbers: Row) -> None:
    """Raise InputError unless every number that was stored of a score comes out again."""
    stored = {**row["metrics"], f"{row['metric']},{row['filter']}": row["score"]}
    for name in stored.keys() & numbers.keys():
        if not math.isclose(stored[name], numbers[name], rel_tol=1e-9, abs_tol=1e-12):
            raise InputError(
                f"cell {row['key'][:12]}: of its items lm-eval makes {name} = {numbers[name]:g}, "
                f"where {stored[name]:g} is stored; the items are not those that were scored"
            )


def _forget_greedy(samples: Sequence[dict[str, Any]]) -> None:
    """Say of every choice that it is not known whether it would have been generated."""
    for sample in samples:
        if len(sample["arguments"][0]) == 2 and isinstance(sample["arguments"][0][1], str):
            sample["resps"] = [[(response[0][0], None)] for response in sample["resps"]]
            sample["filtered_resps"] = [(first, None) for first, _ in sample["filtered_resps"]]


def _about(rows: Sequence[Row]) -> dict[str, Any]:
    """What lm-eval's ``simple_evaluate`` adds to results, of the run that scored."""
    run, engine = rows[0]["run"] or {}, rows[0]["engine"]
    versions, hardware = run.get("versions") or {}, run.get("hardware") or {}
    vllm = engine["kind"] == "vllm"
    model_args = {
        "pretrained": rows[0]["place"]["model_path"],
        "dtype": engine["dtype"],
        "max_model_len" if vllm else "max_length": engine["max_model_len"],
    }
    config = {
        "model": "vllm" if vllm else "hf",
        "model_args": without_paths(model_args),
        "batch_size": None if vllm else engine["batch_size"],
        "batch_sizes": [],
        "device": None,
        "use_cache": None,
        "limit": None,
        "bootstrap_iters": BOOTSTRAPS,
        "gen_kwargs": None,
        "random_seed": None,
        "numpy_seed": None,
        "torch_seed": None,
        "fewshot_seed": FEWSHOT_SEED,
    }
    environment = {**{name: hardware.get(name) for name in ("platform", "processor")}, **versions}
    return {
        "config": config,
        "git_hash": run.get("commit"),
        "date": _started(rows).timestamp(),
        "pretty_env_info": "\n".join(f"{name}: {value}" for name, value in environment.items()),
        "transformers_version": versions.get("transformers", "N/A"),
        "lm_eval_version": versions.get("lm-eval", "N/A"),
        "upper_git_hash": None,
    }


def _tracked(name: str, rows: Sequence[Row], chat: bool) -> Any:
    """lm-eval's record of what was evaluated; its time is that which the scores took.

    The text of a chat template is not stored, and not in it.
    """
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker
    from lm_eval.utils import sanitize_model_name

    class Tracked(GeneralConfigTracker):
        def log_end_time(self) -> None:
            self.end_time = time.perf_counter()
            self.total_evaluation_time_seconds = str(sum(row["seconds"] for row in rows))

    tracked = Tracked()
    tracked.model_source = "vllm" if rows[0]["engine"]["kind"] == "vllm" else "hf"
    tracked.model_name = name
    tracked.model_name_sanitized = sanitize_model_name(tracked.model_name)
    tracked.fewshot_as_multiturn = chat
    return tracked


def _dated(folder: Path, now: str, then: datetime, files: int) -> None:
    """Give as many files the time of the run in place of ``now``."""
    written = list(folder.glob(f"*_{now}.json*"))
    if len(written) != files:  # lm-eval goes on when it cannot write
        raise RuntimeError(f"lm-eval wrote {len(written)} of {files} files to {folder}")
    date = then.astimezone(UTC).replace(tzinfo=None).isoformat().replace(":", "-")
    for file in written:
        file.rename(file.with_name(file.name.replace(now, date)))


def _started(rows: Sequence[Row]) -> datetime:
    return (rows[0]["run"] or {}).get("started") or rows[0]["created"]

"""Processes that die and work that raises: named, recorded, tried again if asked; the rest goes on.

Engine and workers are made up here, but for the processes that they live in.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from rich.console import Console
from safetensors import SafetensorError
from typer.testing import CliRunner

from harness import cli, engines, store, workers
from harness import live as lives
from harness.actor import Actor
from harness.evaluate import Result
from harness.failed import Died, Failed, failed
from harness.home import CHECKOUT
from harness.identity import digest
from harness.live import Answer
from harness.plan import make_plan
from harness.run import Outcome, run
from harness.spec import load_matrix
from harness.spec_machine import Engine
from harness.steps import Step
from harness.tasks import Task
from harness.world import EMBEDDED_BASE
from maec.errors import InputError, NoSpace
from tests.harness.test_tasks import matrix_file

FAULTS = "FAULTS"
"""Names the folder with a file for everything that goes wrong, in the environment."""


def fault(what: str) -> str | None:
    """How ``what`` goes wrong: for ever, or ``once``, after which it does not any more."""
    path = Path(os.environ[FAULTS], what)
    if not path.exists():
        return None
    kind, _, often = path.read_text().partition(" ")
    if often:
        path.unlink()
    return kind


def go_wrong(what: str) -> None:
    match fault(what):
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits":
            os._exit(3)
        case "memory":
            raise MemoryError
        case "disk":
            raise OSError(28, "No space left on device")
        case "key":
            raise KeyError("answer")
        case "hangs":
            time.sleep(600)


class Worker:
    """Makes artifacts of nothing but a manifest."""

    def __init__(self, threads: int) -> None:
        pass

    def make(self, step: Step, report: Callable[[int, int], None]) -> dict[str, Any]:
        report(1, 2)
        go_wrong(step.label)
        manifest = {"seconds": 0.1, "fingerprint": step.key, "bytes": 0}
        step.folder.mkdir(parents=True)
        (step.folder / "manifest.json").write_text(json.dumps(manifest))
        return manifest


class Live:
    """An engine whose scores are those of no model."""

    def __init__(self, gpus: str | None) -> None:
        pass

    def start(self, settings: Engine, base: Step) -> None:
        go_wrong("start")

    def answer(self, settings: Engine, base: Step, model: Step, tasks: Sequence[Task]) -> Answer:
        go_wrong(f"ask {model.label}")
        answer = Answer(1.0, [0.1], 0.5)
        for task in tasks:
            try:
                go_wrong(f"ask {model.label} {task.language}")
                answer.results[task.name] = score(model, task)
            except KeyError as error:
                answer.failures[task.name] = failed(error)
        return answer


def score(model: Step, task: Task) -> Result:
    item = {"item": 0, "id": "0", "prompt": "Q", "gold": "1", "correct": True}
    return Result(int(digest([model.key, task.name])[:4], 16) / 16**4, None, 1, {}, [item])


@pytest.fixture
def faults(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Mapping[str, str]], None]:
    """Says what goes wrong from now on, and how."""
    folder = tmp_path / "faults"
    folder.mkdir()
    monkeypatch.setenv(FAULTS, str(folder))
    monkeypatch.setattr(engines, "Live", Live)
    monkeypatch.setattr(workers, "_Worker", Worker)

    def settle(kinds: Mapping[str, str]) -> None:
        for path in folder.iterdir():
            path.unlink()
        for what, kind in kinds.items():
            (folder / what).write_text(kind)

    return settle


METHODS = ["base", "f-cpt-a", "f-cpt-l", "f-cpt-la", "t-cpt", "tv", "linear"]
TRAINING = {"steps": 2, "learning_rate": 0.001, "batch_size": 2, "sequence_length": 16}


def matrix(folder: Path) -> Path:
    return matrix_file(
        folder,
        methods=METHODS,
        items=2,
        documents={"general": 20, "pivot": 20, "ability": 20, "translated": 20},
        training={
            role: TRAINING for role in ("ability", "languages", "language", "joint", "translated")
        },
    )


def done(path: Path, **options: Any) -> Outcome:
    return run(load_matrix(path), Console(quiet=True), workers=2, **options)


def scores() -> dict[tuple[str, str], float]:
    found = store.placed().dropna(subset="score").set_index(["method", "language"])
    return found["score"].to_dict()


def recorded() -> dict[str, tuple[str, int, bool]]:
    return {e["label"]: (e["message"], e["times"], e["lasting"]) for e in store.failures()}


def test_whatever_fails_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, faults: Callable[[Mapping[str, str]], None]
) -> None:
    path = matrix(tmp_path)
    faults(
        {
            "languages te": "killed once",
            "joint math te+en": "exits",
            "translated math te+en": "disk",
            "task arithmetic math": "key",
            "ask embedded": "killed once",
            "ask ability math en te": "key",
            "ask languages te": "exits",
            "ask linear math": "memory",
        }
    )
    first = done(path)
    lasting = {
        "joint math te+en": "twice, its process exited with code 3",
        "task arithmetic math": "KeyError: 'answer' (test_faults.py, line",
        "f-cpt-a math math te seed 0": "KeyError: 'answer' (test_faults.py, line",
        "f-cpt-l math math en seed 0": "twice, the engine exited with code 3",
        "f-cpt-l math math te seed 0": "twice, the engine exited with code 3",
    }
    passing = {
        "translated math te+en": "OSError: [Errno 28] No space left on device",
        "linear math math en seed 0": "MemoryError",
        "linear math math te seed 0": "MemoryError",
    }
    expected = lasting | passing
    assert first.failures.keys() == expected.keys() == recorded().keys()
    for label, why in expected.items():
        message, times, lasts = recorded()[label]
        assert message == first.failures[label] and message.startswith(why)
        assert (times, lasts) == (1, label in lasting)
    plan = make_plan(load_matrix(path))
    every = {
        (c.method, c.language): pytest.approx(score(c.model, c.task).score) for c in plan.cells
    }
    good = [("base", "en"), ("base", "te"), ("f-cpt-a", "en")]
    assert scores() == {place: every[place] for place in good}
    assert first.cells == 3 and first.untried == 0

    faults({})  # what was the machine's fault is tried again by itself, the rest is not
    second = done(path)
    assert second.failures.keys() == lasting.keys() == recorded().keys()
    assert (second.cells, second.untried) == (4, len(lasting))
    listed = CliRunner().invoke(cli.app, ["status"], env={"COLUMNS": "200"}).output
    assert all(label in listed for label in lasting)
    shown = CliRunner().invoke(cli.app, ["run", str(path)])
    assert shown.exit_code == 1
    assert f"failed  joint math te+en: {first.failures['joint math te+en']}" in shown.stderr
    assert "5 of these failed before and were not tried again" in shown.stderr
    assert f"harness run {path} --retry-failed" in shown.stderr

    faults({"task arithmetic math": "key"})
    third = done(path, retry_failed=True)
    assert third.failures.keys() == recorded().keys() == {"task arithmetic math"}
    faults({})
    assert done(path, retry_failed=True) == Outcome(cells=2)
    assert scores() == every and recorded() == {}


def test_a_step_that_needs_a_failed_one_fails_and_an_engine_that_does_not_start_is_no_models_fault(
    tmp_path: Path, faults: Callable[[Mapping[str, str]], None]
) -> None:
    path = matrix(tmp_path)
    faults({"ability math en": "key", "start": "exits"})
    first = done(path)
    needs = "needs a failed step: ability math en"
    for label in ("task arithmetic math", "linear math"):
        assert first.failures[label] == needs
    assert first.failures["base math math te seed 0"].startswith("twice, the engine")
    assert [label for label, (_, _, lasting) in recorded().items() if lasting] == [
        "ability math en"
    ]
    faults({"ability math en": "exits"})
    second = done(path)
    assert second.failures.keys() == {"ability math en", "task arithmetic math", "linear math"}
    assert second.failures["linear math"] == needs and second.untried == 3
    assert len(scores()) == 8


@pytest.mark.parametrize(
    ("error", "why", "lasting"),
    [
        (InputError("mend this"), "mend this", True),
        (NoSpace("free some"), "free some", False),
        (ZeroDivisionError("by\nzero"), "ZeroDivisionError: by zero", True),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "OutOfMemoryError: CUDA out of memory",
            False,
        ),
        (SafetensorError("No space left on device"), "SafetensorError: No space left", False),
        (Failed("as it was", False), "as it was", False),
    ],
)
def test_a_failure_is_one_line_and_the_machines_fault_or_not(
    error: Exception, why: str, lasting: bool
) -> None:
    found = pickle.loads(pickle.dumps(failed(error)))
    assert str(found).startswith(why) and "\n" not in str(found)
    assert found.lasting == lasting


class Whole:
    """A real :class:`harness.live.Live` on an engine that is none."""

    start_seconds = 1.0

    def __init__(self) -> None:
        self.lm = SimpleNamespace(broken=False)
        self.asked: list[list[str]] = []

    def switch(self, path: Path) -> float:
        return 0.1

    def stop(self) -> None:
        self.lm = None


@pytest.mark.parametrize("inside", [False, True])
def test_where_one_task_fails_each_is_asked_alone_and_never_an_engine_that_broke(
    monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    started: list[Whole] = []

    def start(*_: object, **__: object) -> Whole:
        started.append(Whole())
        return started[-1]

    def evaluate(engine: Whole, names: Sequence[str]) -> dict[str, str]:
        assert not engine.lm.broken
        engine.asked.append(list(names))
        if "bad" in names:
            engine.lm.broken = inside
            raise ZeroDivisionError("no answers")
        return {name: f"result of {name}" for name in names}

    monkeypatch.setattr(lives, "start", start)
    monkeypatch.setattr(lives, "require_sound", lambda _: None)
    monkeypatch.setattr(lives, "evaluate", evaluate)
    monkeypatch.setattr(lives.Live, "_load", lambda _, tasks: [task.name for task in tasks])
    base = Step("base", {}, path=EMBEDDED_BASE)
    tasks = [SimpleNamespace(name=name) for name in ("one", "bad", "two")]
    answer = lives.Live().answer(Engine(), base, base, tasks)
    assert answer.results == {"one": "result of one", "two": "result of two"}
    assert answer.failures["bad"].why.startswith("ZeroDivisionError: no answers (test_faults.py, ")
    together, alone = ["one", "bad", "two"], [["one"], ["bad"], ["two"]]
    asked = [[together], alone[:2], alone[2:]] if inside else [[together, *alone]]
    assert [engine.asked for engine in started] == asked
    assert all(engine.lm is None for engine in started[:-1])


class Echo:
    def say(self, what: object) -> object:
        go_wrong("say")
        return what


def test_an_actor_that_died_idle_is_replaced_and_one_that_is_stopped_is_not(
    faults: Callable[[Mapping[str, str]], None],
) -> None:
    actor = Actor("echo", Echo)
    assert actor.call("say", 1) == 1
    (process,) = [child for child in psutil.Process().children() if child.name() == "echo"]
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert actor.call("say", 2) == 2
    faults({"say": "killed once"})
    with pytest.raises(Died, match="was killed"):
        actor.call("say", 3)
    with pytest.raises(Failed, match="AttributeError"):
        actor.call("sing")
    actor.stop()
    with pytest.raises(Died, match="was stopped"):
        actor.call("say", 4)


PROGRAM = """
import sys
from harness import cli, engines, workers
from tests.harness import test_faults
if __name__ == "__main__":
    engines.Live, workers._Worker = test_faults.Live, test_faults.Worker
    workers.GRACE = 0.1
    cli.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_nothing_is_left_of_a_run_that_is_told_to_end(
    tmp_path: Path, faults: Callable[[Mapping[str, str]], None], number: int, code: int
) -> None:
    faults({"ability math en": "hangs", "ask embedded": "hangs"})
    command = [sys.executable, "-c", PROGRAM, "run", str(matrix(tmp_path))]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT)
    try:
        at_work = {"harness engine", "harness step"}
        while not at_work <= {child.name() for child in psutil.Process(driver.pid).children()}:
            time.sleep(0.05)
        processes = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(number)
        told = driver.communicate(timeout=30)[1]
    finally:
        driver.kill()
    assert driver.returncode == code, told
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    assert "Traceback" not in told
    if code > 0:
        assert told.endswith("harness: interrupted; run the same command again to go on\n")

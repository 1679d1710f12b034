"""A run does what is missing and nothing else; what fails is named and the rest goes on."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path

import duckdb
import psutil
import pytest
from rich.console import Console

from harness.interrupt import Interrupted, heeded_signals, raised_signals
from harness.run import run as run_here
from harness.schedule import Schedule, urgency
from harness.spec import load_matrix
from harness.steps import Step
from maec.errors import Damaged
from tests.harness.models import random_model
from tests.harness.test_tasks import matrix_file

pytestmark = pytest.mark.slow

TRAINING = {"steps": 2, "learning_rate": 0.001, "batch_size": 2, "sequence_length": 16}
DOCUMENTS = {"general": 20, "pivot": 20, "ability": 20, "translated": 20}


@pytest.fixture
def small(tmp_path: Path) -> dict:
    """A matrix of one language on a random model, on the engine that starts fastest."""
    return {
        "base": random_model(tmp_path, 0).name,
        "items": 4,
        "engine": {"kind": "transformers", "max_model_len": 128},
        "documents": DOCUMENTS,
        "training": {"ability": TRAINING, "language": TRAINING},
    }


def run(path: Path, home: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", "run", str(path)],
        capture_output=True,
        text=True,
        env={"MAEC_HOME": str(home), "PATH": "/usr/bin:/bin"},
    )


def disturbed(path: Path, home: Path) -> subprocess.CompletedProcess:
    """Run it, and kill everything that it has started as soon as a model is scored."""
    command = [sys.executable, "-m", "harness.cli", "run", str(path)]
    environment = {"MAEC_HOME": str(home), "PATH": "/usr/bin:/bin"}
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    next(line for line in driver.stderr if line.startswith("scored"))
    at_work = [p for p in psutil.Process(driver.pid).children() if p.name().startswith("harness")]
    assert {process.name() for process in at_work} == {"harness engine", "harness step"}
    for process in at_work:
        process.kill()
    _, told = driver.communicate()
    return subprocess.CompletedProcess(command, driver.returncode, stderr=told)


def counts(home: Path) -> tuple[int, int]:
    with duckdb.connect(str(home / "snapshot.duckdb"), read_only=True) as connection:
        return connection.execute(
            "SELECT (SELECT count(*) FROM cells), (SELECT count(*) FROM artifacts)"
        ).fetchone()


def test_a_model_that_diverges_fails_by_name_and_the_rest_is_scored(
    tmp_path: Path, home: Path, small: dict
) -> None:
    diverging = {**TRAINING, "learning_rate": 1e30}
    small["training"] = {"ability": diverging, "language": TRAINING}
    path = matrix_file(tmp_path, methods=["base", "f-cpt-a", "tv"], **small)
    done = run(path, home)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "ability math en: RuntimeError: the result is not a usable model" in done.stderr
    assert "task arithmetic math: needs a failed step: ability math en" in done.stderr
    assert counts(home) == (2, 1)  # the base's cells; the language model
    assert not list((home / "artifacts").rglob(".partial-*"))


def test_adding_a_language_adds_its_cells_and_no_others_though_all_processes_are_killed_once(
    tmp_path: Path, home: Path, small: dict
) -> None:
    methods = ["base", "f-cpt-a", {"name": "tv", "scope": "language"}]
    done = disturbed(matrix_file(tmp_path, methods=methods, **small), home)
    assert done.returncode == 0, done.stderr
    assert counts(home) == (6, 4)  # ability, te, and merges for te and for the pivot
    # what was killed left scratch, which the next run removes
    made = (home / "artifacts").glob("*/[!.]*/*.json")
    before = {path: path.stat().st_mtime_ns for path in made}
    both = matrix_file(tmp_path, methods=methods, **{**small, "languages": ["te", "es"]})
    assert run(both, home).returncode == 0
    assert counts(home) == (9, 6)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def test_two_steps_that_make_the_same_weights_share_their_scores(
    tmp_path: Path, home: Path, small: dict
) -> None:
    small["training"] |= {"locate": TRAINING, "key_neurons": TRAINING}
    # without target languages, which is what the pivot is asked with, λ does not matter
    maec = {"name": "maec", "scope": "language", "beta": 0.0}
    methods = [{**maec, "label": f"λ {scale}", "language_scale": scale} for scale in (0.3, 0.6)]
    path = matrix_file(tmp_path, methods=methods, **small)
    done = run(path, home)
    assert done.returncode == 0, done.stderr
    assert counts(home) == (3, 9)  # one cell in the pivot, two in the target
    assert all("–" not in line for line in done.stdout.splitlines() if "λ" in line)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in the foreground, even where these tests are a job in the background."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def test_signals_break_nothing_in_two_and_are_there_to_be_checked(interruptible: None) -> None:
    query = "SELECT count(*) FROM range(9000) a, range(9000) b WHERE a.range > b.range"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with heeded_signals() as stop, duckdb.connect() as connection:
            stop.check()
            # DuckDB gives up a query as soon as a signal raises something
            threading.Timer(0.02, signal.raise_signal, [number]).start()
            assert connection.execute(query).fetchone() == (9000 * 8999 // 2,)
            with pytest.raises(Interrupted) as caught:
                stop.check()
            assert caught.value.number == number
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_signals_are_heeded_they_raise_nothing_though_they_do_around(
    interruptible: None,
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with raised_signals():
            with heeded_signals() as stop:
                signal.raise_signal(number)
                assert stop.number == number
            with pytest.raises(Interrupted):
                signal.raise_signal(number)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_scores_survive_without_their_artifacts_and_the_models_are_not_made_again(
    tmp_path: Path, home: Path, small: dict
) -> None:
    import shutil

    path = matrix_file(tmp_path, methods=["f-cpt-a"], **small)
    assert run(path, home).returncode == 0
    shutil.rmtree(home / "artifacts")
    done = run(path, home)
    assert done.returncode == 0 and "nothing to do" in done.stderr
    assert not (home / "artifacts").exists()


class FakeWorkers:
    """What they were given never ends by itself."""

    def __init__(self, futures: dict[str, Future]) -> None:
        self._futures = futures

    def submit(self, step: Step) -> Future:
        return self._futures.setdefault(step.key, Future())


def exists(step: Step) -> None:
    step.folder.mkdir(parents=True)
    (step.folder / "manifest.json").write_text("{}")


def test_a_step_whose_input_was_set_aside_meanwhile_is_handed_over_to_be_refused(
    home: Path,
) -> None:
    there, slow = Step("train", {"number": 1}), Step("train", {"number": 2})
    last = Step("train", {"number": 3}, {"start": there, "mask": slow})
    futures: dict[str, Future] = {}
    exists(there)
    schedule = Schedule([slow, last], FakeWorkers(futures))
    there.folder.rename(there.folder.with_name("damaged"))
    exists(slow)
    futures[slow.key].set_result({"seconds": 1})
    assert list(schedule.ended(timeout=0)) == [(slow, {"seconds": 1})]
    futures[last.key].set_exception(Damaged("it is gone"))
    ((step, failure),) = schedule.ended(timeout=0)
    assert step is last and failure.why == "it is gone" and schedule.idle


def test_a_step_is_pending_until_its_result_was_given_though_its_artifact_exists(
    home: Path,
) -> None:
    first = Step("train", {"number": 1})
    second = Step("train", {"number": 2}, {"start": first})
    futures: dict[str, Future] = {}

    schedule = Schedule([first, second], FakeWorkers(futures))
    assert schedule.pending == {first.key, second.key}
    exists(first)
    assert first.done
    assert list(schedule.ended(timeout=0)) == []
    assert schedule.pending == {first.key, second.key}
    futures[first.key].set_result({"seconds": 1})
    assert list(schedule.ended(timeout=0)) == [(first, {"seconds": 1})]
    assert schedule.pending == {second.key}
    exists(second)
    futures[second.key].set_result({"seconds": 2})
    assert list(schedule.ended(timeout=0)) == [(second, {"seconds": 2})]
    assert schedule.pending == set() and schedule.idle


def test_what_is_scored_was_recorded_however_late_its_manifest_comes_back(
    tmp_path: Path, home: Path, small: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Schedule.ended

    def late(self: Schedule, timeout: float) -> Iterator:
        # the artifact is there, the driver has not heard of it yet
        if self._running and not getattr(self, "_waited", False):
            self._waited = True
            wait(self._running)
            return iter(())
        return real(self, timeout)

    monkeypatch.setattr(Schedule, "ended", late)
    path = matrix_file(tmp_path, methods=["f-cpt-a"], **small)
    outcome = run_here(load_matrix(path), Console(quiet=True))
    assert (outcome.cells, outcome.failures) == (2, {})
    assert counts(home) == (2, 1)


def test_the_longest_chain_of_work_goes_first(home: Path) -> None:
    def training(label: str, steps: int, *needs: Step) -> Step:
        settings = {"steps": steps, "batch_size": 10, "sequence_length": 100}
        return Step(
            "train",
            {"training": settings, "label": label},
            {str(index): step for index, step in enumerate(needs)},
            label=label,
        )

    short = training("short", 10)
    first = training("first", 10)
    last = training("last", 50, first)
    found = urgency([short, first, last])
    assert found[first.key] > found[last.key] > found[short.key]

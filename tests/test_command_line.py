"""Mistakes cost one line and exit code 2 before any work; planning costs no heavy import."""

import json
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from harness import cli
from tests.harness.models import random_model
from tests.harness.test_tasks import matrix_file


def harness(*arguments: object, home: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"MAEC_HOME": str(home), "PATH": ""},
    )


def test_a_plan_that_does_not_fit_on_the_disk_is_refused_before_it_starts(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    settings = {"steps": 1, "learning_rate": 0.001}
    path = matrix_file(
        tmp_path,
        base=random_model(tmp_path, 0).name,
        methods=["f-cpt-a"],
        documents={"general": 9, "pivot": 9, "ability": 9, "translated": 9},
        training={"ability": settings},
    )
    capsys.readouterr()  # what transformers printed while it wrote the model
    monkeypatch.setattr(sys, "argv", ["harness", "run", str(path)])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no space" in error
    assert not (home / "artifacts").exists()


PLANNING = """
import signal, time
from harness import cli, plan, run

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it

def forever(*_):
    print("planning", flush=True)
    time.sleep(60)

plan.make_plan = run.make_plan = forever
cli.main()
"""


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_plans_is_answered_in_one_line(
    tmp_path: Path, home: Path, command: str, number: int
) -> None:
    arguments = [sys.executable, "-c", PLANNING, command, str(matrix_file(tmp_path))]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout.readline() == "planning\n"
        running.send_signal(number)
        said = running.communicate(timeout=30)[1]
    assert running.returncode == 128 + number
    assert said == "harness: interrupted; run the same command again to go on\n"


def test_planning_and_help_import_neither_torch_nor_vllm(tmp_path: Path, home: Path) -> None:
    matrix = Path(__file__).parents[1] / "harness" / "matrices" / "micro.yaml"
    program = f"""
import sys
from harness import cli
import maec.cli
sys.argv = ["harness", "plan", {str(matrix)!r}, "--json"]
try:
    cli.main()
except SystemExit as done:
    assert not done.code, done.code
heavy = {{"torch", "vllm", "transformers", "lm_eval", "datasets"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"MAEC_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["missing"]["cells"] == len(summary["cells"]) == 90


@pytest.mark.parametrize(
    "command",
    [
        *([], ["plan"], ["run"], ["sweep"], ["table"], ["compare"], ["cost"], ["report"]),
        *(
            ["export"],
            ["import"],
            ["verify"],
            ["cite"],
            ["export-lm-eval"],
            ["add-language"],
            ["status"],
            ["clean"],
            ["doctor"],
        ),
    ],
)
def test_every_command_explains_itself(home: Path, command: list[str]) -> None:
    done = harness(*command, "--help", home=home)
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_a_plan_says_what_is_missing_and_makes_nothing(tmp_path: Path, home: Path) -> None:
    done = harness("plan", matrix_file(tmp_path), "--json", home=home)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["missing"] == {"steps": 0, "cells": 2}
    assert not home.exists()


def test_status_before_the_first_run_says_how_to_start(home: Path) -> None:
    assert "make matrix" in harness("status", home=home).stdout


def test_clean_asks_and_keeps_everything_without_a_yes(home: Path) -> None:
    (home / "artifacts" / "train" / "k").mkdir(parents=True)
    (home / "notes.txt").write_text("mine")
    kept = subprocess.run(
        [sys.executable, "-m", "harness.cli", "clean"],
        input="n\n",
        capture_output=True,
        text=True,
        env={"MAEC_HOME": str(home)},
    )
    assert "kept everything" in kept.stdout
    assert (home / "artifacts" / "train" / "k").is_dir()
    assert harness("clean", "--yes", home=home).returncode == 0
    assert not (home / "artifacts").exists()
    assert (home / "notes.txt").read_text() == "mine"  # what is not ours is never deleted

"""The file that says what a run is doing: true, whole at any moment, and honest about the end."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from harness import live_status
from harness.board import board
from harness.home import CHECKOUT
from harness.live_status import LiveStatus, read, seconds_left
from harness.schedule import work
from harness.steps import Step

TRAINING = {"steps": 10, "batch_size": 100, "sequence_length": 80}
LONG = Step(kind="train", settings={"training": TRAINING}, label="ability [b]math[/b] en")
SHORT = Step(kind="extract", settings={}, label="ability weights")


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LiveStatus:
    """A status that is written with every change."""
    monkeypatch.setattr(live_status, "INTERVAL", 0.0)
    return LiveStatus(tmp_path, "nano", "r1")


def test_before_the_first_run_there_is_no_status(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    for text in ("", "{", "[]", '{"state": "running"}'):
        (tmp_path / "live.json").write_text(text)
        assert read(tmp_path) is None


def test_the_board_says_the_same_to_the_terminal_and_to_the_file(
    tmp_path: Path, live: LiveStatus
) -> None:
    terminal = io.StringIO()
    with board(Console(file=terminal, width=200), live, [LONG, SHORT], 6) as shown:
        first = read(tmp_path)
        assert first["steps"] == {"done": 0, "total": work(LONG) + work(SHORT)} == {
            "done": 0, "total": 20 + 80 + 20
        }  # fmt: skip
        assert first["cells"] == {"done": 0, "total": 6}
        assert (first["matrix"], first["run_id"], first["state"]) == ("nano", "r1", "running")
        assert first["seconds_left"] is None
        shown.working(LONG, 4, 10)
        at_work = read(tmp_path)
        assert at_work["working"] == [
            {"label": "ability [b]math[/b] en", "done": 4, "total": 10, "unit": "step"}
        ]
        assert at_work["steps"]["done"] == 40
        assert at_work["seconds_left"] >= 0
        shown.made(LONG, 1.5)
        assert read(tmp_path)["working"] == []
        assert read(tmp_path)["steps"]["done"] == 100
        shown.scored("maec math", 4, 2.0)
        shown.failed("ability weights", "RuntimeError: <script>", step=SHORT)
        shown.failed("tv math", "no", cells=1)
    found = read(tmp_path)
    assert found["steps"] == {"done": 120, "total": 120}
    assert found["cells"] == {"done": 5, "total": 6}
    said = [(line["kind"], line["text"]) for line in found["said"]]
    assert said == [
        ("made", "ability [b]math[/b] en  1.5 s"),
        ("scored", "maec math  4 cells  2.0 s"),
        ("failed", "ability weights: RuntimeError: <script>"),
        ("failed", "tv math: no"),
    ]
    printed = terminal.getvalue()
    for kind, text in said:
        assert f"{kind:<6}  {text}" in printed
    assert all(first["started"] <= line["at"] <= time.time() for line in found["said"])


def test_only_the_last_lines_are_kept(tmp_path: Path, live: LiveStatus) -> None:
    for number in range(50):
        live.say("made", str(number))
    said = [line["text"] for line in read(tmp_path)["said"]]
    assert said == [str(number) for number in range(30, 50)]


@pytest.mark.parametrize("state", ["done", "failed", "interrupted"])
def test_a_run_that_ended_says_how(tmp_path: Path, live: LiveStatus, state: str) -> None:
    live.working("k", "label", 1, 2)
    live.end(state)
    found = read(tmp_path)
    assert (found["state"], found["working"], found["seconds_left"]) == (state, [], None)


def test_it_is_written_at_most_once_a_second_and_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(live_status.time, "monotonic", lambda: clock[0])
    live = LiveStatus(tmp_path, "nano", "r1")
    live.advance(cells=1)
    written = []
    for tick in range(40):  # ten seconds, four changes in each
        clock[0] = 100 + tick / 4
        live.advance(cells=1)
        written.append(read(tmp_path)["cells"]["done"])
    assert len(set(written)) <= 11
    clock[0] += 1
    live.flush()
    assert read(tmp_path)["cells"]["done"] == 41
    before = (tmp_path / "live.json").stat().st_mtime_ns
    clock[0] += 5
    live.flush()  # nothing changed
    assert (tmp_path / "live.json").stat().st_mtime_ns == before


def test_a_reader_never_meets_half_a_file(tmp_path: Path, live: LiveStatus) -> None:
    program = (
        "import json, sys\nfrom pathlib import Path\n"
        "path = Path(sys.argv[1])\n"
        "while not path.exists(): pass\n"
        "states = [json.loads(path.read_text())['state'] for _ in range(3000)]\n"
        "print(len(states))\n"
    )
    reading = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "live.json")],
        stdout=subprocess.PIPE,
        text=True,
    )
    while reading.poll() is None:
        live.say("made", "x" * 1000)
    assert reading.stdout.read().strip() == "3000"
    assert [path.name for path in tmp_path.iterdir()] == ["live.json"]


def test_a_run_that_was_killed_is_told_from_one_that_runs(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from harness.live_status import LiveStatus\n"
        "LiveStatus(Path(sys.argv[1]), 'nano', 'r1').expect(1, 1)\n"
        "print('written', flush=True)\ntime.sleep(600)\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=CHECKOUT, stdout=subprocess.PIPE
    )
    try:
        driver.stdout.readline()
        assert read(tmp_path)["state"] == "running"
        driver.kill()
        deadline = time.monotonic() + 10  # not reaped yet, it is a zombie, and gone all the same
        while read(tmp_path)["state"] == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert read(tmp_path)["state"] == "crashed"
    finally:
        driver.kill()
        driver.wait()
    assert read(tmp_path)["state"] == "crashed"


def test_another_process_with_the_same_number_is_not_the_run(
    tmp_path: Path, live: LiveStatus
) -> None:
    live.expect(1, 1)
    path = tmp_path / "live.json"
    status = json.loads(path.read_text(encoding="utf-8"))
    assert status["pid"] == os.getpid() and read(tmp_path)["state"] == "running"
    path.write_text(json.dumps({**status, "process_started": status["process_started"] - 60}))
    assert read(tmp_path)["state"] == "crashed"


def test_a_status_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    live = LiveStatus(tmp_path / "nowhere", "nano", "r1")
    live.expect(1, 1)
    live.end("done")
    assert read(tmp_path / "nowhere") is None


def test_the_time_left_is_that_of_the_slowest_part() -> None:
    steps, cells = {"done": 30, "total": 40}, {"done": 2, "total": 10}
    assert seconds_left(60, [steps]) == 20
    assert seconds_left(60, [steps, cells]) == 240
    assert seconds_left(60, [steps, {"done": 0, "total": 10}]) == 20
    assert seconds_left(60, [{"done": 0, "total": 10}]) is None
    assert seconds_left(60, [{"done": 10, "total": 10}]) == 0


@pytest.mark.slow
def test_a_matrix_that_ran_left_its_end_behind(ran: Path) -> None:
    found = read(ran)
    assert (found["matrix"], found["state"]) == ("nano", "done")
    for part in ("steps", "cells"):
        assert 0 < found[part]["done"] == pytest.approx(found[part]["total"])
    assert found["said"][-1]["kind"] == "scored"

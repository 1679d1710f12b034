"""A command of the harness as a user starts it: its processes, its end, what it left behind."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "MAEC_FAULTS_MARK"
"""A variable that every process inherits which belongs to one command."""

HARNESS = Path(sys.executable).with_name("harness")

PATIENCE = 20.0
"""Seconds that processes may take to notice that their driver is gone."""


class NotSurvived(Exception):
    """What a user would not accept: said in one line."""


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``code`` is negative where a signal ended it."""

    code: int
    said: str
    seconds: float

    @property
    def last_line(self) -> str:
        return (self.said.strip().splitlines() or [""])[-1]


class Command:
    """A running ``harness`` in a session of its own. What it prints goes to files at ``log``."""

    def __init__(
        self, arguments: list[str], folder: Path, log: Path, environment: Mapping[str, str]
    ) -> None:
        self.log = log
        self._mark = secrets.token_hex(8)
        self._began = time.monotonic()
        with log.with_suffix(".out").open("w") as out, log.with_suffix(".err").open("w") as err:
            self._process = psutil.Popen(
                [HARNESS, *arguments],
                cwd=folder,
                env={**os.environ, **environment, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                # a job in the background, as this one may be, ignores Ctrl-C
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def victims(self, role: str) -> list[psutil.Process]:
        """Processes of the command with that role: driver, worker or engine."""
        if not self.running:
            return []
        if role == "driver":
            return [self._process]
        try:
            found = self._process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [process for process in found if _role(process) == role]

    def interrupt(self) -> None:
        """Ctrl-C in its terminal: all its processes get it."""
        os.killpg(self._process.pid, signal.SIGINT)

    def wait(self, limit: float) -> Ended:
        """Wait for its end.

        Raises:
            NotSurvived: it hangs, or left processes behind; they are killed.
        """
        try:
            code = self._process.wait(limit)
        except psutil.TimeoutExpired:
            self.end()
            raise NotSurvived(f"still running after {limit:.0f} s") from None
        seconds = time.monotonic() - self._began
        _, alive = psutil.wait_procs(self._all(), timeout=PATIENCE)
        if alive:
            self.end()
            names = {" ".join(process.info["cmdline"])[:60] for process in alive}
            raise NotSurvived(f"{len(alive)} processes outlived it: {', '.join(names)}")
        return Ended(code, self.log.with_suffix(".err").read_text(), seconds)

    def end(self) -> None:
        """Kill all of its processes."""
        for process in self._all():
            process.kill()
        psutil.wait_procs(self._all(), timeout=PATIENCE)

    def _all(self) -> list[psutil.Process]:
        marked = psutil.process_iter(["environ", "cmdline"])
        return [p for p in marked if (p.info["environ"] or {}).get(MARK) == self._mark]


def _role(process: psutil.Process) -> str:
    try:
        name, words = process.name(), process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return "gone"
    if name == "harness engine":
        return "engine"
    return "worker" if any("spawn_main" in word for word in words) else "helper"

"""Where faults happen: a matrix, a home that is always at one place, and its undisturbed end."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.world import EMBEDDED_BASE
from tests.faults import truth
from tests.faults.command import Command, Ended, NotSurvived

MATRIX = Path(__file__).parent / "matrix.yaml"

STOPPED = frozenset({1, 2})
"""Exit codes of a run that stopped by itself: some of the work failed, or it was refused."""

ATTEMPTS = 6
"""How often a user follows the advice of a message before giving up."""


class Scene:
    """A folder with a base, two matrices and a home.

    ``first.yaml`` is a part of ``matrix.yaml`` with fewer questions: what it makes is used again.
    """

    def __init__(self, folder: Path, engine: str, workers: int | None = None) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._options = [] if workers is None else ["--workers", str(workers)]
        self.seconds = 0.0
        """How long an undisturbed run takes."""
        self.left = 0.0
        """How long it takes from the home that there was before the faults."""
        self.faults: list[str] = []
        """What was done to it since this list was emptied."""
        self._commands: list[Command] = []
        folder.mkdir(parents=True)
        (folder / "logs").mkdir()
        shutil.copytree(EMBEDDED_BASE, folder / "base")
        matrix = yaml.safe_load(MATRIX.read_text(encoding="utf-8"))
        matrix["engine"]["kind"] = engine
        first = {
            **matrix,
            "items": 1,
            "methods": [m for m in matrix["methods"] if "label" not in m],
        }
        for name, content in (("matrix.yaml", matrix), ("first.yaml", first)):
            (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")

    def prepare(self) -> None:
        """Run the matrix undisturbed and keep what it ends with."""
        self.seconds = self._undisturbed("matrix.yaml")
        truth.require_clean(self.home)
        self._expected = truth.read(self.home)
        self.keep("complete")

    def _undisturbed(self, matrix: str) -> float:
        ended = self.run(matrix)
        if ended.code:
            raise NotSurvived(f"an undisturbed run of {matrix}: {ended.last_line}")
        return ended.seconds

    def note(self, **what: Any) -> None:
        """Write a line of the log."""
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": round(time.time(), 3), **what}, default=str) + "\n")

    def inject(self, fault: str, **details: Any) -> None:
        """Say that a fault is happening."""
        self.faults.append(fault)
        self.note(fault=fault, **details)

    def fresh(self) -> None:
        """An empty home."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.left = self.seconds

    def keep(self, name: str) -> None:
        """Remember the home as it is, for ``restore``."""
        shutil.copytree(self.home, self.folder / name)

    def restore(self, name: str) -> None:
        """The home of a run that is ``complete``, or of one that ran ``first.yaml`` alone."""
        self.fresh()
        if name == "first" and not (self.folder / name).is_dir():
            self._undisturbed("first.yaml")
            self.keep(name)
            self._seconds_after_first = self._undisturbed("matrix.yaml")
            self.fresh()
        shutil.copytree(self.folder / name, self.home)
        self.left = self._seconds_after_first if name == "first" else 0.0

    def start(
        self, matrix: str = "matrix.yaml", *more: str, environment: Mapping[str, str] | None = None
    ) -> Command:
        """Start ``harness run``."""
        return self.command("run", matrix, *self._options, *more, environment=environment)

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Command:
        """Start a command of the harness in the folder of the matrices."""
        self.log = self.folder / "logs" / f"{len(self._commands) + 1:04}"
        self.note(command=arguments, log=self.log.name)
        more = {"MAEC_HOME": str(self.home), "MAEC_RESULTS": str(self.folder / "results")}
        started = Command(list(arguments), self.folder, self.log, {**more, **(environment or {})})
        self._commands.append(started)
        return started

    def end(self) -> None:
        """Leave no command running."""
        for command in self._commands:
            if command.running:
                command.end()

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
        """``harness run`` to its end; NotSurvived where it hangs or leaves processes."""
        return self.wait(self.start(*arguments, environment=environment))

    def wait(self, command: Command) -> Ended:
        """The end of a command, in the log as well."""
        ended = command.wait(max(240.0, 15 * self.seconds))
        self.note(code=ended.code, seconds=round(ended.seconds, 2), said=ended.last_line)
        return ended

    def stopped(self, ended: Ended) -> bool:
        """Whether a run stopped with a message, as it may; False where it did its work.

        Raises:
            NotSurvived: it ended in any other way.
        """
        require_clear(ended, STOPPED)
        return ended.code != 0

    def finish(self, *, exact: bool = True, examined: bool = False) -> None:
        """Do what a user does: run again, follow what messages advise, end with the right table.

        With ``examined`` the doctor looks last, for damage to what nothing needed.

        Raises:
            NotSurvived: it does not end, or not with what an undisturbed run gives.
        """
        advice: list[str] = []
        for _ in range(ATTEMPTS):
            ended = self.run("matrix.yaml", *advice)
            if not self.stopped(ended):
                break
            advice = self._follow(ended)
        else:
            raise NotSurvived(f"{ATTEMPTS} runs and still: {ended.last_line}")
        if examined:
            self._repair()
        truth.require_same(self._expected, truth.read(self.home), exact=exact)
        truth.require_clean(self.home)

    def _follow(self, ended: Ended) -> list[str]:
        """What to run with next time, after doing what the message says."""
        if "doctor --repair" in ended.said:
            self._repair()
        return ["--retry-failed"] if "--retry-failed" in ended.said else []

    def _repair(self) -> None:
        require_clear(self.wait(self.command("doctor", "--repair")), frozenset())


def require_clear(ended: Ended, allowed: frozenset[int]) -> None:
    """Raise NotSurvived unless a command did its work, or ended as ``allowed`` and says why."""
    if found := problem(ended, allowed):
        raise NotSurvived(found)


def problem(ended: Ended, allowed: frozenset[int]) -> str | None:
    """What is wrong with how a command ended, in one line; None where nothing is."""
    for word in ("Traceback (most recent call last)", "Exception ignored", "Fatal Python error"):
        if word in ended.said:
            return f"exit code {ended.code} with {word!r}: {ended.last_line}"
    if ended.code not in {0, *allowed}:
        return f"exit code {ended.code}: {ended.last_line or 'nothing was said'}"
    told = "failed" in ended.said if ended.code == 1 else ended.last_line.startswith("harness: ")
    if ended.code > 0 and not told:
        return f"exit code {ended.code} without a message: {ended.last_line!r}"
    return None

"""What a run shows: bars with the time left, and a line for all that is done.

All of it goes to the terminal, and to the file that the leaderboard reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.live_status import LiveStatus
from harness.schedule import work
from harness.steps import Step

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    TaskProgressColumn(),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)
"""What every bar of the harness shows."""


class Board:
    """Two lasting bars, steps and cells, and one for every step that says how far it is."""

    def __init__(self, progress: Progress, live: LiveStatus, steps: list[Step], cells: int) -> None:
        self._progress = progress
        self._live = live
        total = sum(work(step) for step in steps)
        self._steps = progress.add_task("steps", total=total)
        self._cells = progress.add_task("cells", total=cells)
        live.expect(total, cells)
        self._working: dict[str, TaskID] = {}
        self._shown: dict[str, float] = {}

    def working(self, step: Step, done: int, total: int) -> None:
        """A worker is at optimiser step ``done`` of ``total``, or at such a byte of a download."""
        if step.key not in self._working:
            self._working[step.key] = self._progress.add_task(f"  {escape(step.label)}")
        self._progress.update(self._working[step.key], completed=done, total=total)
        unit = "byte" if step.kind == "fetch" else "step"
        self._live.working(step.key, step.label, done, total, unit)
        # a download may turn out larger than it was
        self._advance(step, max(work(step) * done / total, self._shown.get(step.key, 0.0)))

    def made(self, step: Step, seconds: float) -> None:
        self._end(step)
        self._say("made", f"{step.label}  {seconds:.1f} s")

    def scored(self, what: str, cells: int, seconds: float) -> None:
        self._advance_cells(cells)
        self._say("scored", f"{what}  {cells} cells  {seconds:.1f} s")

    def failed(self, what: str, why: str, *, step: Step | None = None, cells: int = 0) -> None:
        if step is not None:
            self._end(step)
        self._advance_cells(cells)
        self._say("failed", f"{what}: {why}")

    def refresh(self) -> None:
        """Let the file catch up with what changed since it was written."""
        self._live.flush()

    def _say(self, kind: str, text: str) -> None:
        style = "[red]failed[/red]" if kind == "failed" else kind.ljust(6)
        self._progress.console.print(f"{style}  {escape(text)}", soft_wrap=True, highlight=False)
        self._live.say(kind, text)

    def _end(self, step: Step) -> None:
        if step.key in self._working:
            self._progress.remove_task(self._working.pop(step.key))
        self._live.ended(step.key)
        self._advance(step, work(step))

    def _advance(self, step: Step, to: float) -> None:
        more = to - self._shown.get(step.key, 0.0)
        self._progress.advance(self._steps, more)
        self._live.advance(steps=more)
        self._shown[step.key] = to

    def _advance_cells(self, cells: int) -> None:
        self._progress.advance(self._cells, cells)
        self._live.advance(cells=cells)


@contextmanager
def board(console: Console, live: LiveStatus, steps: list[Step], cells: int) -> Iterator[Board]:
    """A live board until the block ends."""
    with Progress(*COLUMNS, console=console) as progress:
        yield Board(progress, live, steps, cells)

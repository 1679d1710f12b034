"""Signals to the driver, to workers and to the engine, at random moments of a run."""

import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.faults.command import Command
from tests.faults.scene import Scene, require_clear

EVENTS: Mapping[str, str] = {
    "a step is being made": "artifacts/*/.partial-*",
    "a step was made": "artifacts/*/[!.]*/manifest.json",
    "training": "training/*",
    "a commit": "store.duckdb.wal",
    "a snapshot is being written": "snapshot.*.partial",
    "a snapshot was written": "snapshot.duckdb",
    "the state was written": "live.json",
}
"""What shows in a home while a run is at work."""

POLL = 0.004


@dataclass(frozen=True)
class Interruption:
    """Which process gets which signal; ``terminal`` is Ctrl-C, which all of them get."""

    victim: str
    number: signal.Signals

    @property
    def name(self) -> str:
        return f"{self.number.name} to {self.victim}"

    @property
    def ends_the_run(self) -> bool:
        return self.victim in ("driver", "terminal")

    @property
    def allowed(self) -> frozenset[int]:
        """Exit codes of a run that it ends; a driver that has no handler yet dies by the signal."""
        if not self.ends_the_run:
            return frozenset({1})
        handled = {signal.SIGINT: 130, signal.SIGTERM: 143}
        return frozenset({-self.number, handled.get(self.number, -self.number)})


INTERRUPTIONS = (
    Interruption("driver", signal.SIGKILL),
    Interruption("driver", signal.SIGTERM),
    Interruption("driver", signal.SIGINT),
    Interruption("terminal", signal.SIGINT),
    Interruption("worker", signal.SIGKILL),
    Interruption("worker", signal.SIGTERM),
    Interruption("engine", signal.SIGKILL),
    Interruption("engine", signal.SIGTERM),
)


def chain(scene: Scene, chance: random.Random, faults: Sequence[Interruption]) -> None:
    """Interrupt, run again, interrupt, …, then finish and compare.

    It ends early with a run that was faster than the next fault.

    Raises:
        NotSurvived: something went wrong.
    """
    scene.fresh()
    run, allowed = None, frozenset[int]()
    for fault in faults:
        if run is None:
            run = scene.start()
        if not _strike(scene, chance, run, fault):
            break
        allowed |= fault.allowed
        if fault.ends_the_run:
            require_clear(scene.wait(run), allowed)
            run, allowed = None, frozenset()
    if run is not None:
        require_clear(scene.wait(run), allowed)
    scene.finish()


def _strike(scene: Scene, chance: random.Random, run: Command, fault: Interruption) -> bool:
    """Send the signal at a random moment; False where the run ended, or had no such process."""
    role = "driver" if fault.victim == "terminal" else fault.victim
    moment = await_moment(scene, chance, run)
    while run.running:
        try:
            if victims := run.victims(role):
                victim = chance.choice(victims)
                scene.inject(fault.name, pid=victim.pid, moment=moment)
                if fault.victim == "terminal":
                    run.interrupt()
                else:
                    victim.send_signal(fault.number)
                return True
        except (psutil.NoSuchProcess, ProcessLookupError):
            pass
        time.sleep(POLL)
    return False


def await_moment(scene: Scene, chance: random.Random, run: Command) -> str:
    """Wait until some moment of a run, or its end: at random, or just after something shows."""
    if chance.random() < 0.4:
        until = time.monotonic() + chance.uniform(0.3, scene.seconds)
        moment = f"after {until - time.monotonic():.2f} s"
        while run.running and time.monotonic() < until:
            time.sleep(POLL)
        return moment
    name, pattern = chance.choice(list(EVENTS.items()))
    times, later = chance.randint(1, 3), chance.choice([0.0, chance.uniform(0, 0.3)])
    seen = _seen(scene.home, pattern)
    while run.running and times:
        time.sleep(POLL)
        now = _seen(scene.home, pattern)
        times -= bool(now - seen)
        seen = now
    time.sleep(later)
    return f"{later:.2f} s after: {name}"


def _seen(home: Path, pattern: str) -> set[tuple[str, int, int]]:
    found = set()
    for path in home.glob(pattern):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue  # it was renamed since
        found.add((str(path), state.st_size, state.st_mtime_ns))
    return found

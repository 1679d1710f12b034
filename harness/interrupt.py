"""Ctrl-C, and the signals by which systems ask a program to end: all of them stop a run cleanly."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = {
    # a job in the background ignores Ctrl-C, and one under nohup the end of its terminal; they go
    # on doing so
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
"""What stops a run, with the handler that each has unless somebody wants it otherwise."""


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to stop."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def remembered_interrupt() -> Iterator[threading.Event]:
    """An event that SIGNALS set, besides raising Interrupted.

    Python drops an exception that is raised in a weakref callback or a destructor, and torch has
    many of them: an interrupt that hits one would be lost, but for a traceback on the screen.
    """
    asked = threading.Event()
    report = sys.unraisablehook

    def ask(number: int, _: Any) -> None:
        asked.set()
        raise Interrupted(number)

    def report_others(dropped: Any) -> None:
        if dropped.exc_type is not Interrupted:
            report(dropped)

    handled = [number for number, usual in SIGNALS.items() if signal.getsignal(number) == usual]
    sys.unraisablehook = report_others
    for number in handled:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number in handled:
            signal.signal(number, SIGNALS[number])
        sys.unraisablehook = report


@contextmanager
def told_to_go_on() -> Iterator[None]:
    """Have a command that is interrupted say what to do, and exit as the signal would have it."""
    try:
        yield
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        print("harness: interrupted; run the same command again to go on", file=sys.stderr)
        # what shells say of a program that a signal ended
        sys.exit(128 + number)

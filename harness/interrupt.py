"""Ctrl-C, and the signals by which systems ask a program to end: all of them stop a run cleanly."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = {
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


class Stop:
    """Whether a signal asked for the end."""

    number: int | None = None

    def check(self) -> None:
        """Raise Interrupted if one did."""
        if self.number is not None:
            raise Interrupted(self.number)


@contextmanager
def heeded_signals() -> Iterator[Stop]:
    """Until the block ends, SIGNALS raise nothing, but are there to be checked.

    An exception at any moment would break a commit in two (DuckDB looks for signals, too), or get
    lost in a destructor.
    """
    stop = Stop()

    def ask(number: int, _: Any) -> None:
        stop.number = number

    with _handled(ask):
        yield stop


@contextmanager
def raised_signals() -> Iterator[None]:
    """Until the block ends, SIGNALS raise Interrupted: what is half done is removed on the way."""

    with _handled(_raise):
        yield


def _raise(number: int, _: Any) -> None:
    raise Interrupted(number)


@contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    # a job in the background ignores Ctrl-C, and goes on doing so
    found = {number: signal.getsignal(number) for number in SIGNALS}
    before = {n: found[n] for n, usual in SIGNALS.items() if found[n] in (usual, _raise)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def told_to_go_on() -> Iterator[None]:
    """Have a command that is interrupted say what to do, and exit as the signal would have it.

    SIGNALS raise Interrupted until the block ends, but where they are only heeded.
    """
    try:
        with raised_signals():
            yield
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        print("harness: interrupted; run the same command again to go on", file=sys.stderr)
        # what shells say of a program that a signal ended
        sys.exit(128 + number)

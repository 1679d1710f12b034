"""What went wrong with one piece of work, in a form that another process can be told."""

import errno
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from maec.errors import Damaged, InputError, NoSpace

T = TypeVar("T")

PAUSES = (2.0, 10.0, 60.0)
"""Seconds in which a cluster finds out that it has lost a machine, and perhaps gets another."""

_LACKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM)


class Failed(Exception):
    """A step or a cell failed: why, in one line, and whether it would fail again as it is.

    What is not ``lasting`` is the machine's fault: a full disk, too little memory, no network, a
    damaged file.
    """

    def __init__(self, why: str, lasting: bool = True) -> None:
        super().__init__(why, lasting)  # what it is pickled by
        self.why = why
        self.lasting = lasting

    def __str__(self) -> str:
        return self.why


class Died(Failed):
    """The process that was at work ended before it had an answer."""


class Lost(Died):
    """It ended with the machine that it was on, for which the work is not to blame."""


def tried_again(attempt: Callable[[], T], what: str) -> T:
    """What ``attempt`` returns; if it died that may have been chance, and it is made once more.

    What is lost with its machine is made again after each of the PAUSES.

    Raises:
        Died: it died twice, or was lost once more.
        Failed: as ``attempt``.
    """
    deaths, pauses = 0, iter(PAUSES)
    while True:
        try:
            return attempt()
        except Lost as error:
            if (pause := next(pauses, None)) is None:
                raise Lost(f"{len(PAUSES) + 1} times, {what} {error}", lasting=False) from None
            time.sleep(pause)
        except Died as error:
            deaths += 1
            if deaths == 2:
                raise Died(f"twice, {what} {error}", error.lasting) from None


def failed(error: BaseException) -> Failed:
    """What ``error`` means for the work that raised it."""
    if isinstance(error, Failed):
        return error
    why = " ".join(str(error).split())
    if not isinstance(error, InputError):
        why = ": ".join(filter(None, (type(error).__name__, why)))
        frames = traceback.extract_tb(error.__traceback__)
        why += "".join(f" ({Path(f.filename).name}, line {f.lineno})" for f in frames[-1:])
    return Failed(why, lasting=not (_of_machine(error) or _of_machine(error.__cause__)))


def _of_machine(error: BaseException | None) -> bool:
    """Whether the machine is to blame, by the error's type, or by the system's words in it.

    Libraries in Rust and C++ have errors of their own for what the system told them.
    """
    return (
        isinstance(error, OSError | MemoryError | NoSpace | Damaged)
        # torch is not imported to ask for it
        or type(error).__name__ == "OutOfMemoryError"
        or any(os.strerror(number) in str(error) for number in _LACKS)
    )


def needs(label: str) -> str:
    """Why a step fails that needs the failed one of that label."""
    return f"needs a failed step: {label}"

"""Mistakes the user can mend, told apart from faults of the program."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """A mistake in what the user gave.

    Its message is one line that names the file and the key, what was found, what is allowed and
    what to do.  The command line prints it without a traceback and exits with code 2.
    """


class NoSpace(InputError):
    """A disk has too little room for what was asked for; when there is more, it can be done."""


class Damaged(InputError):
    """Something made here is no longer what was written: no verdict on the work that needed it.

    Its message says what to do, after which the same work can be done.
    """


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The clause "; did you mean 'x'?" for the allowed word most like `word`, or ""."""
    matches = difflib.get_close_matches(str(word), list(allowed), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""

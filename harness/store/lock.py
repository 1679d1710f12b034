"""One process writes in a MAEC_HOME at a time, and says who it is."""

import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from harness.home import home, store_path
from maec.errors import InputError

NAME = "writer.lock"


@contextmanager
def alone() -> Iterator[None]:
    """Be the one process that writes in MAEC_HOME until the block ends.

    However a process ends, the system takes its lock away: there are no stale ones.

    Raises:
        InputError: another process writes, and which; or nothing can be written there.
    """
    path = home() / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}; name another folder with MAEC_HOME"
        ) from None
    with file:
        try:
            # not flock: a child that lives on after this process must not keep the lock
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise InputError(
                f"{store_path()}: another run writes to this store{_who(file)}; wait for it, or "
                "name another MAEC_HOME"
            ) from None
        file.truncate(0)
        json.dump(_me(), file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _me() -> dict[str, object]:
    program, *arguments = sys.argv
    return {
        "command": shlex.join([Path(program).name, *arguments]),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }


def _who(file: TextIO) -> str:
    file.seek(0)
    try:
        writer = json.load(file)
    except ValueError:
        return ""  # it has the lock and is about to say who it is
    return ": `{command}`, process {pid} on {host}, since {since}".format(**writer)

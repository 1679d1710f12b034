"""What a run is doing at this moment, as a small file that a page can read: MAEC_HOME/live.json.

It is a view, like the bars on the terminal: the run never reads it, and what is in no store is not
done, whatever stands here.
"""

import json
import os
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

NAME = "live.json"
INTERVAL = 1.0
"""Seconds between two writes, at least; only the end is written at once."""

LINES = 20
"""How many of the lines that were said last are kept."""


class LiveStatus:
    """The state of one run, written as it changes. ``steps`` are in the unit of their work."""

    def __init__(self, home: Path, matrix: str, run_id: str) -> None:
        self._path = home / NAME
        self._run = {
            "matrix": matrix,
            "run_id": run_id,
            "started": time.time(),
            "pid": os.getpid(),
            # a pid comes back one day, with another start
            "process_started": psutil.Process().create_time(),
        }
        self._began = time.monotonic()
        self._due = 0.0
        self._changed = True
        self._done = {"steps": 0.0, "cells": 0.0}
        self._total = {"steps": 0.0, "cells": 0.0}
        self._working: dict[str, dict[str, Any]] = {}
        self._said: deque[dict[str, Any]] = deque(maxlen=LINES)

    def expect(self, steps: float, cells: int) -> None:
        """How much there is to do, in all."""
        self._total = {"steps": steps, "cells": cells}
        self._change()

    def advance(self, *, steps: float = 0.0, cells: int = 0) -> None:
        """So much more of it is done."""
        self._done["steps"] += steps
        self._done["cells"] += cells
        self._change()

    def working(self, key: str, label: str, done: int, total: int, unit: str = "step") -> None:
        """The step ``key`` is at ``done`` of ``total``: optimiser steps, or bytes ("byte")."""
        self._working[key] = {"label": label, "done": done, "total": total, "unit": unit}
        self._change()

    def ended(self, key: str) -> None:
        """The step ``key`` is in work no more."""
        self._working.pop(key, None)
        self._change()

    def say(self, kind: str, text: str) -> None:
        """Something was ``made``, ``scored`` or ``failed``, and what."""
        self._said.append({"at": time.time(), "kind": kind, "text": text})
        self._change()

    def flush(self) -> None:
        """Write what changed, unless that was done less than a second ago."""
        if self._changed and time.monotonic() >= self._due:
            self._write("running")

    def end(self, state: str) -> None:
        """The run ended: ``done``, ``failed`` or ``interrupted``."""
        self._working.clear()
        self._write(state)

    def _change(self) -> None:
        self._changed = True
        self.flush()

    def _write(self, state: str) -> None:
        parts = {
            name: {"done": self._done[name], "total": self._total[name]} for name in self._total
        }
        elapsed = time.monotonic() - self._began
        running = state == "running"
        status = {
            **self._run,
            "state": state,
            "written": time.time(),
            "seconds": round(elapsed, 1),
            "seconds_left": seconds_left(elapsed, list(parts.values())) if running else None,
            **parts,
            "working": list(self._working.values()),
            "said": list(self._said),
        }
        scratch = self._path.with_name(f"{NAME}.{os.getpid()}.partial")
        # a view that cannot be written must not end the run
        with suppress(OSError):
            scratch.write_text(json.dumps(status, ensure_ascii=False), encoding="utf-8")
            os.replace(scratch, self._path)
        self._changed = False
        self._due = time.monotonic() + INTERVAL


def seconds_left(elapsed: float, parts: Sequence[dict[str, float]]) -> float | None:
    """Seconds until the last of ``parts`` ends, if each goes on as fast as it went on average.

    None until something is done. Parts of which nothing is done have no say.
    """
    estimates = [
        elapsed * (part["total"] - part["done"]) / part["done"] for part in parts if part["done"]
    ]
    return round(max(estimates), 1) if estimates else None


def read(home: Path) -> dict[str, Any] | None:
    """What the run in ``home`` is doing, or how the last one ended; None before the first.

    Keys: matrix, run_id, state, started and written (seconds since 1970), seconds (since it
    started, when written), seconds_left (None where unknown), steps and cells (each ``done`` and
    ``total``; steps by their work, in thousands of tokens), working (each ``label``, ``done``,
    ``total``, ``unit``: "step" of an optimiser or "byte"), said (the last lines, oldest first:
    ``at``, ``kind`` made, scored or failed, ``text``), pid, process_started.

    ``state`` is running, done, failed, interrupted, or crashed: its process is gone, and it did not
    say goodbye. The file may hold what no longer happens for as long as a model is scored.
    """
    try:
        status = json.loads((home / NAME).read_text(encoding="utf-8"))
        if status["state"] == "running" and not _alive(status["pid"], status["process_started"]):
            status["state"] = "crashed"
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there is none, or it is none of ours
    return status


def _alive(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        # the system counts in ticks of about a hundredth of a second
        same = abs(process.create_time() - started) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True

"""What a process somewhere in a cluster is told of the step that it makes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness import remote
from harness.steps import Step
from harness.workers import prepare

EVERY = 1.0
"""Seconds between two reports of a step that is in work."""


@dataclass
class Work:
    """A step to make with so many ``threads``.

    ``given`` says where its inputs are, and ``artifacts`` where what is made goes, unless nodes
    share MAEC_HOME. ``board`` is an actor that is told how far the step is.
    """

    step: Step
    given: Sequence[remote.Pointer]
    threads: int
    artifacts: str | None
    board: Any
    _told: float = 0.0

    def prepare(self) -> None:
        """Let this process make the step."""
        prepare(self.threads)
        remote.take(self.step.inputs.values(), self.given)

    def report(self, done: int, total: int) -> None:
        """Say how far the step is, not more often than anybody looks."""
        if time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            self.board.put.remote(self.step.key, done, total)

    def done(self, manifest: dict[str, Any]) -> tuple[dict[str, Any], remote.Pointer | None]:
        """The manifest of what was made, and what points to it where artifacts go."""
        return manifest, remote.publish(self.step, self.artifacts) if self.artifacts else None

"""How many threads a pass may use within the memory it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from maec import size
from maec.checkpoint import Weights
from maec.chunks import cores
from maec.errors import InputError
from maec.size import as_bytes
from maec.survey import Models

MEMORY = as_bytes(size.MEMORY)
"""The same in bytes."""

LIBRARIES = 300 * 2**20
"""Bytes that Python and the libraries take before any work."""


class Reading(Protocol):
    """Something that reads models."""

    @property
    def models(self) -> Sequence[Weights]:
        """What it reads, beside the base and the languages."""
        ...


def workers(memory: int, models: Models, parts: Sequence[Reading]) -> int:
    """Threads, at most one a core, whose chunks fit into ``memory`` bytes together.

    Raises:
        InputError: not even one does.
    """
    each = _each(models, parts)
    threads = min(cores(), (memory - LIBRARIES) // max(each, 1))
    if threads < 1:
        needed = -(-(LIBRARIES + each) // 2**20)
        raise InputError(
            f"memory: {memory // 2**20} MB; give at least {needed} MB for these models"
        )
    return int(threads)


def at_work(threads: int, models: Models, parts: Sequence[Reading]) -> int:
    """About how many bytes of memory so many threads take."""
    return LIBRARIES + threads * _each(models, parts)


def _each(models: Models, parts: Sequence[Reading]) -> int:
    read = 1 + len(models.languages) + sum(len(part.models) for part in parts)
    largest = max((chunk.end - chunk.begin for chunk in models.chunks()), default=0)
    # four bytes an entry for each model and the result; a thread's next and last chunk wait
    return 3 * 4 * (read + 1) * largest

"""How many threads a pass may use within the memory it is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Protocol

from rich.filesize import decimal

from maec import size
from maec.checkpoint import Checkpoint, Weights
from maec.chunks import Shapes, cores
from maec.compatible import Fitted
from maec.errors import InputError
from maec.size import as_bytes
from maec.survey import Models, held
from maec.tensors import BYTES, is_float

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


def workers(memory: int, models: Models, parts: Sequence[Reading], held: int = 0) -> int:
    """Threads, at most one a core, whose chunks fit into ``memory`` bytes, of which ``held`` go.

    Raises:
        InputError: not even one does.
    """
    each = _each(models, parts)
    threads = min(cores(), (memory - LIBRARIES - held) // max(each, 1))
    if threads < 1:
        needed = -(-(LIBRARIES + held + each) // 2**20)
        raise InputError(f"memory: {decimal(memory)}; give at least {needed} MB for these models")
    return int(threads)


def at_work(threads: int, models: Models, parts: Sequence[Reading], held: int = 0) -> int:
    """About how many bytes of memory so many threads take, beside ``held``."""
    return LIBRARIES + held + threads * _each(models, parts)


def held_by(sought: Iterable[tuple[float, Iterable[str]]], shapes: Shapes) -> int:
    """Bytes that wait for thresholds; of each ability sought, k1 and the stored dtypes."""
    units = sum(prod(shape) for shape in shapes.values())
    wide = [k1 for k1, dtypes in sought if any(is_float(d) and BYTES[d] > 2 for d in dtypes)]
    return sum(held(units, k1) for k1 in wide)


def dtypes_of(base: Checkpoint, model: Weights) -> set[str]:
    """The stored dtypes that a difference is made of; that of an adapter is as fine as float32."""
    if not isinstance(model, Fitted) or not model.is_as_stored:
        return {"F32"}
    return {info.dtype for part in (base, model.stored) for info in part.tensors.values()}


def _each(models: Models, parts: Sequence[Reading]) -> int:
    read = 1 + len(models.languages) + sum(len(part.models) for part in parts)
    largest = max((chunk.end - chunk.begin for chunk in models.chunks()), default=0)
    # four bytes an entry for each model and the result; a thread's next and last chunk wait
    return 3 * 4 * (read + 1) * largest

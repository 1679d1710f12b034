"""Large tensors in chunks, on all cores, with results in an order that never changes.

Whatever the number of threads, chunks are the same and come back in the same order, so that sums
over them are the same to the last bit.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import TypeVar

import torch

from maec.progress import Track

Shapes = Mapping[str, tuple[int, ...]]
Job = TypeVar("Job")
Result = TypeVar("Result")

ENTRIES = 2**20
"""Entries of a chunk: large enough that Python's share of the time is small."""


@dataclass(frozen=True)
class Chunk:
    """Entries ``begin`` to ``end``, in row-major order, of the tensor called ``name``."""

    name: str
    begin: int
    end: int


def chunks(shapes: Shapes, entries: int | None = None) -> Iterator[Chunk]:
    """All entries of all tensors, in the order of ``shapes``; an empty tensor has no chunk."""
    entries = entries or ENTRIES
    for name, shape in shapes.items():
        size = prod(shape)
        for begin in range(0, size, entries):
            yield Chunk(name, begin, min(begin + entries, size))


def row_chunks(shapes: Shapes, entries: int | None = None) -> Iterator[Chunk]:
    """As :func:`chunks`, of whole rows; a tensor with fewer than two dimensions is one row."""
    entries = entries or ENTRIES
    for name, shape in shapes.items():
        size = prod(shape)
        width = size // shape[0] if len(shape) > 1 and size else size
        yield from (
            Chunk(name, chunk.begin, chunk.end)
            for chunk in chunks({name: shape}, max(entries // max(width, 1), 1) * max(width, 1))
        )


def in_order(
    work: Callable[[Job], Result], jobs: Iterable[Job], threads: int
) -> Iterator[tuple[Job, Result]]:
    """Each job with its result, in the order of ``jobs``, worked on by ``threads`` threads.

    Few jobs are begun before their turn, so that results do not pile up.  The first exception is
    raised where its job's turn comes.
    """
    waiting: deque[tuple[Job, Future[Result]]] = deque()
    # each thread works alone on its chunk: torch's own threads would get in each other's way
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for job in jobs:
                waiting.append((job, pool.submit(work, job)))
                if len(waiting) > 2 * threads:
                    first, done = waiting.popleft()
                    yield first, done.result()
            while waiting:
                first, done = waiting.popleft()
                yield first, done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def tracked(
    results: Iterator[tuple[Chunk, Result]], names: Iterable[str], track: Track, work: str
) -> Iterator[tuple[Chunk, Result]]:
    """``results``, in the order of ``names``, while ``track`` shows which tensor they are of."""
    by_tensor = groupby(results, key=lambda result: result[0].name)
    current = next(by_tensor, None)
    for name in track(list(names), work):
        if current is not None and current[0] == name:
            yield from current[1]
            current = next(by_tensor, None)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""What several models hold in the same place: read in chunks, computed with in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from maec.checkpoint import Weights
from maec.chunks import Chunk

PIECE = 2**20
"""Entries that a CPU works on at a time, so that what it leaves stays in the cache."""


class Window:
    """A chunk of a base and of models in its shapes, in their stored dtypes."""

    def __init__(
        self, chunk: Chunk, base: Weights, models: Iterable[Weights], device: torch.device
    ) -> None:
        self.chunk = chunk
        self._base = base
        self._read = {
            id(model): model.read_entries(chunk.name, chunk.begin, chunk.end)
            for model in {id(model): model for model in (base, *models)}.values()
        }
        self._on_device = {key: entries.to(device) for key, entries in self._read.items()}
        self._piece = PIECE if device.type == "cpu" else chunk.end - chunk.begin

    def holds(self, model: Weights) -> bool:
        """Whether ``model`` was read."""
        return id(model) in self._read

    def read(self, model: Weights) -> Tensor:
        """The entries of ``model`` as they were read: flat, in their stored dtype, on the CPU."""
        return self._read[id(model)]

    def of(self, model: Weights) -> Tensor:
        """The entries of ``model``, on the device."""
        return self._on_device[id(model)]

    def pieces(self, width: int = 1) -> Iterator[Piece]:
        """The chunk in pieces of whole rows of ``width`` entries."""
        size = max(self._piece // width, 1) * width
        for begin in range(0, self.chunk.end - self.chunk.begin, size):
            yield Piece(self, begin, min(begin + size, self.chunk.end - self.chunk.begin))

    def origin(self, begin: int, end: int) -> Tensor:
        """Θ_o, in its stored dtype, from ``begin`` to ``end`` of the chunk."""
        return self.of(self._base)[begin:end]


class Piece:
    """Entries ``begin`` to ``end`` of a window; ``origin`` is Θ_o there, in its stored dtype."""

    def __init__(self, window: Window, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self.name = window.chunk.name
        self.place = window.chunk.begin + begin
        self.origin = window.origin(begin, end)
        self._window = window

    def of(self, model: Weights) -> Tensor:
        """The entries of ``model``: flat, in their stored dtype."""
        return self._window.of(model)[self.begin : self.end]

"""What several models hold in the same place: read in chunks, computed with in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from maec.checkpoint import Weights
from maec.chunks import Chunk

PIECE = 2**17
"""Entries that arithmetic works on at a time, so that what it leaves stays in the cache."""


class Window:
    """A chunk of a base and of models in its shapes, in their stored dtypes."""

    def __init__(self, chunk: Chunk, base: Weights, models: Iterable[Weights]) -> None:
        self.chunk = chunk
        self._base = base
        self._models = {id(model): model for model in (base, *models)}
        self._raw = {
            key: model.read_entries(chunk.name, chunk.begin, chunk.end)
            for key, model in self._models.items()
        }

    def of(self, model: Weights) -> Tensor:
        """The entries of ``model``: flat, in their stored dtype."""
        return self._raw[id(model)]

    def pieces(self, width: int = 1) -> Iterator[Piece]:
        """The chunk in pieces of whole rows of ``width`` entries."""
        size = max(PIECE // width, 1) * width
        for begin in range(0, self.chunk.end - self.chunk.begin, size):
            yield Piece(self, begin, min(begin + size, self.chunk.end - self.chunk.begin))

    def origin(self, begin: int, end: int) -> Tensor:
        """Θ_o in float32, from ``begin`` to ``end`` of the chunk."""
        return self.of(self._base)[begin:end].float()


class Piece:
    """Entries ``begin`` to ``end`` of a window; ``origin`` is Θ_o there, float32."""

    def __init__(self, window: Window, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self.name = window.chunk.name
        self.place = window.chunk.begin + begin
        self.origin = window.origin(begin, end)
        self._window = window

    def of(self, model: Weights) -> Tensor:
        """The entries of ``model``: flat, in their stored dtype."""
        return self._window.of(model)[self.begin : self.end]

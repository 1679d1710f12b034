"""Where the ability weights R(A) of a merge come from, piece by piece.

A model whose key neurons were found, a model with a mask on disk, and an ability pack: all three
are asked in the same way, and give the same entries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from maec.checkpoint import Weights
from maec.chunks import Chunk
from maec.combine import Sparse, ability_weights
from maec.neurons import Granularity, PackedMask, width_of
from maec.window import Piece

Entries = Callable[[Piece], Sparse]


class AbilityWeights(Protocol):
    """R(A) of one ability."""

    @property
    def models(self) -> Sequence[Weights]:
        """The models that a window must hold."""
        ...

    def over(self, chunk: Chunk) -> Entries:
        """The entries of R(A) inside N_A for each piece of ``chunk``."""
        ...


@dataclass(frozen=True)
class Trained:
    """An ability model, its pivot model if there is one, α and β: R(A) but for N_A."""

    model: Weights
    pivot: Weights | None
    alpha: float
    beta: float

    @property
    def models(self) -> Sequence[Weights]:
        """The models that a window must hold."""
        return [self.model] if self.pivot is None else [self.model, self.pivot]

    def change(self, piece: Piece) -> Tensor:
        """Θ_A,L0 − Θ_o, float32."""
        return self.model_entries(piece).sub_(piece.origin)

    def model_entries(self, piece: Piece) -> Tensor:
        """Θ_A,L0, float32, in memory of its own."""
        return piece.of(self.model).to(torch.float32, copy=True)

    def at(self, piece: Piece, places: np.ndarray) -> Sparse:
        """R(A) at ``places`` of a piece, ascending."""
        index = torch.from_numpy(places)
        pivot = None if self.pivot is None else piece.of(self.pivot)[index]
        trained = piece.of(self.model)[index]
        values = ability_weights(piece.origin[index], trained, pivot, self.alpha, self.beta)
        return Sparse(index, values)


@dataclass(frozen=True)
class Masked:
    """An ability model with N_A on disk."""

    trained: Trained
    mask: PackedMask

    @property
    def models(self) -> Sequence[Weights]:
        """The models that a window must hold."""
        return self.trained.models

    def over(self, chunk: Chunk) -> Entries:
        """The entries of R(A) inside N_A for each piece of ``chunk``."""
        inside = self.mask.read_entries(chunk.name, chunk.begin, chunk.end)

        def entries(piece: Piece) -> Sparse:
            return self.trained.at(piece, np.flatnonzero(inside[piece.begin : piece.end]))

        return entries


@dataclass(frozen=True)
class Found:
    """N_A: units whose importance has bits above ``threshold``, and of those at it the ones before
    the unit ``ends[name]`` of their tensor.  A unit is an entry, or a row of ``widths[name]``.
    """

    threshold: int
    ends: Mapping[str, int]
    widths: Mapping[str, int]

    def inside(self, name: str, place: int, change: Tensor) -> np.ndarray:
        """Which entries of a piece of whole units are key neurons: places in it, ascending, int64.

        ``change`` is Θ_A,L0 − Θ_o there, float32; ``place`` is where in its tensor it begins.
        """
        width = self.widths[name]
        bits = importance(change, width)
        # all that lie at the threshold or above, then without those that come too late
        units = np.flatnonzero(bits >= self.threshold)
        first_outside = self.ends[name] - place // width
        if first_outside < len(bits):
            late = units[np.searchsorted(units, first_outside) :]
            kept = late[bits[late] > self.threshold]
            units = np.concatenate([units[: len(units) - len(late)], kept])
        if width == 1:
            return units
        return (units[:, None] * width + np.arange(width)).ravel()


@dataclass(frozen=True)
class Located:
    """An ability model with the N_A that was found in it."""

    trained: Trained
    found: Found

    @property
    def models(self) -> Sequence[Weights]:
        """The models that a window must hold."""
        return self.trained.models

    def over(self, chunk: Chunk) -> Entries:
        """The entries of R(A) inside N_A for each piece of ``chunk``."""

        def entries(piece: Piece) -> Sparse:
            inside = self.found.inside(piece.name, piece.place, self.trained.change(piece))
            return self.trained.at(piece, inside)

        return entries


def importance(change: Tensor, width: int) -> np.ndarray:
    """The bits (int32) of the importance |change| of each entry, or its mean over each row.

    Bits of numbers that are not negative are in the order of the numbers.  Writes to ``change``.
    """
    scores = change.abs_()
    if width > 1:
        # summed in float64: a float32 mean would depend on how a machine splits the sum
        scores = scores.view(-1, width).mean(dim=1, dtype=torch.float64).float()
    return scores.view(torch.int32).numpy()


def widths(shapes: Mapping[str, tuple[int, ...]], granularity: Granularity) -> dict[str, int]:
    """Entries of a unit of each tensor: 1, or those of a row."""
    return {name: width_of(shape, granularity) for name, shape in shapes.items()}

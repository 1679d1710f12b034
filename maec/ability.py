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

from maec.arithmetic import Sparse, above, spread
from maec.checkpoint import Weights
from maec.chunks import Chunk
from maec.combine import ability_weights
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

    def above(self, piece: Piece, begin: int, width: int) -> tuple[Tensor, Tensor]:
        """Units of a piece whose importance |Θ_A,L0 − Θ_o| has bits of at least ``begin``.

        Their places (int64, ascending) and those bits (int32); see ``arithmetic.above``.
        """
        return above(piece.origin, piece.of(self.model), begin, width)

    def at(self, piece: Piece, places: Tensor) -> Sparse:
        """R(A) at ``places`` of a piece (int64, ascending)."""
        pivot = None if self.pivot is None else piece.of(self.pivot)
        trained = piece.of(self.model)
        values = ability_weights(piece.origin, trained, pivot, self.alpha, self.beta, places)
        return Sparse(places, values)


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
            places = torch.from_numpy(np.flatnonzero(inside[piece.begin : piece.end]))
            return self.trained.at(piece, places.to(piece.origin.device))

        return entries


@dataclass(frozen=True)
class Found:
    """N_A: units whose importance has bits above ``threshold``, and of those at it the ones before
    the unit ``ends[name]`` of their tensor.  A unit is an entry, or a row of ``widths[name]``.
    """

    threshold: int
    ends: Mapping[str, int]
    widths: Mapping[str, int]

    def inside(self, piece: Piece, trained: Trained) -> Tensor:
        """Places of the key neurons in a piece of whole units: ascending, int64."""
        width = self.widths[piece.name]
        # all that lie at the threshold or above, then without those that come too late
        units, bits = trained.above(piece, self.threshold, width)
        first_outside = self.ends[piece.name] - piece.place // width
        if first_outside < (piece.end - piece.begin) // width:
            units = units[(units < first_outside) | (bits > self.threshold)]
        return spread(units, width)


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
            return self.trained.at(piece, self.found.inside(piece, self.trained))

        return entries


def widths(shapes: Mapping[str, tuple[int, ...]], granularity: Granularity) -> dict[str, int]:
    """Entries of a unit of each tensor: 1, or those of a row."""
    return {name: width_of(shape, granularity) for name, shape in shapes.items()}

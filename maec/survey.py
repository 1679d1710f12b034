"""One pass over what a merge is made of: the threshold of N_A, and how similar R(A) is to R_lang.

Similarity needs R(A), R(A) needs N_A, and N_A needs a threshold over the whole model, which would
be three passes.  They become one because a sample says roughly where the threshold lies
(:mod:`maec.ranking`): for the few entries near it, what they would add to each sum is kept by their
importance until the threshold is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from maec.chunks import Chunk, Shapes, in_order, row_chunks
from maec.ranking import Bracket, Tally, bracket, tally, threshold

Granularity = Literal["parameter", "row"]

PLACES = 1024
"""Places that a sample is taken from, and entries taken at each."""

PIECE = 2**17
"""Entries that arithmetic works on at a time, so that what it leaves stays in the cache."""


class Entries(Protocol):
    """Something with tensors of which parts can be read."""

    def read_entries(self, name: str, begin: int, end: int) -> Tensor:
        """Entries ``begin`` to ``end`` of a tensor, row-major, flat, in their stored dtype."""
        ...


Languages = Sequence[tuple[Entries, float]]
"""The language models Θ_Lj with their weights μ_j."""


@dataclass(frozen=True)
class Trained:
    """An ability model: R(A) = α·(Θ_A − Θ_o) − β·(Θ_L0 − Θ_o) inside N_A."""

    model: Entries
    pivot: Entries | None
    alpha: float
    beta: float


@dataclass(frozen=True)
class Share:
    """N_A as the top ``k1`` of |Θ_A − Θ_o|, by entry or by row."""

    k1: float
    granularity: Granularity


@dataclass(frozen=True)
class Found:
    """N_A: the units whose importance has bits above ``bits``, and of those at ``bits`` the ones
    before the unit ``ends[name]`` of their tensor.  A unit is an entry, or a row of ``widths[name]``
    entries.
    """

    bits: int
    ends: Mapping[str, int]
    widths: Mapping[str, int]
    granularity: Granularity

    def inside(self, name: str, begin: int, change: Tensor) -> np.ndarray:
        """Which entries of a piece of whole units, that begins at ``begin``, are key neurons.

        ``change`` is Θ_A − Θ_o there, float32.  Returns places in the piece, ascending, int64.
        """
        width = self.widths[name]
        bits = importance(change, width, self.granularity)
        chosen = bits > self.bits
        ties = self.ends[name] - begin // width
        if ties > 0:
            chosen[:ties] |= bits[:ties] == self.bits
        if self.granularity == "row":
            chosen = np.repeat(chosen, width)
        return np.flatnonzero(chosen)


def importance(change: Tensor, width: int, granularity: Granularity) -> np.ndarray:
    """The bits (int32) of |change| of each entry, or of its mean over each row of ``width``."""
    scores = change.abs()
    if granularity == "row":
        # summed in float64: a float32 mean would depend on how a machine splits the sum
        scores = scores.view(-1, width).mean(dim=1, dtype=torch.float64).float()
    return scores.view(torch.int32).numpy()


def ability_change(origin: Tensor, trained: Tensor, pivot: Tensor | None, part: Trained) -> Tensor:
    """α·(Θ_A − Θ_o) − β·(Θ_L0 − Θ_o) of a piece, float32, key neurons or not."""
    change = torch.zeros(origin.shape).add_(trained.float() - origin, alpha=part.alpha)
    if pivot is not None:
        change.sub_(pivot.float() - origin, alpha=part.beta)
    return change


def language_weights(origin: Tensor, trained: Sequence[tuple[Tensor, float]]) -> Tensor:
    """R_lang of a piece, float32: the sum runs in the order given."""
    total = torch.zeros(origin.shape)
    for tensor, mu in trained:
        total.add_(tensor.float() - origin, alpha=mu)
    return total


def cosine(product: float, square_a: float, square_b: float) -> float:
    """The similarity that sums of products and squares amount to, to 12 decimals; 0 by definition
    *(choice)* where either is all zero."""
    if square_a == 0 or square_b == 0:
        return 0.0
    found = product / (math.sqrt(square_a) * math.sqrt(square_b))
    return round(max(-1.0, min(1.0, found)), 12)


@dataclass(frozen=True)
class Surveyed:
    """An ability after the pass: N_A, and by tensor its size and its similarity to R_lang."""

    found: Found
    key_neurons: dict[str, int]
    similarity: dict[str, float]


def survey(
    base: Entries,
    shapes: Shapes,
    languages: Languages,
    abilities: Sequence[tuple[Trained, Share]],
    threads: int,
) -> list[Surveyed]:
    """Find N_A of every ability, and measure every tensor of it, in one pass over all models.

    ``shapes`` are those of the floating-point tensors, sorted by name.  Where a sample was not
    fair there is another pass, which costs time and nothing else.

    Raises:
        InputError: a NaN in what training changed, naming the tensor.
    """
    brackets = [_sampled(base, shapes, part, share) for part, share in abilities]
    wanted = [_wanted(shapes, share) for _, share in abilities]
    while True:
        squares, tallies = _pass(base, shapes, languages, abilities, brackets, threads)
        answers = [
            threshold(tally.values(), count) if count else (_ABOVE_ALL, 0)
            for tally, count in zip(tallies, wanted, strict=True)
        ]
        missed = [answer for answer in answers if isinstance(answer, bool)]
        if not missed:
            break
        brackets = [
            where.wider(up=answer) if isinstance(answer, bool) else where
            for where, answer in zip(brackets, answers, strict=True)
        ]
    return [
        _settled(base, shapes, part, share, tally, squares, answer)
        for (part, share), tally, answer in zip(abilities, tallies, answers, strict=True)
    ]


_ABOVE_ALL = (1 << 31) - 1
"""Bits that no number has: with them as threshold nothing is a key neuron."""


def _pass(
    base: Entries,
    shapes: Shapes,
    languages: Languages,
    abilities: Sequence[tuple[Trained, Share]],
    brackets: Sequence[Bracket],
    threads: int,
) -> tuple[dict[str, float], list[dict[str, Tally]]]:
    """Σ l² by tensor, and for each ability the tally of every tensor."""
    squares = dict.fromkeys(shapes, 0.0)
    tallies = [{name: Tally() for name in shapes} for _ in abilities]

    def measure(chunk: Chunk) -> tuple[float, list[list[Tally]]]:
        origin = base.read_entries(chunk.name, chunk.begin, chunk.end)
        spoken = [(m.read_entries(chunk.name, chunk.begin, chunk.end), mu) for m, mu in languages]
        width = _width(shapes[chunk.name])
        square, found = 0.0, [[] for _ in abilities]
        models = [_read(part, chunk) for part, _ in abilities]
        for piece in _pieces(chunk, width, any(s.granularity == "row" for _, s in abilities)):
            at = origin[piece].float()
            weights = language_weights(at, [(tensor[piece], mu) for tensor, mu in spoken])
            exact = weights.double()
            square += float(exact @ exact)
            for index, ((part, share), (trained, pivot)) in enumerate(
                zip(abilities, models, strict=True)
            ):
                general = None if pivot is None else pivot[piece]
                change = ability_change(at, trained[piece], general, part)
                bits = importance(trained[piece].float() - at, width, share.granularity)
                found[index].append(
                    _tallied(bits, change, exact, width, share.granularity, brackets[index])
                )
        return square, found

    for chunk, (square, found) in in_order(measure, row_chunks(shapes), threads):
        squares[chunk.name] += square
        for of_ability, parts in zip(tallies, found, strict=True):
            for part in parts:
                of_ability[chunk.name].add(part)
    return squares, tallies

"""One pass over all that goes into a merge: what N_A is, and how similar R(A) is to R_lang.

Similarity needs R(A), R(A) needs N_A, and N_A needs a threshold over the whole model, which would
be three passes.  They become one because a sample says roughly where the threshold lies
(:mod:`maec.ranking`): for the few entries near it, what they would add to each sum is kept by their
importance until the threshold is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maec import chunks as chunk_cutting
from maec.ability import AbilityWeights, Found, Located, Trained, widths
from maec.arithmetic import Sparse, above, by_unit, products, spread, square
from maec.checkpoint import HASHED, Weights
from maec.chunks import Chunk, Shapes, chunks, in_order, row_chunks, tracked
from maec.combine import cosine, language_weights
from maec.neurons import Granularity
from maec.progress import Track
from maec.provenance import Sources
from maec.ranking import TALLY_BYTES, Bracket, Tally, bracket, slack, tally, threshold
from maec.window import Piece, Window

PLACES, NEIGHBOURS = 2**12, 64
"""Places that a sample is taken from, at least, and units taken at each."""

MOST_PLACES, UNITS_PER_PLACE = 2**16, 2**17
"""Large models have more places, so that fewer units lie near the threshold."""

NOTHING = (1 << 31) - 1
"""Bits that no number has: with them as threshold nothing is a key neuron."""


@dataclass(frozen=True)
class Sought:
    """An ability whose key neurons are still to be found: the top ``k1`` of |Θ_A,L0 − Θ_o|."""

    trained: Trained
    k1: float

    @property
    def models(self) -> Sequence[Weights]:
        """The models that a window must hold."""
        return self.trained.models


Wanted = Sought | AbilityWeights
Languages = Sequence[tuple[Weights, float]]
"""The language models Θ_Lj with their weights μ_j."""


@dataclass(frozen=True)
class Models:
    """What a pass runs over: a base, languages, and how its tensors are cut.

    ``shapes`` are those of the floating-point tensors, sorted by name.
    """

    base: Weights
    shapes: Shapes
    languages: Languages
    granularity: Granularity
    threads: int
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    @property
    def are_hashed(self) -> bool:
        """Whether chunks are cut where fingerprints are."""
        return self.granularity == "parameter" and chunk_cutting.ENTRIES % HASHED == 0

    def on(self, threads: int) -> Models:
        """The same with so many threads."""
        return replace(self, threads=threads)

    def chunks(self) -> Iterator[Chunk]:
        """All entries in name order; whole rows where rows are key neurons."""
        return row_chunks(self.shapes) if self.granularity == "row" else chunks(self.shapes)

    def window(self, chunk: Chunk, abilities: Sequence[Wanted]) -> Window:
        """What all models hold in ``chunk``."""
        models = [model for model, _ in self.languages]
        models += [m for part in abilities for m in part.models]
        return Window(chunk, self.base, models, self.device)

    def language(self, piece: Piece) -> Tensor:
        """R_lang of a piece, float32."""
        return language_weights(piece.origin, ((piece.of(m), mu) for m, mu in self.languages))


@dataclass(frozen=True)
class Surveyed:
    """An ability after the pass: R(A), and by tensor |N_A| and its similarity to R_lang."""

    weights: AbilityWeights
    key_neurons: dict[str, int]
    similarity: dict[str, float]


def survey(
    models: Models,
    abilities: Sequence[Wanted],
    track: Track,
    sources: Sources,
) -> list[Surveyed]:
    """Find N_A where it is sought, and measure every tensor, in one pass over all models.

    ``sources`` is told of every window once, in order.  Where a sample was not fair there is
    another pass, which costs time and nothing else.

    Raises:
        InputError: a number is not finite.
    """
    brackets = [_sampled(models, part) if isinstance(part, Sought) else None for part in abilities]
    squares, tallies = _pass(models, abilities, brackets, track, sources)
    sources.finish()
    while True:
        answers = [
            _answer(models, part, of_ability)
            for part, of_ability in zip(abilities, tallies, strict=True)
        ]
        if not any(isinstance(answer, bool) for answer in answers):
            break
        brackets = [
            where.wider(up=answer) if where and isinstance(answer, bool) else where
            for where, answer in zip(brackets, answers, strict=True)
        ]
        squares, tallies = _pass(models, abilities, brackets, track)
    return [
        _settled(models, part, of_ability, squares, answer)
        for part, of_ability, answer in zip(abilities, tallies, answers, strict=True)
    ]


def _pass(
    models: Models,
    abilities: Sequence[Wanted],
    brackets: Sequence[Bracket | None],
    track: Track,
    sources: Sources | None = None,
) -> tuple[dict[str, float], list[dict[str, Tally]]]:
    """Σ l² by tensor, and for each ability the tally of every tensor."""
    squares = dict.fromkeys(models.shapes, 0.0)
    tallies = [{name: Tally() for name in models.shapes} for _ in abilities]
    unit = widths(models.shapes, models.granularity)

    def measure(chunk: Chunk) -> tuple[dict[Path, bytes], float, list[Tally]]:
        window = models.window(chunk, abilities)
        digests = sources.digested(window) if sources else {}
        entries = [None if isinstance(p, Sought) else p.over(chunk) for p in abilities]
        found = [Tally() for _ in abilities]
        squared, width = 0.0, unit[chunk.name]
        for piece in window.pieces(width):
            language = models.language(piece) if abilities else torch.zeros(0)
            squared += square(language)
            for index, part in enumerate(abilities):
                if isinstance(part, Sought):
                    where = brackets[index]
                    assert where is not None, "what is sought was sampled"
                    found[index].add(_near(part.trained, piece, language, width, where))
                else:
                    found[index].add(_given(entries[index](piece), language))
        return digests, squared, found

    results = in_order(measure, models.chunks(), models.threads)
    for chunk, (digests, squared, found) in tracked(results, models.shapes, track, "reading"):
        if sources:
            sources.feed(chunk.name, digests)
        squares[chunk.name] += squared
        for of_ability, part in zip(tallies, found, strict=True):
            of_ability[chunk.name].add(part)
            if chunk.end == math.prod(models.shapes[chunk.name]):
                of_ability[chunk.name].settle()
    return squares, tallies


def _near(part: Trained, piece: Piece, language: Tensor, width: int, where: Bracket) -> Tally:
    """The tally of a piece's units inside or above a bracket."""
    units, bits = part.above(piece, where.begin, width)
    weights = part.at(piece, spread(units, width))
    return tally(*by_unit(bits, weights, language, width), where)


def _given(weights: Sparse, language: Tensor) -> Tally:
    """The tally of entries that are key neurons whatever their importance."""
    return Tally(np.array([len(weights.places), *products(weights, language)]))


def _sampled(models: Models, part: Sought) -> Bracket:
    """Where the threshold lies, going by units from places spread evenly over the model."""
    width = widths(models.shapes, models.granularity)
    total = sum(_units(models).values())
    step = max(total // _places(total), 1)
    sample, offset, places = [], 0, 0
    for name, units in _units(models).items():
        begins = range(-offset % step, units, step)
        pieces = [(begin, min(begin + NEIGHBOURS, units, begin + step)) for begin in begins]
        if pieces:
            entries = [(a * width[name], b * width[name]) for a, b in pieces]
            origin, trained = (
                torch.cat([model.read_entries(name, a, b) for a, b in entries])
                for model in (models.base, part.trained.model)
            )
            sample.append(above(origin, trained, 0, width[name])[1].numpy())
        places += len(pieces)
        offset += units
    return bracket(np.concatenate(sample) if sample else np.zeros(0, np.int32), part.k1, places)


def _places(units: int) -> int:
    return max(PLACES, min(units // UNITS_PER_PLACE, MOST_PLACES))


def held(units: int, k1: float) -> int:
    """About how many bytes of tallies wait for the threshold where no two units are equal.

    So it is with float32 models; differences of bfloat16 or float16 numbers are few.
    """
    return round(2 * slack(k1, _places(units)) * units) * TALLY_BYTES


def _units(models: Models) -> dict[str, int]:
    unit = widths(models.shapes, models.granularity)
    return {name: math.prod(shape) // unit[name] for name, shape in models.shapes.items()}


def _answer(models: Models, part: Wanted, tallies: dict[str, Tally]) -> tuple[int, int] | bool:
    """The threshold and how many units at it are wanted; or on which side of a bracket it lies."""
    if not isinstance(part, Sought):
        return NOTHING, 0
    wanted = math.floor(part.k1 * sum(_units(models).values()) + 0.5)
    return threshold(tallies.values(), wanted) if wanted else (NOTHING, 0)


def _settled(
    models: Models,
    part: Wanted,
    tallies: dict[str, Tally],
    squares: dict[str, float],
    answer: tuple[int, int] | bool,
) -> Surveyed:
    """N_A of one ability, and what its tallies say about each tensor."""
    if not isinstance(part, Sought):
        sums = {name: entry.sums for name, entry in tallies.items()}
        return Surveyed(part, *measured(sums, squares, dict.fromkeys(sums, 1)))
    assert not isinstance(answer, bool), "the threshold was found"
    bits, missing = answer
    unit, units = widths(models.shapes, models.granularity), _units(models)
    ends, sums = {}, {}
    for name, entry in tallies.items():
        sums[name], tied = entry.above(bits), entry.at(bits)
        taken = min(missing, int(tied[0]))
        if taken == int(tied[0]):
            ends[name] = units[name] if taken else 0
            sums[name] = sums[name] + tied
        elif taken == 0:
            ends[name] = 0
        else:
            ends[name], some = _cut(models, part, name, bits, taken)
            sums[name] = sums[name] + some
        missing -= taken
    located = Located(part.trained, Found(bits, ends, unit))
    return Surveyed(located, *measured(sums, squares, unit))


def _cut(models: Models, part: Sought, name: str, bits: int, taken: int) -> tuple[int, np.ndarray]:
    """Of the units of a tensor at the threshold the first ``taken``: where they end, their sums."""
    only = replace(models, shapes={name: models.shapes[name]}, threads=1)
    width = widths(only.shapes, models.granularity)[name]
    sums = np.zeros(3)
    for chunk in only.chunks():
        for piece in only.window(chunk, [part]).pieces(width):
            units, found = part.trained.above(piece, bits, width)
            units = units[found == bits][:taken]
            weights = part.trained.at(piece, spread(units, width))
            of_piece = _given(weights, only.language(piece)).sums
            sums += [len(units), *of_piece[1:]]
            taken -= len(units)
            if taken == 0:
                return piece.place // width + int(units[-1]) + 1, sums
    raise AssertionError(f"tensor {name!r} changed while it was read")


def measured(
    sums: Mapping[str, np.ndarray], squares: Mapping[str, float], width: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, float]]:
    """|N_A| and similarity by tensor.

    From how many units are key neurons, Σ r·l and Σ r² by tensor, Σ l², and the entries of a unit.
    """
    counts = {name: int(of_tensor[0]) * width[name] for name, of_tensor in sums.items()}
    similarity = {
        name: cosine(float(of_tensor[1]), float(of_tensor[2]), squares[name])
        for name, of_tensor in sums.items()
    }
    return counts, similarity

"""What a merge runs over, and the pass that finds key neurons.

N_A is the top k1 of the whole model, so that its threshold must be known before R(A) is.  A sample
says roughly where it lies (:mod:`maec.ranking`); then one pass over the base and the ability models
counts what lies above and, one by one, the few numbers near it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from maec import chunks as chunk_cutting
from maec.ability import AbilityWeights, Found, Located, Trained, widths
from maec.arithmetic import above
from maec.checkpoint import HASHED, Weights
from maec.chunks import Chunk, Shapes, chunks, in_order, row_chunks, tracked
from maec.neurons import Granularity
from maec.progress import Track
from maec.provenance import Sources
from maec.ranking import TALLY_BYTES, Bracket, Tally, bracket, slack, tally, threshold
from maec.window import Window

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


def locate(
    models: Models, abilities: Sequence[Wanted], track: Track, sources: Sources
) -> list[AbilityWeights]:
    """R(A) of each ability: where key neurons are sought they are found, all in one pass.

    It runs over the base and the models that they are sought in, if there are any; ``sources`` is
    told of what it reads.  Where a sample was not fair there is another pass, which costs time and
    nothing else.

    Raises:
        InputError: a number is not finite.
    """
    sought = [part for part in abilities if isinstance(part, Sought)]
    brackets = [_sampled(models, part) for part in sought]
    found: dict[int, Located] = {}
    while left := [number for number in range(len(sought)) if number not in found]:
        parts = [sought[number] for number in left]
        wheres = [brackets[number] for number in left]
        tallies = _pass(models, parts, wheres, track, sources)
        for number, part, where, of_part in zip(left, parts, wheres, tallies, strict=True):
            answer = _answer(models, part, of_part)
            if isinstance(answer, bool):
                brackets[number] = where.wider(up=answer)
            else:
                found[number] = _settled(models, part, of_part, *answer)
    located = iter(found[number] for number in range(len(sought)))
    return [next(located) if isinstance(part, Sought) else part for part in abilities]


def _pass(
    models: Models,
    sought: Sequence[Sought],
    brackets: Sequence[Bracket],
    track: Track,
    sources: Sources,
) -> list[dict[str, Tally]]:
    """For each of them the tally of every tensor."""
    tallies = [{name: Tally() for name in models.shapes} for _ in sought]
    unit = widths(models.shapes, models.granularity)
    read = [part.trained.model for part in sought]

    def count(chunk: Chunk) -> tuple[dict[Path, bytes], list[Tally]]:
        window = Window(chunk, models.base, read, models.device)
        digests = sources.digested(window)
        found = [Tally() for _ in sought]
        for piece in window.pieces(unit[chunk.name]):
            for part, where, own in zip(sought, brackets, found, strict=True):
                _, bits = part.trained.above(piece, where.begin, unit[chunk.name])
                own.add(tally(bits.cpu().numpy(), where))
        return digests, found

    results = in_order(count, models.chunks(), models.threads)
    for chunk, (digests, found) in tracked(results, models.shapes, track, "reading"):
        sources.feed(chunk.name, digests)
        for of_part, own in zip(tallies, found, strict=True):
            of_part[chunk.name].add(own)
    sources.settle()
    return tallies


def _sampled(models: Models, part: Sought) -> Bracket:
    """Where the threshold lies, going by units from places spread evenly over the model."""
    width, units = widths(models.shapes, models.granularity), _units(models)
    total = sum(units.values())
    step = max(total // _places(total), 1)
    offsets = dict(zip(units, accumulate(units.values(), initial=0), strict=False))

    def sample(name: str) -> tuple[np.ndarray, int]:
        begins = range(-offsets[name] % step, units[name], step)
        ends = [min(begin + NEIGHBOURS, units[name], begin + step) for begin in begins]
        if not ends:
            return np.zeros(0, np.int32), 0
        entries = [(a * width[name], b * width[name]) for a, b in zip(begins, ends, strict=True)]
        origin, trained = (
            torch.cat([model.read_entries(name, a, b) for a, b in entries])
            for model in (models.base, part.trained.model)
        )
        return above(origin, trained, 0, width[name])[1].numpy(), len(ends)

    found = [sampled for _, sampled in in_order(sample, units, models.threads)]
    bits = [np.zeros(0, np.int32), *(bits for bits, _ in found)]
    return bracket(np.concatenate(bits), part.k1, sum(places for _, places in found))


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


def _answer(models: Models, part: Sought, tallies: dict[str, Tally]) -> tuple[int, int] | bool:
    """The threshold and how many units at it are wanted; or on which side of a bracket it lies."""
    wanted = math.floor(part.k1 * sum(_units(models).values()) + 0.5)
    return threshold(tallies.values(), wanted) if wanted else (NOTHING, 0)


def _settled(
    models: Models, part: Sought, tallies: dict[str, Tally], bits: int, missing: int
) -> Located:
    """N_A: all units above the threshold, and the first ``missing`` of those at it."""
    units, ends = _units(models), {}
    for name, entry in tallies.items():
        tied = entry.at(bits)
        taken = min(missing, tied)
        missing -= taken
        if 0 < taken < tied:
            ends[name] = _cut(models, part, name, bits, taken)
        else:
            ends[name] = units[name] if taken else 0
    unit = widths(models.shapes, models.granularity)
    return Located(part.trained, Found(bits, ends, unit))


def _cut(models: Models, part: Sought, name: str, bits: int, taken: int) -> int:
    """Where the first ``taken`` units of a tensor at the threshold end."""
    only = replace(models, shapes={name: models.shapes[name]})
    width = widths(only.shapes, models.granularity)[name]
    for chunk in only.chunks():
        for piece in Window(chunk, models.base, part.models, models.device).pieces(width):
            units, found = part.trained.above(piece, bits, width)
            tied = units[found == bits]
            if len(tied) >= taken:
                return piece.place // width + int(tied[taken - 1]) + 1
            taken -= len(tied)
    raise AssertionError(f"tensor {name!r} changed while it was read")

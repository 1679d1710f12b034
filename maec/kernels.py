"""The loops over every parameter, compiled: what torch does in several passes over memory, in one.

They work on arrays of what checkpoints hold: ``uint16`` is taken for the bits of bfloat16, all else
is float32.  Every operation on an entry is a single one in float32, rounded by itself, so that an
entry comes out as torch's operations would give it, bit for bit.  Sums of many entries are float64,
in whatever order is fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

Array = np.ndarray
ALL_ONES = np.uint32(0x7F800000)
"""The exponent of what is not finite."""

BLOCK = 2**12
"""Entries worked on at a time, so that what one loop leaves the next finds in the cache."""

WORD = 64
"""Bits of a word that has one for each entry."""


@intrinsic
def _as_float(context: Any, bits: Any) -> Any:
    """The float32 with these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def _as_bits(context: Any, number: Any) -> Any:
    """The bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@intrinsic
def _lowest(context: Any, bits: Any) -> Any:
    """The place of the lowest bit of a uint64 that is set; one is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


def _wide(stored: Any) -> Any:
    """An entry as float32."""
    raise NotImplementedError("compiled code only")


@overload(_wide, strict=False)
def _wide_compiled(stored: Any) -> Any:
    if isinstance(stored, types.Integer):
        return lambda stored: _as_float(np.uint32(np.uint32(stored) << np.uint32(16)))
    return lambda stored: stored


def _narrow(number: Any, like: Any) -> Any:
    """A float32 rounded as the array ``like`` stores it, to even where two are as near."""
    raise NotImplementedError("compiled code only")


@overload(_narrow, strict=False)
def _narrow_compiled(number: Any, like: Any) -> Any:
    if isinstance(like.dtype, types.Integer):

        def rounded(number, like):
            bits = _as_bits(number)
            odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
            up = np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + odd)
            return np.uint16(np.uint32(up >> np.uint32(16)))

        return rounded
    return lambda number, like: number


_compiled = njit(nogil=True, cache=True, fastmath={"reassoc"})
"""For sums, whose order may be changed."""
_exact = njit(nogil=True, cache=True)


@_exact
def difference(origin: Array, trained: Array, factor: np.float32, out: Array) -> None:
    """out = factor·(trained − origin)."""
    for i in range(origin.size):
        out[i] = factor * (_wide(trained[i]) - _wide(origin[i]))


@_exact
def add_difference(origin: Array, trained: Array, factor: np.float32, out: Array) -> None:
    """out += factor·(trained − origin)."""
    for i in range(origin.size):
        out[i] += factor * (_wide(trained[i]) - _wide(origin[i]))


@_compiled
def _square(vector: Array) -> float:
    """Σ vector², float64."""
    total = 0.0
    for i in range(vector.size):
        total += np.float64(vector[i]) * np.float64(vector[i])
    return total


@_exact
def finite(stored: Array) -> bool:
    """Whether no entry is NaN or infinite."""
    found = np.uint32(0)
    for i in range(stored.size):
        bits = _as_bits(_wide(stored[i]))
        found |= np.uint32(np.uint32(bits & ALL_ONES) == ALL_ONES)
    return found == 0


@_compiled
def _finish(origin: Array, change: Array, out: Array) -> tuple[bool, float, float]:
    """out = origin + change, rounded; whether finite, Σ change², and Σ of roundings squared."""
    found, size, error = np.uint32(0), 0.0, 0.0
    for i in range(origin.size):
        exact = _wide(origin[i]) + change[i]
        out[i] = _narrow(exact, out)
        stored = _wide(out[i])
        lost = stored - exact
        found |= np.uint32(np.uint32(_as_bits(stored) & ALL_ONES) == ALL_ONES)
        found |= np.uint32(np.uint32(_as_bits(exact) & ALL_ONES) == ALL_ONES)
        size += np.float64(change[i]) * np.float64(change[i])
        error += np.float64(lost) * np.float64(lost)
    return found == 0, size, error


@_exact
def difference_at(
    origin: Array, trained: Array, places: Array, factor: np.float32, out: Array
) -> None:
    """As ``difference``, of the entries at ``places``."""
    for i in range(places.size):
        out[i] = factor * (_wide(trained[places[i]]) - _wide(origin[places[i]]))


@_exact
def add_difference_at(
    origin: Array, trained: Array, places: Array, factor: np.float32, out: Array
) -> None:
    """As ``add_difference``, of the entries at ``places``."""
    for i in range(places.size):
        out[i] += factor * (_wide(trained[places[i]]) - _wide(origin[places[i]]))


@_exact
def above(origin: Array, trained: Array, begin: np.uint32, places: Array, bits: Array) -> int:
    """Where |trained − origin| has bits of at least ``begin``: places, bits, and how many."""
    count, changes = np.uint64(0), np.zeros(BLOCK, dtype=np.uint32)
    for first in range(0, origin.size, BLOCK):
        before, after = origin[first : first + BLOCK], trained[first : first + BLOCK]
        for i in range(before.size):
            change = _as_bits(_wide(after[i]) - _wide(before[i]))
            changes[i] = np.uint32(change & np.uint32(0x7FFFFFFF))
        for start in range(0, before.size, WORD):
            # a bit for each entry that is one, and then only those: much faster than to ask each
            word, found = changes[start : start + WORD], np.uint64(0)
            for i in range(WORD):
                found |= np.uint64(np.uint64(word[i] >= begin) << np.uint64(i))
            if before.size - start < WORD:
                found &= np.uint64((1 << (before.size - start)) - 1)
            while found:
                i = _lowest(found)
                places[count], bits[count] = first + start + np.int64(i), word[i]
                found &= np.uint64(found - np.uint64(1))
                count += np.uint64(1)
    return np.int64(count)


@_exact
def _add_at(change: Array, first: int, places: Array, values: Array, factor: np.float32) -> None:
    """change[places − first] += factor·values; no place occurs twice."""
    for i in range(places.size):
        change[np.uint64(places[i] - first)] += factor * values[i]


@_compiled
def _products(language: Array, first: int, places: Array, values: Array) -> tuple[float, float]:
    """Σ r·l and Σ r² over places, where r are ``values`` and l the language weights there."""
    product, square = 0.0, 0.0
    for i in range(places.size):
        value = np.float64(values[i])
        product += value * np.float64(language[np.uint64(places[i] - first)])
        square += value * value
    return product, square


@_exact
def _rounded(
    origin: Array,
    change: Array,
    stored: Array,
    first: int,
    places: Array,
    values: Array,
    factor: np.float32,
) -> tuple[int, int, float, float]:
    """What rounding took from factor·values, part of ``change`` at ``places``.

    How many are not zero, how many of these make no difference to what is stored, the sum of
    their squares, and that of the squares of how far the difference they make is from them.
    """
    not_zero, lost, size, error = 0, 0, 0.0, 0.0
    for i in range(places.size):
        place = np.uint64(places[i] - first)
        own = factor * values[i]
        before = _wide(_narrow(_wide(origin[place]) + change[place] - own, stored))
        made = _wide(stored[place]) - before
        not_zero += np.int64(own != 0)
        lost += np.int64((own != 0) & (made == 0))
        size += np.float64(own) * np.float64(own)
        error += np.float64(made - own) * np.float64(made - own)
    return not_zero, lost, size, error


@_exact
def merge(
    origin: Array,
    languages: Array,
    trained: Array,
    mu: np.float32,
    lam: np.float32,
    places: Array,
    values: Array,
    ends: Array,
    gammas: Array,
    added: Array,
    out: Array,
    sums: Array,
    of_abilities: Array,
) -> bool:
    """out = origin + λ·l + Σ γ·r, rounded, for l = languages + μ·(trained − origin).

    ``languages`` (float32) may be empty, for zero.  The r of all abilities lie behind one another
    in ``places`` (ascending) and ``values``, up to ``ends`` of each; only those that are ``added``
    are part of the sum.  Several are added up in float64.

    Returns whether all is finite, and adds to ``sums`` Σ l², Σ (λ·l + Σ γ·r)² and Σ of roundings
    squared, and to each row of ``of_abilities`` how many entries r has, Σ r·l, Σ r², and what
    ``_rounded`` gives of those that are added.
    """
    is_finite, many = True, added.sum() > 1
    language, exact = np.empty(BLOCK, np.float32), np.empty(BLOCK if many else 0, np.float64)
    begins = np.empty(ends.size, np.int64)
    nexts = np.zeros(ends.size, np.int64)
    nexts[1:] = ends[:-1]
    for first in range(0, origin.size, BLOCK):
        before, after = origin[first : first + BLOCK], trained[first : first + BLOCK]
        stored, change = out[first : first + BLOCK], language[: before.size]
        if languages.size:
            change[:] = languages[first : first + BLOCK]
            add_difference(before, after, mu, change)
        else:
            difference(before, after, mu, change)
        sums[0] += _square(change)
        for a in range(ends.size):
            begins[a] = nexts[a]
            while nexts[a] < ends[a] and places[nexts[a]] < first + BLOCK:
                nexts[a] += 1
            part = slice(begins[a], nexts[a])
            product, square = _products(change, first, places[part], values[part])
            of_abilities[a, 0] += nexts[a] - begins[a]
            of_abilities[a, 1] += product
            of_abilities[a, 2] += square
        for i in range(change.size):
            change[i] *= lam
        if many:
            exact[: change.size] = change
        for a in range(ends.size):
            if added[a]:
                part = slice(begins[a], nexts[a])
                if many:
                    _add_at(exact, first, places[part], values[part], gammas[a])
                else:
                    _add_at(change, first, places[part], values[part], gammas[a])
        if many:
            change[:] = exact[: change.size]
        found, size, error = _finish(before, change, stored)
        is_finite &= found
        sums[1] += size
        sums[2] += error
        for a in range(ends.size):
            if added[a]:
                part = slice(begins[a], nexts[a])
                not_zero, lost, size, error = _rounded(
                    before, change, stored, first, places[part], values[part], gammas[a]
                )
                of_abilities[a, 3] += not_zero
                of_abilities[a, 4] += lost
                of_abilities[a, 5] += size
                of_abilities[a, 6] += error
    return is_finite


@_exact
def gaps_to_places(gaps: Array, full: np.uint8, places: Array) -> int:
    """Places from the gaps between them, a byte each; how many there are (see ``maec.pack``)."""
    place, count = -1, 0
    for i in range(gaps.size):
        is_place = gaps[i] != full
        place += np.int64(gaps[i]) + np.int64(is_place)
        if is_place:
            if count == places.size:
                return count + 1
            places[count] = place
            count += 1
    return count

"""The least importance that belongs to N_A, exactly, in one pass over the model.

The bits of a non-negative float32, read as an integer, are in the order of the numbers.  A sample
says between which bits the threshold lies; the pass counts what lies above them and keeps, for the
few entries between them, how often each number occurs.  Of both it also adds up what the method
needs to know of the entries that turn out to be key neurons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from maec.kernels import split

DIGIT = 16
"""A bracket is a range of the upper 16 bits; the lower 16 tell its numbers apart."""

TOP = 0x7F80
"""The upper bits of infinity; those of NaN may be above, all numbers are below."""


MORE = 2**19
"""Entries that a tally takes in before it looks which of them are equal."""


DENSE = 16
"""Places for a number, at most, for which numbers are counted rather than sorted."""


@dataclass(frozen=True)
class Bracket:
    """Numbers whose upper bits lie in [low, high]."""

    low: int
    high: int

    @property
    def begin(self) -> int:
        """The least bits inside."""
        return self.low << DIGIT

    @property
    def end(self) -> int:
        """The least bits above."""
        return (self.high + 1) << DIGIT

    def wider(self, *, up: bool) -> Bracket:
        """The bracket next to this one, where a threshold that this one missed may lie."""
        width = 4 * (self.high - self.low + 1)
        if up:
            return Bracket(self.high + 1, min(self.high + width, TOP))
        return Bracket(max(self.low - width, 0), self.low - 1)


TALLY_BYTES = 32
"""Bytes that a tally takes for each number inside its bracket."""


def slack(share: float, blocks: int) -> float:
    """By how much of all numbers a sample from so many places may misplace the top ``share``."""
    # places count, though units at one place tell more than one unit would: two deviations will do
    return float(2 * np.sqrt(share * (1 - share) / max(blocks, 1)))


def bracket(sample: np.ndarray, share: float, blocks: int) -> Bracket:
    """Where the threshold of the top ``share`` of all numbers lies, going by a sample.

    ``sample`` (int32) holds the bits of numbers from ``blocks`` places, drawn evenly; neighbours
    are alike, so that places count rather than numbers.
    """
    digits = np.sort(sample >> DIGIT)[::-1]
    if not len(digits):
        return Bracket(0, TOP)
    margin = slack(share, blocks) + 1 / len(digits)
    places = [share - margin, share + margin]
    first, last = (digits[int(np.clip(p, 0, 1) * (len(digits) - 1))] for p in places)
    return Bracket(max(int(last), 0), min(int(first), TOP))


@dataclass
class Tally:
    """What one tensor has above a bracket, and, by number, inside it.

    ``sums`` are over the entries above: how many, Σ r·l and Σ r².  ``inside`` has the bits of
    numbers that occur, and ``inside_sums`` (numbers, 3) the same sums for each.
    """

    sums: np.ndarray = field(default_factory=lambda: np.zeros(3))
    inside: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    inside_sums: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    _more: list[Tally] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what the next chunk of the tensor has."""
        self.sums = self.sums + other.sums
        self._more += [other, *other._more]
        if sum(len(more.inside) for more in self._more) > MORE:
            self.settle()

    def settle(self) -> None:
        """Have each number once, which takes less memory."""
        if self._more:
            parts = [self, *self._more]
            self._more = []
            self.inside, self.inside_sums = _grouped(
                np.concatenate([part.inside for part in parts]),
                np.concatenate([part.inside_sums for part in parts]),
            )

    def above(self, threshold: int) -> np.ndarray:
        """The sums over the entries whose bits lie above ``threshold``, which is inside."""
        self.settle()
        return self.sums + self.inside_sums[self.inside > threshold].sum(axis=0)

    def at(self, threshold: int) -> np.ndarray:
        """The sums over the entries whose bits are ``threshold``."""
        self.settle()
        return self.inside_sums[self.inside == threshold].sum(axis=0)


def tally(bits: np.ndarray, products: np.ndarray, squares: np.ndarray, where: Bracket) -> Tally:
    """The tally of entries with these ``bits`` (int32), r·l and r² (float64), of equal lengths."""
    inside, each = np.empty(len(bits), dtype=np.int64), np.empty((len(bits), 3))
    *sums, count = split(bits, products, squares, where.begin, where.end, inside, each)
    return Tally(np.array(sums), inside[:count].copy(), each[:count].copy())


def threshold(tallies: Iterable[Tally], wanted: int) -> tuple[int, int] | bool:
    """The ``wanted``-th largest number's bits, and how many entries with them are still wanted.

    If it lies outside the bracket, whether it lies above it.
    """
    tallies = list(tallies)
    for tally in tallies:
        tally.settle()
    missing = wanted - int(sum(tally.sums[0] for tally in tallies))
    if missing <= 0:
        return True
    numbers, sums = _grouped(
        np.concatenate([tally.inside for tally in tallies]),
        np.concatenate([tally.inside_sums for tally in tallies]),
    )
    at_least = sums[::-1, 0].cumsum()
    if not len(at_least) or at_least[-1] < missing:
        return False
    place = int(np.searchsorted(at_least, missing))
    above = int(at_least[place - 1]) if place else 0
    return int(numbers[::-1][place]), missing - above


def _grouped(numbers: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each number once, ascending, with the sums of its rows."""
    if not len(numbers):
        return numbers, np.zeros((0, sums.shape[1]))
    least = numbers.min()
    span = int(numbers.max() - least) + 1
    if span > DENSE * len(numbers):
        found, group = np.unique(numbers, return_inverse=True)
        added = [np.bincount(group, weights=column) for column in sums.T]
        return found, np.stack(added, axis=1)
    # counting is faster than sorting where numbers are close together, as in a bracket
    group = numbers - least
    present = np.flatnonzero(np.bincount(group))
    added = [np.bincount(group, weights=column)[present] for column in sums.T]
    return present + least, np.stack(added, axis=1)

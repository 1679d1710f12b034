"""The least importance that belongs to N_A, exactly, in one pass over the model.

The bits of a non-negative float32, read as an integer, are in the order of the numbers.  A sample
says between which bits the threshold lies; the pass counts what lies above them and keeps, for the
few entries between them, how often each number occurs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

DIGIT = 16
"""A bracket is a range of the upper 16 bits; the lower 16 tell its numbers apart."""

TOP = 0x7F80
"""The upper bits of infinity; those of NaN may be above, all numbers are below."""


MORE = 2**19
"""Numbers that a tally takes in before it looks which of them are equal."""


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
"""Bytes that a tally takes for each number inside its bracket, at most: while it settles."""


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
    """How many numbers of a tensor lie ``above`` a bracket, and how often each inside it occurs.

    ``numbers`` (int32, ascending) has the bits of those inside, ``counts`` (int64) how often.
    """

    above: int = 0
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _more: list[Tally] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what the next piece of the tensor has."""
        self.above += other.above
        self._more += [other, *other._more]
        if sum(len(more.numbers) for more in self._more) > MORE:
            self.settle()

    def settle(self) -> None:
        """Have each number once, which takes less memory."""
        if self._more:
            self.numbers, self.counts = _together([self, *self._more])
            self._more = []

    def at(self, threshold: int) -> int:
        """How many numbers have the bits ``threshold``."""
        self.settle()
        return int(self.counts[self.numbers == threshold].sum())


def tally(bits: np.ndarray, where: Bracket) -> Tally:
    """The tally of the numbers with these ``bits`` (int32)."""
    inside = bits[(bits >= where.begin) & (bits < where.end)]
    above = int(np.count_nonzero(bits >= where.end))
    return Tally(above, *np.unique(inside, return_counts=True))


def threshold(tallies: Iterable[Tally], wanted: int) -> tuple[int, int] | bool:
    """The ``wanted``-th largest number's bits, and how many entries with them are still wanted.

    If it lies outside the bracket, whether it lies above it.
    """
    tallies = list(tallies)
    for tally in tallies:
        tally.settle()
    missing = wanted - sum(tally.above for tally in tallies)
    if missing <= 0:
        return True
    numbers, counts = _together(tallies)
    at_least = counts[::-1].cumsum()
    if not len(at_least) or at_least[-1] < missing:
        return False
    place = int(np.searchsorted(at_least, missing))
    above = int(at_least[place - 1]) if place else 0
    return int(numbers[::-1][place]), missing - above


def _together(tallies: Sequence[Tally]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of settled tallies, each once, ascending, and how often it occurs in all."""
    numbers = np.concatenate([tally.numbers for tally in tallies])
    counts = np.concatenate([tally.counts for tally in tallies])
    found, group = np.unique(numbers, return_inverse=True)
    return found, np.bincount(group, weights=counts).astype(np.int64)

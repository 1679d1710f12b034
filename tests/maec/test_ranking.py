"""A threshold found in one pass is the one that sorting finds, whatever the sample said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maec.ranking import TOP, Bracket, Tally, bracket, tally, threshold


def bits_of(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).view(np.int32)


@st.composite
def tensors(draw: st.DrawFn) -> list[np.ndarray]:
    """Numbers ≥ 0 of a few tensors: many that are equal, some that differ in the last bit."""
    number = st.one_of(
        st.sampled_from([0.0, 1e-3, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 3.0]),
        st.floats(0, 2.0**100, width=32),
    )
    found = draw(st.lists(st.lists(number, max_size=30), min_size=1, max_size=4))
    return [np.array(values, dtype=np.float32) for values in found]


def counted(values: list[np.ndarray], where: Bracket, chunk: int = 7) -> list[Tally]:
    tallies = []
    for tensor in values:
        whole = Tally()
        for begin in range(0, len(tensor), chunk):
            whole.add(tally(bits_of(tensor[begin : begin + chunk]), where))
        tallies.append(whole)
    return tallies


def found(values: list[np.ndarray], wanted: int, where: Bracket) -> tuple[int, int, Bracket]:
    for _ in range(60):
        answer = threshold(counted(values, where), wanted)
        if not isinstance(answer, bool):
            return *answer, where
        where = where.wider(up=answer)
    pytest.fail("the bracket never reached the threshold")


@given(values=tensors(), data=st.data())
def test_the_threshold_is_the_one_that_sorting_finds(
    values: list[np.ndarray], data: st.DataObject
) -> None:
    flat = np.sort(bits_of(np.concatenate(values)))[::-1]
    if not len(flat):
        return
    wanted = data.draw(st.integers(1, len(flat)))
    low = data.draw(st.integers(0, TOP))
    start = Bracket(low, data.draw(st.integers(low, TOP)))
    bits, ties, _ = found(values, wanted, start)
    assert bits == flat[wanted - 1]
    assert ties == wanted - int((flat > bits).sum())


@given(values=tensors(), data=st.data())
def test_what_lies_at_a_number_is_counted_by_tensor(
    values: list[np.ndarray], data: st.DataObject
) -> None:
    flat = np.concatenate(values)
    if not len(flat):
        return
    bits, _, where = found(values, data.draw(st.integers(1, len(flat))), Bracket(0, TOP))
    tallies = counted(values, where)
    assert [own.at(bits) for own in tallies] == [int((bits_of(v) == bits).sum()) for v in values]


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.999])
def test_the_bracket_of_a_fair_sample_holds_the_threshold_and_little_else(share: float) -> None:
    rng = np.random.default_rng(3)
    values = np.abs(rng.normal(size=400_000)).astype(np.float32)
    sample = bits_of(values[::40])
    where = bracket(sample, share, blocks=len(sample))
    wanted = round(share * len(values))
    assert not isinstance(threshold([tally(bits_of(values), where)], wanted), bool)
    inside = (bits_of(values) >= where.begin) & (bits_of(values) < where.end)
    assert inside.mean() < 0.05


def test_a_bracket_of_nothing_is_everything() -> None:
    assert bracket(np.zeros(0, dtype=np.int32), 0.5, 0) == Bracket(0, TOP)

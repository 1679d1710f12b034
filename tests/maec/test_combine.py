"""Language weights, similarity, selection and the sum, one tensor at a time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maec.arithmetic import Sparse
from maec.combine import ability_weights, combined, cosine, language_weights, select
from maec.errors import InputError

from . import numpy_reference as reference
from .numpy_reference import HALF_ULP

SIMILARITIES = st.dictionaries(
    st.text("abc.", min_size=1, max_size=3),
    st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.5, 1.0]) | st.floats(-1, 1),
    min_size=1,
)
RANKING = pytest.mark.parametrize("ranking", ["signed", "absolute"])


# language weights


def test_language_weights_are_the_weighted_sum_of_differences(rng: np.random.Generator) -> None:
    base, es, zh = (rng.standard_normal((5, 7)).astype(np.float32) for _ in range(3))
    found = language_weights(
        torch.tensor(base), [(torch.tensor(es), 0.7), (torch.tensor(zh), -1.5)]
    )
    expected = reference.language_weights({"w": base}, [({"w": es}, 0.7), ({"w": zh}, -1.5)])
    slack = 8 * HALF_ULP * (0.7 * np.abs(es - base) + 1.5 * np.abs(zh - base))
    assert found.dtype == torch.float32
    assert (np.abs(found.numpy() - expected["w"]) <= slack).all()


def test_language_weights_of_bfloat16_are_computed_in_float32() -> None:
    base = torch.tensor([1.0, 256.0])
    moved = torch.tensor([1.0078125, 258.0], dtype=torch.bfloat16)
    found = language_weights(base, [(moved, 0.3), (moved, 0.003)])
    exact = torch.tensor([0.0078125, 2.0]) * 0.303  # bfloat16 would keep 8 bits of it
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=0)


def test_without_languages_the_weights_are_zero() -> None:
    found = language_weights(torch.ones(2, 3), [])
    assert found.shape == (2, 3) and not found.any()


def test_language_weights_leave_their_inputs_alone() -> None:
    base, moved = torch.ones(3), torch.full((3,), 2.0)
    language_weights(base, [(moved, 0.5), (moved, 0.5)])
    assert base.equal(torch.ones(3)) and moved.equal(torch.full((3,), 2.0))


@given(st.data())
def test_an_entry_does_not_depend_on_what_lies_beside_it(data: st.DataObject) -> None:
    """Not even in the last bit: processors handle the end of a vector in another way."""
    size = data.draw(st.integers(1, 70))
    finite = st.floats(-1e3, 1e3, width=32)
    draw = st.lists(finite, min_size=size, max_size=size).map(torch.tensor)
    origin, trained, pivot = (data.draw(draw) for _ in range(3))
    one, two = data.draw(st.floats(-2, 2)), data.draw(st.floats(-2, 2))
    begin = data.draw(st.integers(0, size - 1))

    def both(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        o, t, p = origin[part], trained[part], pivot[part]
        return language_weights(o, [(t, one), (p, two)]), ability_weights(o, t, p, one, two)

    for whole, part in zip(both(slice(None)), both(slice(begin, None)), strict=True):
        assert whole[begin:].view(torch.int32).equal(part.view(torch.int32))


@given(st.data())
def test_every_operation_is_rounded_once(data: st.DataObject) -> None:
    """numpy, which fuses nothing, gives the same bits."""
    finite = st.floats(-1e3, 1e3, width=32)
    draw = st.lists(finite, min_size=9, max_size=9).map(lambda x: np.array(x, np.float32))
    origin, trained, pivot = (data.draw(draw) for _ in range(3))
    alpha, beta, lam, gamma = (data.draw(st.floats(-2, 2, width=32)) for _ in range(4))
    o, t, p = (torch.tensor(x) for x in (origin, trained, pivot))
    f = np.float32
    ability = f(alpha) * (trained - origin) - f(beta) * (pivot - origin)
    language = f(alpha) * (trained - origin) + f(beta) * (pivot - origin)
    assert ability_weights(o, t, p, alpha, beta).numpy().tobytes() == ability.tobytes()
    assert language_weights(o, [(t, alpha), (p, beta)]).numpy().tobytes() == language.tobytes()
    places = torch.tensor([1, 4, 8])
    change = f(lam) * language
    change[places] += f(gamma) * ability[places]
    weights = Sparse(places, torch.tensor(ability[places]))
    found = combined(torch.tensor(language), [(weights, gamma)], lam)
    assert found.numpy().tobytes() == change.tobytes()


# similarity


def cosine_of(x: torch.Tensor, y: torch.Tensor) -> float:
    x, y = x.double().flatten(), y.double().flatten()
    return cosine(float(x @ y), float(x @ x), float(y @ y))


@given(st.integers(1, 20), st.data())
def test_the_cosine_is_that_of_exact_arithmetic(size: int, data: st.DataObject) -> None:
    draw = st.lists(st.floats(-100, 100, width=32), min_size=size, max_size=size)
    x, y = data.draw(draw), data.draw(draw)
    dot, xx, yy = (
        sum(Fraction(a) * Fraction(b) for a, b in zip(u, v, strict=True))
        for u, v in ((x, y), (x, x), (y, y))
    )
    # the square of the cosine is a fraction: no root, no rounding
    expected = 0.0 if 0 in (xx, yy) else math.copysign(math.sqrt(dot * dot / (xx * yy)), dot)
    found = cosine_of(torch.tensor(x), torch.tensor(y))
    assert found == pytest.approx(expected, abs=1e-9)
    assert -1 <= found <= 1


@pytest.mark.parametrize("scale", [2.0**-140, 2.0**-60, 1.0, 2.0**60, 2.0**120])
def test_the_cosine_does_not_depend_on_size(scale: float) -> None:
    x, y = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[1.0, -2.0], [5.0, 1.0]])
    expected = (3 - 8 + 1) / math.sqrt(26 * 31)
    assert cosine_of(x * scale, y) == pytest.approx(expected, abs=1e-9)
    assert cosine_of(y, x * scale) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("other", [0.0, 1.0])
def test_what_is_all_zero_has_similarity_zero(other: float) -> None:
    zero, any_ = torch.zeros(3), torch.full((3,), other)
    assert cosine_of(zero, any_) == cosine_of(any_, zero) == 0.0


# selection


@RANKING
@given(similarities=SIMILARITIES, k2=st.integers(0, 20).map(lambda n: n / 20) | st.floats(0, 1))
def test_selected_are_those_that_sorting_finds(
    ranking: str, similarities: dict[str, float], k2: float
) -> None:
    found = select(similarities, k2, ranking)
    assert found == reference.select(similarities, k2, ranking)
    assert len(found) == reference.share_of(k2, len(similarities))


@RANKING
def test_selection_does_not_depend_on_the_order_of_the_tensors(ranking: str) -> None:
    similarities = {f"w{i}": (i % 3 - 1) / 2 for i in range(12)}
    turned = dict(reversed(similarities.items()))
    for k2 in (0.1, 0.5, 0.7):
        assert select(similarities, k2, ranking) == select(turned, k2, ranking)


def test_the_lowest_similarity_is_selected() -> None:
    similarities = {"a": 0.9, "b": -0.8, "c": 0.1, "d": 0.0}
    assert select(similarities, 0.5, "signed") == {"b", "d"}
    assert select(similarities, 0.5, "absolute") == {"c", "d"}


def test_ties_go_to_the_name_that_comes_first() -> None:
    similarities = {"c": 0.0, "a": 0.0, "b": -0.0, "d": -0.5}
    assert select(similarities, 0.75, "signed") == {"d", "a", "b"}
    assert select({"b": 0.5, "a": -0.5}, 0.5, "absolute") == {"a"}


@pytest.mark.parametrize("k2", [-0.01, 1.01, math.nan])
def test_a_share_of_tensors_outside_its_range_is_refused(k2: float) -> None:
    with pytest.raises(InputError, match="k2"):
        select({"a": 0.0}, k2)


# the sum


def test_the_sum_adds_every_part_with_its_weight() -> None:
    language = torch.tensor([0.5, -0.5, 0.0])
    one = Sparse(torch.tensor([0, 2]), torch.tensor([4.0, 8.0]))
    two = Sparse(torch.tensor([2]), torch.tensor([32.0]))
    found = combined(language, [(one, 0.5), (two, 0.25)], 2.0)
    assert found.tolist() == [2 * 0.5 + 0.5 * 4, -2 * 0.5, 0.5 * 8 + 0.25 * 32]


@given(st.data())
def test_the_order_of_abilities_makes_no_difference(data: st.DataObject) -> None:
    finite = st.floats(-10, 10, width=32)
    draw = st.lists(finite, min_size=5, max_size=5).map(torch.tensor)
    language = data.draw(draw)
    places = st.lists(st.integers(0, 4), unique=True, max_size=5).map(sorted)
    parts = []
    for _ in range(3):
        index = torch.tensor(data.draw(places), dtype=torch.int64)
        parts.append((Sparse(index, data.draw(draw)[: len(index)]), data.draw(finite)))
    one = combined(language.clone(), parts, 0.7)
    two = combined(language.clone(), parts[::-1], 0.7)
    assert one.view(torch.int32).equal(two.view(torch.int32))


def test_small_changes_are_summed_before_the_base_is_added() -> None:
    tiny = torch.tensor([2.0**-24])
    weights = Sparse(torch.tensor([0]), tiny)
    found = combined(tiny.clone(), [(weights, 1.0)], 1.0)
    assert (torch.ones(1) + found).item() == 1 + 2.0**-23


@given(SIMILARITIES, st.floats(0, 1), st.integers(0, 9))
def test_random_selection_is_as_large_and_knows_nothing_of_similarity(
    similarities: dict[str, float], k2: float, seed: int
) -> None:
    chosen = select(similarities, k2, "random", seed)
    assert len(chosen) == len(select(similarities, k2))
    assert chosen == select(dict.fromkeys(reversed(similarities), 0.5), k2, "random", seed)


def test_random_selection_follows_the_seed() -> None:
    names = {f"layer.{i}": 0.0 for i in range(40)}
    drawn = [select(names, 0.5, "random", seed) for seed in range(20)]
    assert len({frozenset(chosen) for chosen in drawn}) == 20
    times = [sum(name in chosen for chosen in drawn) for name in names]
    assert min(times) > 0 and max(times) < 20

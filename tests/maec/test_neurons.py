"""Key neurons: the exact global top k1, against sorting."""

from __future__ import annotations

import math
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maec import neurons
from maec.checkpoint import open_checkpoint
from maec.errors import InputError
from maec.neurons import key_neurons, read_mask, value_change, write_mask

from . import numpy_reference as reference
from .checkpoints import llama, read, trained, write
from .numpy_reference import Tensors, share_of

GRANULARITIES = ("parameter", "row")

# few distinct values, so that ties at the threshold are the rule; among them the smallest
# denormal, neighbours in the last bit, both zeros and the largest numbers
TIED = st.sampled_from(
    [0.0, -0.0, 2.0**-149, 2.0**-126, 0.5, float(np.nextafter(np.float32(0.5), 1)), 1.0, 2.0**127]
)
ANY = st.floats(0, 2.0**127, width=32)
SHAPE = st.lists(st.integers(1, 6), min_size=1, max_size=2).map(tuple)
K1 = st.one_of(
    st.integers(1, 100).map(lambda n: n / 100),
    st.integers(1, 8).map(lambda n: n / 8),
    st.floats(0.001, 1),
)


@st.composite
def importances(draw: st.DrawFn, values: st.SearchStrategy[float] = TIED | ANY) -> Tensors:
    """A few small tensors under names whose order is not the order of creation."""
    names = draw(st.lists(st.text("ab.19", min_size=1, max_size=4), min_size=1, unique=True))
    found = {}
    for name in names:
        shape = draw(SHAPE)
        size = math.prod(shape)
        drawn = draw(st.lists(values, min_size=size, max_size=size))
        found[name] = np.array(drawn, dtype=np.float32).reshape(shape)
    return found


def found_by_maec(importance: Tensors, k1: float, granularity: str = "parameter") -> Tensors:
    mask = key_neurons(
        lambda name: torch.tensor(importance[name]),
        {name: value.shape for name, value in importance.items()},
        k1,
        granularity,
    )
    assert all(value.dtype == torch.bool for value in mask.values())
    return {name: value.numpy() for name, value in mask.items()}


def equal(x: Tensors, y: Tensors) -> bool:
    return x.keys() == y.keys() and all(
        x[n].shape == y[n].shape and (x[n] == y[n]).all() for n in x
    )


# parameter


@given(importances(), K1)
def test_key_parameters_are_those_that_sorting_finds(importance: Tensors, k1: float) -> None:
    assert equal(found_by_maec(importance, k1), reference.key_neurons(importance, k1))


@given(importances(), K1)
def test_the_number_of_key_parameters_is_exact(importance: Tensors, k1: float) -> None:
    count = sum(value.size for value in importance.values())
    mask = found_by_maec(importance, k1)
    assert sum(int(value.sum()) for value in mask.values()) == share_of(k1, count)


@pytest.mark.parametrize(
    ("k1", "size", "expected"),
    [
        (0.05, 9, 0),
        (0.05, 10, 1),  # ½ goes up
        (0.05, 29, 1),
        (0.05, 30, 2),
        (0.5, 1, 1),
        (0.15, 10, 2),
        (1.0, 7, 7),
        (1e-9, 100, 0),
    ],
)
def test_half_a_parameter_rounds_up(k1: float, size: int, expected: int) -> None:
    mask = found_by_maec({"w": np.arange(size, dtype=np.float32)}, k1)
    assert mask["w"].sum() == expected
    assert mask["w"][size - expected :].all()


def test_ties_go_to_the_lower_position() -> None:
    importance = {
        "b": np.ones((2, 3), dtype=np.float32),
        "a": np.array([1, 0, 1, 2], dtype=np.float32),
    }
    # 5 of 10: the 2, then ones: a[0], a[2], b[0, 0], b[0, 1]
    mask = found_by_maec(importance, 0.5)
    assert mask["a"].tolist() == [True, False, True, True]
    assert mask["b"].tolist() == [[True, True, False], [False, False, False]]


def test_names_are_ordered_as_text() -> None:
    importance = {f"layers.{i}": np.ones(1, dtype=np.float32) for i in range(11)}
    mask = found_by_maec(importance, 3 / 11)
    assert [name for name in mask if mask[name]] == ["layers.0", "layers.1", "layers.10"]


def test_where_nothing_moved_the_first_positions_are_key() -> None:
    importance = {"a": np.zeros((2, 2), np.float32), "b": np.zeros(6, np.float32)}
    mask = found_by_maec(importance, 0.6)
    assert mask["a"].all() and mask["b"].tolist() == [True] * 2 + [False] * 4


def test_neighbours_in_the_last_bit_are_told_apart() -> None:
    steps = np.arange(4096, dtype=np.uint32) + np.uint32(0x3F7FF800)  # around 1.0
    importance = {"w": np.random.default_rng(1).permutation(steps).view(np.float32)}
    for k1 in (0.001, 0.25, 0.5, 0.9):
        expected = reference.key_neurons(importance, k1)
        assert equal(found_by_maec(importance, k1), expected)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_large_tensor_is_found_as_sorting_finds_it(granularity: str) -> None:
    rng = np.random.default_rng(2)
    importance = {
        "big": np.abs(rng.standard_normal((1500, 700))).astype(np.float32),
        "norm": np.abs(rng.standard_normal(700)).astype(np.float32),
        "ties": rng.integers(0, 3, (300, 700)).astype(np.float32),
    }
    for k1 in (0.05, 0.8):
        expected = reference.key_neurons(importance, k1, granularity)
        assert equal(found_by_maec(importance, k1, granularity), expected)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_mask_does_not_depend_on_order_run_or_threads(granularity: str) -> None:
    rng = np.random.default_rng(3)
    importance = {f"w{i}": rng.integers(0, 50, (40, 256)).astype(np.float32) / 7 for i in range(6)}
    first = found_by_maec(importance, 0.3, granularity)
    assert equal(found_by_maec(importance, 0.3, granularity), first)
    turned = dict(reversed(importance.items()))
    assert equal(found_by_maec(turned, 0.3, granularity), first)
    torch.set_num_threads(2)
    try:
        assert equal(found_by_maec(importance, 0.3, granularity), first)
    finally:
        torch.set_num_threads(1)


def test_one_tensor_is_in_memory_at_a_time() -> None:
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def importance(name: str) -> torch.Tensor:
        nonlocal most
        tensor = torch.rand(64, generator=torch.Generator().manual_seed(int(name)))
        most = max(most, len(alive) + 1)
        alive.add(tensor)
        return tensor

    mask = key_neurons(importance, {str(i): (64,) for i in range(10)}, 0.1)
    assert sum(int(value.sum()) for value in mask.values()) == 64
    assert most <= 2  # the one asked for, and the one before where it is not yet let go


# row


@given(importances(st.integers(0, 6).map(float)), K1)
def test_key_rows_are_those_that_sorting_finds(importance: Tensors, k1: float) -> None:
    expected = reference.key_neurons(importance, k1, "row")
    assert equal(found_by_maec(importance, k1, "row"), expected)


@given(importances(), K1)
def test_the_number_of_key_rows_is_exact_and_rows_are_whole(importance: Tensors, k1: float) -> None:
    mask = found_by_maec(importance, k1, "row")
    rows = [value.reshape(1, -1) if value.ndim == 1 else value for value in mask.values()]
    assert all((part.all(1) == part.any(1)).all() for part in rows)
    assert sum(int(part.all(1).sum()) for part in rows) == share_of(k1, sum(map(len, rows)))


def test_rows_with_the_same_values_in_another_order_tie() -> None:
    rng = np.random.default_rng(4)
    row = np.abs(rng.standard_normal(1000)).astype(np.float32)
    rows = np.stack([rng.permutation(row) for _ in range(64)])
    mask = found_by_maec({"w": rows}, 0.25, "row")
    assert mask["w"].all(1).tolist() == [True] * 16 + [False] * 48


def test_a_row_is_scored_by_its_mean_not_its_sum() -> None:
    importance = {
        "narrow": np.full((2, 2), 3, np.float32),
        "norm": np.full(50, 2, np.float32),
        "wide": np.full((1, 100), 1, np.float32),
    }
    mask = found_by_maec(importance, 0.75, "row")
    assert mask["narrow"].all() and mask["norm"].all() and not mask["wide"].any()


# what is refused


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("k1", [0.0, -0.1, 1.0001, 5, math.nan, math.inf])
def test_a_share_outside_its_range_is_refused(k1: float, granularity: str) -> None:
    with pytest.raises(InputError, match="k1") as error:
        found_by_maec({"w": np.ones(4, np.float32)}, k1, granularity)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_nan_is_refused_and_its_tensor_named(granularity: str) -> None:
    importance = {"a": np.ones((2, 2), np.float32), "b": np.ones((2, 2), np.float32)}
    importance["b"][1, 1] = np.nan
    with pytest.raises(InputError, match=r"'b'") as error:
        found_by_maec(importance, 0.5, granularity)
    assert "\n" not in str(error.value) and "NaN" in str(error.value)


# importance


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_value_change_is_the_float32_difference(
    tmp_path: Path, rng: np.random.Generator, dtype: str
) -> None:
    origin = llama(rng)
    base = write(tmp_path / "base", origin, dtype=dtype)
    moved = write(tmp_path / "moved", trained(rng, origin), dtype="float32", shards=2)
    change = value_change(open_checkpoint(base), open_checkpoint(moved))
    expected = reference.value_change(read(base), read(moved))
    for name, value in expected.items():
        assert change(name).dtype == torch.float32
        assert (change(name).numpy() == value).all()


# masks on disk


@given(importances(), K1)
def test_a_mask_comes_back_from_disk(
    tmp_path_factory: pytest.TempPathFactory, importance: Tensors, k1: float
) -> None:
    mask = {name: torch.tensor(m) for name, m in reference.key_neurons(importance, k1).items()}
    folder = tmp_path_factory.mktemp("mask") / "mask"
    folder.mkdir()
    write_mask(folder, mask, {"k1": k1})
    again = read_mask(folder)
    assert again.keys() == mask.keys()
    assert all(again[n].dtype == torch.bool and again[n].equal(mask[n]) for n in mask)


def test_a_mask_takes_one_bit_a_parameter_on_disk(tmp_path: Path) -> None:
    mask = {"w": torch.rand(1000, 800) < 0.05}
    write_mask(tmp_path, mask, {"k1": 0.05})
    assert (tmp_path / "mask.safetensors").stat().st_size < 1000 * 800 / 8 + 2000


# controls


@given(seed=st.integers(0, 5), k1=st.sampled_from([0.01, 0.2, 0.5, 1.0]))
def test_random_key_neurons_are_as_many_and_the_same_every_time(seed: int, k1: float) -> None:
    shapes = {"b": (6, 7), "a": (31,), "c": (2, 3, 5)}
    found = key_neurons(neurons.random(shapes, seed), shapes, k1)
    size = sum(math.prod(shape) for shape in shapes.values())
    assert sum(int(entries.sum()) for entries in found.values()) == math.floor(k1 * size + 0.5)
    again = key_neurons(neurons.random(dict(sorted(shapes.items())), seed), shapes, k1)
    assert all(found[name].equal(again[name]) for name in shapes)


def test_another_seed_draws_others_and_every_tensor_gets_its_share() -> None:
    shapes = {f"t{i}": (50, 40) for i in range(10)}
    first, second = (key_neurons(neurons.random(shapes, seed), shapes, 0.3) for seed in (0, 1))
    for name in shapes:
        share = float(first[name].float().mean())
        assert abs(share - 0.3) < 5 * (0.3 * 0.7 / 2000) ** 0.5
        both = float((first[name] & second[name]).float().mean())
        assert abs(both - 0.09) < 5 * (0.09 * 0.91 / 2000) ** 0.5
    assert not first["t0"].equal(first["t1"])

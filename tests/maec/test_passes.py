"""The two passes of a merge: the same bits whatever they run on, and no more memory than said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maec import chunks, ranking, survey, window
from maec.errors import InputError
from maec.extract import extract
from maec.memory import held_by
from maec.merge import merge, merged_tensors
from maec.pack import open_pack
from maec.recipe import Recipe

from . import numpy_reference as reference
from .checkpoints import llama, on_grid, read, trained, write


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and its kin, with many ties, in several shards."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("models")
    origin = llama(rng, grid=1 / 64)
    write(folder / "base", origin, shards=3, dtype="bfloat16")
    for shards, name in enumerate(("ability", "pivot", "es", "te"), start=1):
        tensors = {n: on_grid(t, 1 / 64) for n, t in trained(rng, origin).items()}
        write(folder / name, tensors, shards=shards, dtype="bfloat16")
    return folder


def recipe(world: Path, **changes: object) -> Recipe:
    ability = {"model": world / "ability", "pivot": world / "pivot", "k1": 0.21, "k2": 0.5}
    languages = [{"model": world / "es", "mu": 0.7}, {"model": world / "te", "mu": 0.4}]
    keys = {"base": world / "base", "languages": languages, "abilities": [ability]}
    return Recipe.model_validate({**keys, "dtype": "bfloat16", **changes})


def bits(merged: Recipe) -> dict[str, bytes]:
    return {n: t.view(torch.int16).numpy().tobytes() for n, t in merged_tensors(merged)}


@pytest.mark.parametrize("granularity", ["parameter", "row"])
@pytest.mark.parametrize("entries", [1, 7, 64, 10**6])
@pytest.mark.parametrize("threads", [1, 5])
def test_the_same_bits_whatever_the_chunks_and_threads(
    world: Path, monkeypatch: pytest.MonkeyPatch, granularity: str, entries: int, threads: int
) -> None:
    expected = bits(recipe(world, granularity=granularity))
    monkeypatch.setattr(chunks, "ENTRIES", entries)
    monkeypatch.setattr(window, "PIECE", max(entries // 3, 1))
    monkeypatch.setattr("maec.memory.cores", lambda: threads)
    assert bits(recipe(world, granularity=granularity)) == expected


@pytest.mark.parametrize("low, high", [(0, 0), (0x7000, 0x7F80), (0x3E00, 0x3E00)])
def test_an_unfair_sample_costs_time_and_nothing_else(
    world: Path, monkeypatch: pytest.MonkeyPatch, low: int, high: int
) -> None:
    expected = bits(recipe(world))
    monkeypatch.setattr(survey, "bracket", lambda *_: ranking.Bracket(low, high))
    assert bits(recipe(world)) == expected


@given(
    k1=st.floats(0.001, 1),
    places=st.integers(1, 50),
    granularity=st.sampled_from(["parameter", "row"]),
)
def test_the_mask_is_the_one_that_sorting_finds(
    world: Path,
    tmp_path_factory: pytest.TempPathFactory,
    k1: float,
    places: int,
    granularity: str,
) -> None:
    out = tmp_path_factory.mktemp("packs") / "pack"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "PLACES", places)
        extract(world / "base", world / "ability", out, beta=0, k1=k1, granularity=granularity)
    pack = open_pack(out)
    change = reference.value_change(read(world / "base"), read(world / "ability"))
    expected = reference.key_neurons(change, k1, granularity)
    for name, mask in expected.items():
        assert pack.mask(name).numpy().tobytes() == mask.tobytes(), name


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_rounding_took_from_an_ability_is_counted(
    world: Path, tmp_path: Path, dtype: str
) -> None:
    """Against the model without the ability, both rounded by numpy and torch."""
    gamma = 0.01  # small enough for most of it to be lost
    part = {"model": world / "ability", "pivot": world / "pivot", "k1": 0.21, "gamma": gamma}
    keys = {"dtype": dtype, "lambda": 0.3, "abilities": [part]}
    merge(recipe(world, **keys), tmp_path / "with")
    (part,) = json.loads((tmp_path / "with" / "maec.json").read_text())["abilities"]
    with_ability = {n: t.float() for n, t in merged_tensors(recipe(world, **keys))}
    without = {n: t.float() for n, t in merged_tensors(recipe(world, **keys | {"abilities": []}))}
    pack = open_pack(
        extract(world / "base", world / "ability", tmp_path / "p", pivot=world / "pivot", k1=0.21)
    )
    changed = lost = 0
    error = size = 0.0
    for name, entry in part["tensors"].items():
        if not entry["selected"]:
            continue
        change = (pack.delta(name) * gamma).double()
        made = (with_ability[name] - without[name]).double()
        moved = change != 0
        changed += int(moved.sum())
        lost += int((moved & (made == 0)).sum())
        error += float((made - change)[moved].square().sum())
        size += float(change.square().sum())
    found = part["rounding"]
    assert found["changed"] == changed > 0
    assert found["rounded_away"] == lost
    assert 0 < lost < changed
    assert found["relative_error"] == pytest.approx((error / size) ** 0.5, rel=1e-3)
    assert (
        f"{lost / changed:.2%} of these changes round away"
        in (tmp_path / "with" / "README.md").read_text()
    )


def test_too_little_memory_is_refused_with_what_is_needed(world: Path) -> None:
    with pytest.raises(InputError, match=r"^memory: 1\.0 MB; give at least \d+ MB"):
        next(merged_tensors(recipe(world), memory=2**20))


def test_what_waits_for_the_threshold_counts_as_memory_where_no_two_changes_are_equal() -> None:
    """An 8B model in float32: 0.35 % of its parameters lie near the threshold, 32 bytes each."""
    units = {"w": (8 * 10**9,)}
    near = 4 * (0.05 * 0.95 / (8e9 // 2**17)) ** 0.5
    assert held_by([(0.05, {"F32", "I64"})], units) == pytest.approx(32 * near * 8e9, rel=1e-6)
    assert held_by([(0.05, {"BF16", "I64"}), (0.05, {"F16"})], units) == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_pack_of_fewer_bytes_holds_the_weights_rounded_once(
    world: Path, tmp_path: Path, dtype: str
) -> None:
    how = {"pivot": world / "pivot", "k1": 0.1}
    exact = open_pack(extract(world / "base", world / "ability", tmp_path / "exact", **how))
    small = open_pack(
        extract(world / "base", world / "ability", tmp_path / "small", dtype=dtype, **how)
    )
    for name in exact.names:
        rounded = exact.delta(name).to(getattr(torch, dtype)).float()
        assert small.delta(name).equal(rounded) and small.mask(name).equal(exact.mask(name))

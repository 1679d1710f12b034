"""Whatever does the arithmetic, the same bits: compiled loops, or torch as a GPU runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maec import arithmetic, kernels
from maec.arithmetic import Part, Sparse
from maec.combine import merged
from maec.errors import InputError
from maec.extract import extract
from maec.merge import merge
from maec.recipe import Recipe

from .checkpoints import llama, trained, write

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
SHARES = st.floats(-2, 2, allow_nan=False, width=32)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, an ability model with its pivot, and two languages, in bfloat16; and a pack."""
    rng = np.random.default_rng(11)
    folder = tmp_path_factory.mktemp("world")
    origin = llama(rng)
    write(folder / "base", origin, dtype="bfloat16")
    for name in ("math", "en", "es", "te"):
        write(folder / name, trained(rng, origin), dtype="bfloat16")
    extract(folder / "base", folder / "math", folder / "pack", pivot=folder / "en", k1=0.1)
    return folder


def recipe(world: Path, **changes: Any) -> Recipe:
    ability = {"model": world / "math", "pivot": world / "en", "k1": 0.1, "gamma": 0.7, "k2": 0.6}
    languages = [{"model": world / "es", "mu": 0.7}, {"model": world / "te", "mu": 0.4}]
    keys = {"base": world / "base", "languages": languages, "abilities": [ability]}
    return Recipe.model_validate({**keys, "dtype": "bfloat16", **changes})


def test_a_merge_without_compiled_loops_gives_the_same_bytes(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for dtype in ("bfloat16", "float32", "float16"):
        wanted = recipe(world, dtype=dtype)
        merge(wanted, tmp_path / f"compiled-{dtype}")
        with monkeypatch.context() as patch:
            patch.setattr(arithmetic, "is_compiled", lambda _: False)
            merge(wanted, tmp_path / f"torch-{dtype}")
        one, two = (
            (tmp_path / f"{kind}-{dtype}" / "model.safetensors").read_bytes()
            for kind in ("compiled", "torch")
        )
        assert one == two
        reports = [
            json.loads((tmp_path / f"{kind}-{dtype}" / "maec.json").read_text())
            for kind in ("compiled", "torch")
        ]
        for report in reports:  # sums in another order: the last digits may differ
            for part in (report, *report["abilities"]):
                rounding = part.pop("rounding", {})
                assert 0 <= rounding.get("relative_error", 0) < 1
        assert reports[0] == reports[1]


def stored(draw: st.DrawFn, size: int) -> torch.Tensor:
    numbers = draw(st.lists(st.floats(-4, 4, width=16), min_size=size, max_size=size))
    return torch.tensor(numbers).to(draw(st.sampled_from(DTYPES)))


def piece(data: st.DataObject) -> dict[str, Any]:
    """What ``combine.merged`` is given: up to two languages, up to three abilities."""
    size = data.draw(st.integers(1, 40))
    weights = st.sets(st.integers(0, size - 1)).map(sorted)
    parts = []
    for _ in range(data.draw(st.integers(0, 3))):
        places = torch.tensor(data.draw(weights), dtype=torch.int64)
        values = torch.tensor([data.draw(SHARES) for _ in places])
        parts.append(Part(Sparse(places, values), data.draw(SHARES), data.draw(st.booleans())))
    languages = st.lists(SHARES, max_size=2)
    return {
        "origin": stored(data.draw, size),
        "languages": [(stored(data.draw, size), mu) for mu in data.draw(languages)],
        "parts": parts,
        "lam": data.draw(SHARES),
    }


def both_ways(given_: dict[str, Any], dtype: torch.dtype) -> None:
    """Compiled loops and torch give the same entries, and the same sums in another order."""
    found = []
    for compiled in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not compiled:
                patch.setattr(arithmetic, "is_compiled", lambda _: False)
            out = torch.empty(len(given_["origin"]), dtype=dtype)
            found.append((out, merged(**given_, stored=out)))
    (one, seen), (two, expected) = found
    assert one.double().numpy().tobytes() == two.double().numpy().tobytes()
    assert seen.is_finite == expected.is_finite
    close = {"rtol": 1e-9, "atol": 1e-30}
    np.testing.assert_allclose(seen.sums, expected.sums, **close)
    np.testing.assert_allclose(seen.of_abilities, expected.of_abilities, **close)


@given(st.data())
def test_compiled_loops_merge_a_piece_as_torch_does(data: st.DataObject) -> None:
    both_ways(piece(data), data.draw(st.sampled_from(DTYPES[:3])))


@pytest.mark.parametrize("abilities", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_a_piece_of_several_blocks_is_merged_as_torch_does(
    dtype: torch.dtype, abilities: int
) -> None:
    rng = np.random.default_rng(5)
    size = 2 * kernels.BLOCK + 77

    def numbers(count: int) -> torch.Tensor:
        return torch.tensor(rng.normal(size=count), dtype=torch.float32)

    parts = []
    for number in range(abilities):
        places = torch.tensor(np.flatnonzero(rng.random(size) < 0.05))
        parts.append(Part(Sparse(places, numbers(len(places))), 0.3, number != 1))
    origin, es = numbers(size).bfloat16(), numbers(size).bfloat16()
    keys = {"languages": [(es, 0.7), (numbers(size), 0.4)], "parts": parts, "lam": 0.9}
    both_ways({"origin": origin, **keys}, dtype)


@given(st.data())
def test_compiled_loops_take_differences_as_torch_does(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 200))
    origin, trained_, pivot = (stored(data.draw, size) for _ in range(3))
    places = torch.tensor(sorted(data.draw(st.sets(st.integers(0, size - 1)))), dtype=torch.int64)
    factor, begin = data.draw(SHARES), data.draw(st.integers(0, 2**30))

    def everything() -> list[bytes]:
        total = arithmetic.plus_difference(None, origin, trained_, factor)
        at = arithmetic.plus_difference(None, origin, pivot, factor, places)
        at = arithmetic.plus_difference(at, origin, trained_, -0.3, places)
        total = arithmetic.plus_difference(total, origin, pivot, -0.3)
        found = [total, at, *arithmetic.above(origin, trained_, begin, 1)]
        return [t.double().numpy().tobytes() for t in found]

    compiled = everything()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "is_compiled", lambda _: False)
        assert everything() == compiled


@pytest.mark.parametrize("number", [float("inf"), float("nan"), 3.39e38, -3.4e38])
def test_what_overflows_is_found(number: float) -> None:
    language = torch.tensor([0, 1, number, 1, 0], dtype=torch.float32)
    for compiled in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not compiled:
                patch.setattr(arithmetic, "is_compiled", lambda _: False)
            out = torch.empty(5, dtype=torch.bfloat16)
            seen = merged(torch.zeros(5, dtype=torch.bfloat16), [(language, 1)], [], 1, out)
        assert seen.is_finite == bool(torch.isfinite(language.bfloat16()).all())


@pytest.mark.parametrize("k2", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_measuring_while_writing_gives_what_measuring_first_gives(
    world: Path, tmp_path: Path, k2: float
) -> None:
    """A pack is merged in one pass, its checkpoints in two: the same selection, the same bytes."""
    parts = {
        "two": {"model": world / "math", "pivot": world / "en", "k1": 0.1},
        "one": {"pack": world / "pack"},
    }
    reports = []
    for name, part in parts.items():
        merge(recipe(world, abilities=[{**part, "gamma": 0.7, "k2": k2}]), tmp_path / name)
        reports.append(json.loads((tmp_path / name / "maec.json").read_text()))
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in parts)
    assert one == two
    assert reports[0]["rounding"] == reports[1]["rounding"]
    first, second = (report["abilities"][0] for report in reports)
    assert first["tensors"] == second["tensors"]
    assert first["rounding"] == second["rounding"]
    selected = sum(tensor["selected"] for tensor in second["tensors"].values())
    assert selected == int(k2 * len(second["tensors"]) + 0.5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tpu"])
def test_a_device_that_is_not_here_is_refused_in_one_line(device: str) -> None:
    with pytest.raises(InputError, match=rf"^--device: '{device}' is not here; give one of cpu$"):
        arithmetic.device(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bytes(world: Path, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        merge(recipe(world), tmp_path / device, device=device)
    one, two = (
        (tmp_path / device / "model.safetensors").read_bytes() for device in ("cpu", "cuda")
    )
    assert one == two

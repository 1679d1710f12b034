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
from typer.testing import CliRunner

from maec import arithmetic
from maec.arithmetic import Sparse
from maec.cli import app
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


@given(st.data())
def test_every_operation_gives_what_torch_gives(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    origin, trained_, pivot = (stored(data.draw, size) for _ in range(3))
    places = torch.tensor(sorted(data.draw(st.sets(st.integers(0, size - 1)))), dtype=torch.int64)
    factor, gamma, begin = data.draw(SHARES), data.draw(SHARES), data.draw(st.integers(0, 2**30))
    values = torch.tensor([data.draw(SHARES) for _ in places])

    def everything() -> list[Any]:
        total = arithmetic.plus_difference(None, origin, trained_, factor)
        at = arithmetic.plus_difference(None, origin, pivot, gamma, places)
        total = arithmetic.plus_difference(total, origin, pivot, -0.3)
        units, bits = arithmetic.above(origin, trained_, begin, 1)
        weights = Sparse(places, values)
        sums = [*arithmetic.products(weights, total), arithmetic.square(total)]
        arithmetic.add_at(total, weights, gamma)
        found = [total, at, units, bits]
        for dtype in DTYPES[:3]:
            out = torch.empty(size, dtype=dtype)
            finite, *lost = arithmetic.round_sum(origin, total, out)
            of_part = arithmetic.rounded(origin, total, out, weights, gamma)
            found += [out, finite, *of_part[:2]]
            sums += [*lost, *of_part[2:]]
        return [*found, pytest.approx(sums, rel=1e-9, abs=1e-30)]

    compiled = everything()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "is_compiled", lambda _: False)
        plain = everything()
    for one, two in zip(compiled[:-1], plain[:-1], strict=True):
        if isinstance(one, torch.Tensor):
            assert one.dtype == two.dtype
            assert one.double().numpy().tobytes() == two.double().numpy().tobytes()
        else:
            assert one == two
    assert compiled[-1].expected == plain[-1]


@pytest.mark.parametrize("number", [float("inf"), float("nan"), 3.39e38, -3.4e38])
def test_what_overflows_is_found(number: float) -> None:
    origin = torch.zeros(5, dtype=torch.bfloat16)
    change = torch.tensor([0, 1, number, 1, 0], dtype=torch.float32)
    for compiled in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not compiled:
                patch.setattr(arithmetic, "is_compiled", lambda _: False)
            out = torch.empty(5, dtype=torch.bfloat16)
            finite = arithmetic.round_sum(origin, change, out)[0]
        assert finite == bool(torch.isfinite((change).bfloat16()).all())


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
def test_a_device_that_is_not_here_is_refused_in_one_line(tmp_path: Path, device: str) -> None:
    with pytest.raises(InputError, match=rf"^--device: '{device}' is not here; give one of cpu$"):
        arithmetic.device(device)
    (tmp_path / "recipe.yaml").write_text("base: nothing\nlanguages: []\nabilities: []\n")
    command = ["merge", str(tmp_path / "recipe.yaml"), str(tmp_path / "out"), "--device", device]
    assert CliRunner().invoke(app, command).exit_code == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bytes(world: Path, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        merge(recipe(world), tmp_path / device, device=device)
    one, two = (
        (tmp_path / device / "model.safetensors").read_bytes() for device in ("cpu", "cuda")
    )
    assert one == two

"""Files that are laid out first and filled in pieces are those that the library writes."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from maec.errors import InputError
from maec.layout import laid_out
from maec.tensors import TORCH_NAME, write_tensors

STORED = {getattr(torch, name): dtype for dtype, name in TORCH_NAME.items()}


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    names = draw(st.lists(st.text("ab.é0", min_size=1, max_size=4), unique=True, max_size=6))
    found = {}
    for name in names:
        dtype = draw(st.sampled_from(list(STORED)))
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
        found[name] = torch.randint(0, 2, shape).to(dtype)
    return found


def fill(folder: Path, given: dict[str, torch.Tensor], piece: int = 3, **options: int) -> None:
    layout = {name: (STORED[t.dtype], tuple(t.shape)) for name, t in given.items()}
    jobs = [(name, begin) for name, t in given.items() for begin in range(0, t.numel(), piece)]
    random.Random(1).shuffle(jobs)
    with laid_out(folder, layout, **options) as writer, ThreadPoolExecutor(3) as pool:
        for name, begin in jobs:
            entries = given[name].flatten()[begin : begin + piece]
            pool.submit(writer.write, name, begin, entries).result()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@given(given=tensors())
def test_a_file_is_the_library_s_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, torch.Tensor]
) -> None:
    folder = tmp_path_factory.mktemp("one")
    fill(folder, given)
    save_file(given, folder / "theirs", metadata={"format": "pt"})
    assert (folder / "model.safetensors").read_bytes() == (folder / "theirs").read_bytes()


@given(given=tensors(), shard_bytes=st.integers(1, 60))
def test_shards_are_those_of_tensors_written_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, torch.Tensor], shard_bytes: int
) -> None:
    ours, theirs = (tmp_path_factory.mktemp(name) for name in ("ours", "theirs"))
    fill(ours, given, shard_bytes=shard_bytes)
    write_tensors(theirs, iter(given.items()), shard_bytes=shard_bytes)
    assert contents(ours) == contents(theirs)


def test_a_disk_that_is_too_small_is_found_out_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(InputError, match=r"no space for model\.safetensors") as caught,
        laid_out(tmp_path, {"a": ("F32", (3,))}),
    ):
        pytest.fail("went on")
    assert "\n" not in str(caught.value)

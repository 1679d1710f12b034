"""Ability packs and their extraction, against numpy."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from maec.arithmetic import Sparse
from maec.checkpoint import fingerprint, open_checkpoint
from maec.chunks import chunks
from maec.errors import InputError
from maec.extract import extract
from maec.inspect import summary
from maec.neurons import write_mask
from maec.pack import FORMAT, Block, block, open_pack, write_pack

from . import numpy_reference as reference
from .checkpoints import Tensors, llama, read, trained, write
from .numpy_reference import HALF_ULP, share_of

Parts = tuple[Path, Path, Path]


@pytest.fixture
def parts(tmp_path: Path, rng: np.random.Generator) -> Parts:
    """Paths of a base, an ability model and a pivot model."""
    origin = llama(rng)
    return (
        write(tmp_path / "base", origin, shards=2),
        write(tmp_path / "ability", trained(rng, origin, frozen=["lm_head.weight"])),
        write(tmp_path / "pivot", trained(rng, origin), shards=3),
    )


def expected_weights(
    parts: Parts, mask: Tensors, alpha: float, beta: float
) -> tuple[Tensors, Tensors]:
    """R(A), and how far float32 may stray from it."""
    base, ability, pivot = map(read, parts)
    weights = reference.ability_weights(base, ability, pivot, mask, alpha, beta)
    size = {
        n: alpha * np.abs(ability[n] - base[n]) + beta * np.abs(pivot[n] - base[n]) for n in base
    }
    return weights, {n: 6 * HALF_ULP * size[n] for n in base}


def key_neurons(parts: Parts, k1: float, granularity: str = "parameter") -> Tensors:
    base, ability, _ = map(read, parts)
    return reference.key_neurons(reference.value_change(base, ability), k1, granularity)


@pytest.mark.parametrize("granularity", ["parameter", "row"])
@pytest.mark.parametrize("k1", [0.05, 0.37, 1.0])
def test_a_pack_holds_the_ability_weights_of_the_method(
    tmp_path: Path, parts: Parts, k1: float, granularity: str
) -> None:
    base, ability, pivot = parts
    out = extract(
        base,
        ability,
        tmp_path / "pack",
        pivot=pivot,
        k1=k1,
        alpha=0.7,
        beta=0.3,
        granularity=granularity,
    )
    assert out == tmp_path / "pack"
    pack = open_pack(out)
    mask = key_neurons(parts, k1, granularity)
    weights, slack = expected_weights(parts, mask, 0.7, 0.3)
    assert list(pack.names) == sorted(mask)
    for name in pack.names:
        assert (pack.mask(name).numpy() == mask[name]).all()
        delta = pack.delta(name)
        assert delta.dtype == torch.float32
        assert not delta.numpy()[~mask[name]].any()
        assert (np.abs(delta.numpy() - weights[name]) <= slack[name]).all(), name


def test_the_default_is_the_one_of_the_method(tmp_path: Path, parts: Parts) -> None:
    base, ability, pivot = parts
    pack = open_pack(extract(base, ability, tmp_path / "pack", pivot=pivot))
    mask = key_neurons(parts, 0.05)
    weights, slack = expected_weights(parts, mask, 0.8, 0.2)
    for name in mask:
        assert (np.abs(pack.delta(name).numpy() - weights[name]) <= slack[name]).all()


def test_without_pivot_the_weights_are_alpha_times_the_change(tmp_path: Path, parts: Parts) -> None:
    base, ability, _ = parts
    pack = open_pack(extract(base, ability, tmp_path / "pack", k1=0.2, alpha=0.5, beta=0))
    mask = key_neurons(parts, 0.2)
    origin, changed = read(base), read(ability)
    for name, marks in mask.items():
        exact = np.where(marks, (changed[name] - origin[name]) * np.float32(0.5), 0)
        assert (pack.delta(name).numpy() == exact).all()


def test_a_pivot_that_is_missing_needs_beta_zero(tmp_path: Path, parts: Parts) -> None:
    with pytest.raises(InputError, match="beta") as error:
        extract(parts[0], parts[1], tmp_path / "pack", beta=0.2)
    assert "pivot" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "pack").exists()


def test_a_given_mask_takes_the_place_of_the_top_share(tmp_path: Path, parts: Parts) -> None:
    base, ability, pivot = parts
    rng = np.random.default_rng(9)
    mask = {name: rng.random(value.shape) < 0.1 for name, value in read(base).items()}
    (tmp_path / "mask").mkdir()
    write_mask(tmp_path / "mask", {n: torch.tensor(m) for n, m in mask.items()}, {"k1": 0.1})
    pack = open_pack(extract(base, ability, tmp_path / "pack", pivot=pivot, mask=tmp_path / "mask"))
    weights, slack = expected_weights(parts, mask, 0.8, 0.2)
    for name in mask:
        assert (pack.mask(name).numpy() == mask[name]).all()
        assert (np.abs(pack.delta(name).numpy() - weights[name]) <= slack[name]).all()


def test_a_mask_of_other_tensors_is_refused(tmp_path: Path, parts: Parts) -> None:
    (tmp_path / "mask").mkdir()
    wrong = {name: torch.ones(3, dtype=torch.bool) for name in read(parts[0])}
    write_mask(tmp_path / "mask", wrong, {"k1": 1.0})
    with pytest.raises(InputError) as error:
        extract(parts[0], parts[1], tmp_path / "pack", mask=tmp_path / "mask", beta=0)
    assert "\n" not in str(error.value) and sorted(wrong)[0] in str(error.value)
    assert not (tmp_path / "pack").exists()


def test_a_pack_is_sparse_on_disk(tmp_path: Path, parts: Parts) -> None:
    extract(*parts[:2], tmp_path / "pack", beta=0, k1=0.05)
    total = sum(value.size for value in read(parts[0]).values())
    stored = sum(f.stat().st_size for f in (tmp_path / "pack").glob("*.safetensors"))
    tensors = len(read(parts[0]))
    # 5 bytes a key neuron, at most one in 255 parameters, and a few header entries a tensor
    assert stored <= 5 * share_of(0.05, total) + total / 255 + 500 * tensors


def test_a_pack_s_manifest_says_how_it_was_made(tmp_path: Path, parts: Parts) -> None:
    base, ability, pivot = parts
    out = extract(base, ability, tmp_path / "pack", pivot=pivot, k1=0.1, alpha=0.9, beta=0.4)
    manifest = json.loads((out / "pack.json").read_text())
    total = sum(value.size for value in read(base).values())
    assert {key: manifest[key] for key in ("k1", "alpha", "beta", "granularity")} == {
        "k1": 0.1,
        "alpha": 0.9,
        "beta": 0.4,
        "granularity": "parameter",
    }
    text = json.dumps(manifest)
    for path in parts:
        assert fingerprint(open_checkpoint(path)) in text
    assert total in manifest.values() and share_of(0.1, total) in manifest.values()
    assert open_pack(out).manifest == manifest


def test_extraction_does_not_depend_on_sharding_or_run(tmp_path: Path, parts: Parts) -> None:
    base, ability, pivot = parts
    whole = write(tmp_path / "whole", read(base))
    cut = write(tmp_path / "cut", read(ability), shards=5)
    one = open_pack(extract(base, ability, tmp_path / "p1", pivot=pivot))
    two = open_pack(extract(whole, cut, tmp_path / "p2", pivot=pivot))
    for name in one.names:
        assert one.mask(name).equal(two.mask(name))
        assert one.delta(name).view(torch.int32).equal(two.delta(name).view(torch.int32))


def test_a_pack_written_is_the_pack_read(tmp_path: Path) -> None:
    """Also where a value inside the mask is zero, a tensor is all key and another has none."""
    generator = torch.Generator().manual_seed(5)
    masks = {
        "all": torch.ones(3, 5, dtype=torch.bool),
        "far": torch.arange(2000).view(2, 1000) % 999 == 510,
        "none": torch.zeros(7, dtype=torch.bool),
        "some": torch.rand(4, 9, generator=generator) < 0.4,
    }
    deltas = {
        n: torch.where(m, torch.randn(m.shape, generator=generator), 0) for n, m in masks.items()
    }
    deltas["all"][1, 2] = 0.0
    shapes = {name: tuple(mask.shape) for name, mask in masks.items()}

    def blocks() -> Iterator[Block]:
        for chunk in chunks(shapes, entries=13):
            inside = masks[chunk.name].flatten()[chunk.begin : chunk.end].nonzero()[:, 0]
            values = deltas[chunk.name].flatten()[chunk.begin : chunk.end][inside]
            yield block(chunk, [Sparse(inside, values)], torch.float32)

    (tmp_path / "pack").mkdir()
    write_pack(tmp_path / "pack", shapes, blocks(), {"k1": 0.5, "corpora": ["math-en"]})
    pack = open_pack(tmp_path / "pack")
    assert pack.manifest["k1"] == 0.5 and pack.manifest["corpora"] == ["math-en"]
    for name in masks:
        assert pack.mask(name).equal(masks[name])
        assert pack.delta(name).equal(deltas[name])


@given(
    st.lists(st.integers(0, 700), max_size=30),
    st.integers(1, 50),
    st.data(),
)
def test_any_part_of_a_pack_can_be_read(runs: list[int], cut: int, data: st.DataObject) -> None:
    """A run of n > 1 is n entries that are no key neurons."""
    marks = [mark for n in runs for mark in ([bool(n)] if n < 2 else [False] * n)]
    mask = torch.tensor(marks, dtype=torch.bool)
    shapes = {"w": (len(mask),)}

    def blocks() -> Iterator[Block]:
        for chunk in chunks(shapes, entries=cut):
            inside = mask[chunk.begin : chunk.end].nonzero()[:, 0]
            yield block(chunk, [Sparse(inside, (inside + chunk.begin).float())], torch.float32)

    begin = data.draw(st.integers(0, len(mask)))
    end = data.draw(st.integers(begin, len(mask)))
    with tempfile.TemporaryDirectory() as folder:
        write_pack(Path(folder), shapes, blocks(), {})
        found = open_pack(Path(folder)).read_entries("w", begin, end)
    expected = mask[begin:end].nonzero()[:, 0]
    assert found.places.tolist() == expected.tolist()
    assert found.values.tolist() == (expected + begin).tolist()


@pytest.mark.parametrize("broken", ["missing", "no manifest", "no values", "a checkpoint"])
def test_what_is_no_pack_is_refused(tmp_path: Path, parts: Parts, broken: str) -> None:
    path = tmp_path / "pack"
    if broken == "a checkpoint":
        path = parts[0]
    elif broken != "missing":
        extract(*parts[:2], path, beta=0)
        for file in path.glob("*.json" if broken == "no manifest" else "*.safetensors"):
            file.unlink()
    with pytest.raises(InputError) as error:
        open_pack(path)
    assert "\n" not in str(error.value) and path.name in str(error.value)


@pytest.mark.parametrize("wrong", ["base", "ability", "pivot", "nan", "shape", "k1", "exists"])
def test_bad_input_is_refused_before_any_work(
    tmp_path: Path, parts: Parts, rng: np.random.Generator, wrong: str
) -> None:
    paths = dict(zip(("base", "ability", "pivot"), parts, strict=True))
    how: dict[str, float] = {}
    out = tmp_path / "out" / "pack"
    out.parent.mkdir()
    if wrong in paths:
        paths[wrong] = tmp_path / "nowhere"
        named = "nowhere"
    elif wrong == "nan":
        tensors = read(parts[2])
        tensors["model.norm.weight"][3] = np.nan
        paths["pivot"] = write(tmp_path / "bad", tensors)
        named = "model.norm.weight"
    elif wrong == "shape":
        tensors = read(parts[1]) | {"model.norm.weight": np.ones(17, np.float32)}
        paths["ability"] = write(tmp_path / "bad", tensors)
        named = "model.norm.weight"
    elif wrong == "k1":
        how, named = {"k1": 1.5}, "k1"
    else:
        out.write_text("mine")
        named = "pack"
    before = sorted(out.parent.iterdir())
    with pytest.raises(InputError) as error:
        extract(paths["base"], paths["ability"], out, pivot=paths["pivot"], **how)
    assert named in str(error.value) and "\n" not in str(error.value)
    assert sorted(out.parent.iterdir()) == before


def test_an_extraction_that_is_killed_leaves_no_folder(
    tmp_path: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("maec.extract.block", dies)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        extract(*parts[:2], tmp_path / "pack", beta=0)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("file", ["pack.json", "mask.json", "maec.json"])
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"tensors": [], "abilities": {}},
        {"tensors": {"w": {"shape": [2], "key_neurons": "2"}}, "abilities": [{"path": "a"}]},
        {"tensors": {"w": {"shape": [-1], "key_neurons": 0}}, "abilities": [{"tensors": {}}]},
        {"tensors": {"w": {"shape": [2**62, 4], "key_neurons": 0}}, "abilities": None},
        {"tensors": {}, "abilities": [], "base": None},
    ],
)
def test_a_manifest_that_says_other_things_is_refused(
    tmp_path: Path, file: str, content: dict
) -> None:
    (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=rf"{file}: \w+.*; make it again, or fetch it") as caught:
        summary(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ({"shape": [2]}, "tensors.w.key_neurons: is missing"),
        ({"shape": [2], "key_neurons": "2"}, "w.key_neurons: found '2'; must be a valid integer"),
        ({"shape": [0] * 999, "key_neurons": 0}, f"shape: found [{'0, ' * 33}…; must have at most"),
    ],
)
def test_what_a_manifest_says_wrong_is_told_as_of_any_file(
    tmp_path: Path, tensor: dict, said: str
) -> None:
    (tmp_path / "pack.json").write_text(json.dumps({"tensors": {"w": tensor}}), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(said)):
        summary(tmp_path)


@pytest.mark.parametrize(
    "ends",
    [
        [[0, 0, 0], [9, 9, 9]],
        [[0, 0, 0], [7, -1, 0], [6, 2, 2]],
        [[0, 0, 0], [0, 2**40, 0], [6, 2, 2]],
        [[1, 1, 1], [6, 2, 2]],
        [[6, 2, 2]],
        [[0, 0], [6, 2]],
    ],
)
def test_blocks_that_lead_out_of_their_tensors_are_refused(
    tmp_path: Path, ends: list[list[int]]
) -> None:
    tensors = {
        "w.blocks": torch.tensor(ends),
        "w.gaps": torch.zeros(2, dtype=torch.uint8),
        "w.values": torch.ones(2),
    }
    save_file(tensors, tmp_path / "pack.safetensors")
    said = {"format": FORMAT, "tensors": {"w": {"shape": [2, 3], "key_neurons": 2}}}
    (tmp_path / "pack.json").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(InputError, match="'w' is not whole"):
        open_pack(tmp_path)

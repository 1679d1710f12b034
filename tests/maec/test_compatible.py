"""Models of the families people merge, stored in the ways they are found, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from maec.errors import InputError
from maec.merge import merge
from maec.recipe import load_recipe

from . import numpy_reference
from .checkpoints import read_torch, write_recipe
from .families import FAMILIES, arrays, logits, logits_of, save_model, store_again
from .numpy_reference import Ability, Tensors

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


def merged(folder: Path, out: str = "out", **keys: object) -> Path:
    merge(load_recipe(write_recipe(folder / f"{out}.yaml", **keys)), folder / out)
    return folder / out


def recipe(folder: Path, **keys: object) -> dict[str, object]:
    parts = {
        "base": folder / "base",
        "languages": [{"model": folder / "es", "mu": 0.7}],
        "abilities": [{"model": folder / "math", "k1": 0.2, "alpha": 0.8, "gamma": 0.5, "k2": 0.6}],
        "dtype": "float32",
    }
    return parts | keys


def expected(base: Tensors, es: Tensors, math: Tensors) -> numpy_reference.Merged:
    ability = Ability(math, k1=0.2, alpha=0.8, gamma=0.5, k2=0.6)
    return numpy_reference.merge(base, [(es, 0.7)], [ability])


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_merges_and_answers_like_a_model_combined_by_hand(
    tmp_path: Path, family: str, tied: bool
) -> None:
    """Its checkpoints differ in dtype and in how many files they are."""
    how = {
        "base": {"dtype": torch.bfloat16, "shards": True},
        "es": {"dtype": torch.float16},
        "math": {"dtype": torch.float32, "shards": True},
    }
    for seed, (name, kind) in enumerate(how.items()):
        save_model(tmp_path / name, family, seed, tied=tied, **kind)
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    assert len(list((tmp_path / "es").glob("*.safetensors"))) == 1
    out = merged(tmp_path, **recipe(tmp_path))
    by_hand = expected(*(arrays(tmp_path / name) for name in how))
    assert (OUTPUT in by_hand.values) is not tied
    assert numpy_reference.differences(arrays(out), by_hand, "float32") == []
    values = {name: torch.tensor(value).float() for name, value in by_hand.values.items()}
    answer = logits(out)
    assert torch.allclose(answer, logits_of(out, values), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(answer, logits(tmp_path / "base"), atol=1e-2)


@pytest.mark.parametrize("copies", [["base"], ["es"], ["base", "math"], ["base", "es", "math"]])
def test_a_stored_copy_of_tied_embeddings_changes_nothing(
    tmp_path: Path, copies: list[str]
) -> None:
    for seed, name in enumerate(("base", "es", "math")):
        save_model(tmp_path / name, "qwen2", seed, tied=True)
    without = merged(tmp_path, "without", **recipe(tmp_path))
    for name in copies:
        store_again(tmp_path / name, lm_head__weight=EMBEDDING)
        assert OUTPUT in read_torch(tmp_path / name)
    out = merged(tmp_path, **recipe(tmp_path))
    assert (out / "model.safetensors").read_bytes() == (without / "model.safetensors").read_bytes()
    assert OUTPUT not in read_torch(out)
    assert logits(out).equal(logits(without))


def test_an_output_layer_of_its_own_does_not_fit_tied_embeddings(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "es", "math")):
        save_model(tmp_path / name, "qwen2", seed, tied=name != "es")
    with pytest.raises(InputError, match=OUTPUT) as error:
        merged(tmp_path, **recipe(tmp_path))
    assert "\n" not in str(error.value) and str(tmp_path / "es") in str(error.value)


def test_a_stored_output_layer_that_is_no_copy_counts_whatever_the_config_says(
    tmp_path: Path,
) -> None:
    """transformers does not tie what differs, so neither may a merge."""
    for seed, name in enumerate(("base", "es", "math")):
        save_model(tmp_path / name, "llama", seed, tied=True)
        generator = torch.Generator().manual_seed(seed)
        store_again(tmp_path / name, lm_head__weight=torch.randn(40, 16, generator=generator))
    out = merged(tmp_path, **recipe(tmp_path))
    by_hand = expected(*(arrays(tmp_path / name) for name in ("base", "es", "math")))
    assert OUTPUT in by_hand.values
    assert numpy_reference.differences(arrays(out), by_hand, "float32") == []


@pytest.mark.parametrize("holders", [["base"], ["es"], ["math"], ["base", "es"]], ids="-".join)
def test_buffers_on_one_side_are_no_parameters(tmp_path: Path, holders: list[str]) -> None:
    for seed, name in enumerate(("base", "es", "math")):
        save_model(tmp_path / name, "llama", seed)
    without = merged(tmp_path, "without", **recipe(tmp_path))
    frequencies = {
        f"model__layers__{i}__self_attn__rotary_emb__inv_freq": torch.rand(2) for i in range(2)
    }
    positions = torch.arange(64)[None]
    for name in holders:
        store_again(tmp_path / name, model__embeddings__position_ids=positions, **frequencies)
    out = merged(tmp_path, **recipe(tmp_path))
    stored = read_torch(out)
    kept = stored.pop("model.embeddings.position_ids", None)
    if "base" in holders:
        assert kept.equal(positions)
    else:
        assert kept is None
    assert stored.keys() == read_torch(without).keys()
    assert all(stored[name].equal(value) for name, value in read_torch(without).items())
    assert logits(out).equal(logits(without))


def test_a_parameter_on_one_side_is_still_refused(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "es", "math")):
        save_model(tmp_path / name, "llama", seed)
    store_again(tmp_path / "es", model__layers__0__self_attn__q_proj__bias=torch.zeros(16))
    with pytest.raises(InputError, match=r"layers\.0\.self_attn\.q_proj\.bias"):
        merged(tmp_path, **recipe(tmp_path))


def test_parts_of_every_dtype_are_added_up_in_float32(tmp_path: Path) -> None:
    """A bfloat16 base and a float16 model differ in ways that neither dtype could hold."""
    for seed, (name, dtype) in enumerate(
        {"base": torch.bfloat16, "es": torch.float16, "math": torch.float32}.items()
    ):
        save_model(tmp_path / name, "qwen3", seed, dtype=dtype)
    for dtype in ("float32", "bfloat16", "float16"):
        out = merged(tmp_path, dtype, **recipe(tmp_path, dtype=dtype))
        by_hand = expected(*(arrays(tmp_path / name) for name in ("base", "es", "math")))
        assert numpy_reference.differences(arrays(out), by_hand, dtype) == []
        assert {tensor.dtype for tensor in read_torch(out).values()} == {getattr(torch, dtype)}
        assert np.isfinite(logits(out).numpy()).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_parameter_without_dimensions_is_one_like_any_other(tmp_path: Path, dtype: str) -> None:
    for seed, name in enumerate(("base", "es", "math")):
        save_model(tmp_path / name, "llama", seed)
        store_again(tmp_path / name, model__scale=torch.tensor(1.5 + seed))
    out = merged(tmp_path, **recipe(tmp_path, dtype=dtype))
    by_hand = expected(*(arrays(tmp_path / name) for name in ("base", "es", "math")))
    assert by_hand.values["model.scale"] != 1.5
    assert numpy_reference.differences(arrays(out), by_hand, dtype) == []

"""What a merge says it will do, against what is known of a real model and what it then does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from maec import tensors
from maec.cli import app
from maec.dry_run import plan
from maec.errors import InputError
from maec.extract import extract
from maec.merge import merge
from maec.recipe import Recipe

from .checkpoints import llama, trained, write

LLAMA_3_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
PARAMETERS = 8_030_261_248  # as its model page on the hub says


def test_the_plan_of_an_8b_model_needs_its_config_alone(tmp_path: Path) -> None:
    for name in ("base", "math", "en", "es"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(LLAMA_3_8B))
    recipe = {
        "base": "base",
        "languages": [{"model": "es"}],
        "abilities": [{"model": "math", "pivot": "en"}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    found = plan(Recipe.model_validate(recipe, context={"folder": tmp_path}), 4 * 10**9)
    assert found.written == 2 * PARAMETERS
    # base and ability model to find key neurons, and then all four, of two bytes a parameter
    assert found.read == (2 + 4) * 2 * PARAMETERS
    assert found.files == 4 and found.memory <= 4 * 10**9
    command = ["merge", str(tmp_path / "recipe.yaml"), str(tmp_path / "out"), "--dry-run"]
    shown = CliRunner().invoke(app, [*command, "--memory", "4GB"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0 and not (tmp_path / "out").exists()
    assert "96.4 GB" in shown.output and "16.1 GB" in shown.output


def test_the_plan_of_what_lies_here_is_what_is_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    origin = llama(rng)
    write(tmp_path / "base", origin, shards=2)
    for name in ("es", "math"):
        write(tmp_path / name, trained(rng, origin))
    extract(tmp_path / "base", tmp_path / "math", tmp_path / "pack", beta=0)
    recipe = Recipe.model_validate(
        {
            "base": tmp_path / "base",
            "languages": [{"model": tmp_path / "es"}],
            "abilities": [{"pack": tmp_path / "pack"}],
        }
    )
    found = plan(recipe, 10**9)
    merge(recipe, tmp_path / "out")
    infos = tensors.open_tensors(tmp_path / "out", "model").values()
    assert found.written == sum(info.nbytes for info in infos)
    assert [role for role, *_ in found.parts] == ["base", "language", "pack"]


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    keys = {"base": tmp_path / "empty", "languages": [{"model": tmp_path / "empty"}]}
    with pytest.raises(InputError, match="neither weights nor a config"):
        plan(Recipe.model_validate(keys), 10**9)


def test_the_real_tensors_of_an_8b_model_pass_through(tmp_path: Path) -> None:
    """All its names and its proportions, at a 64th of the width, in four shards."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    small = {"hidden_size": 64, "intermediate_size": 224, "vocab_size": 2004}
    config = LlamaConfig(**LLAMA_3_8B | small | {"num_attention_heads": 32, "head_dim": 2})
    with torch.device("meta"):
        shapes = {
            name: tuple(value.shape)
            for name, value in AutoModelForCausalLM.from_config(config).named_parameters()
        }
    assert len(shapes) == 291
    generator = torch.Generator().manual_seed(0)
    base = {n: torch.randn(s, generator=generator).bfloat16() for n, s in shapes.items()}
    for model in ("base", "math", "en", "es"):
        folder = tmp_path / model
        folder.mkdir()
        config.save_pretrained(folder)
        (folder / "tokenizer.json").write_text("{}")
        change = 0.01 if model != "base" else 0.0
        values = {
            n: (t.float() + change * torch.randn(t.shape, generator=generator)).bfloat16()
            for n, t in base.items()
        }
        names = sorted(values)
        files = {n: f"model-{i % 4 + 1:05d}-of-00004.safetensors" for i, n in enumerate(names)}
        for file in set(files.values()):
            save_file({n: values[n] for n in names if files[n] == file}, folder / file)
        index = json.dumps({"metadata": {}, "weight_map": files})
        (folder / "model.safetensors.index.json").write_text(index)
    recipe = {
        "base": tmp_path / "base",
        "languages": [{"model": tmp_path / "es"}],
        "abilities": [{"model": tmp_path / "math", "pivot": tmp_path / "en"}],
    }
    merge(Recipe.model_validate(recipe), tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert {n: tuple(v.shape) for n, v in loaded.named_parameters()} == shapes
    report = json.loads((tmp_path / "out" / "maec.json").read_text())
    (ability,) = report["abilities"]
    assert ability["key_neurons"] == int(0.05 * ability["N"] + 0.5)

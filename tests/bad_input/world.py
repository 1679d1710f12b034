"""The folder in which mistakes are made: good parts beside one of every bad kind, made once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from harness.home import CHECKOUT
from tests.leaderboard.synthetic import Size, fill
from tests.maec.checkpoints import HIDDEN, LAYERS, WORDS, llama, trained, write

MATRIX = {"name": "tiny", "languages": ["te"], "abilities": ["math"], "methods": ["base"]}
TRAINED = {
    "methods": ["f-cpt-a"],
    "documents": {"general": 9, "pivot": 9, "ability": 9, "translated": 9},
    "training": {"ability": {"steps": 1, "learning_rate": 0.001}},
}
"""What a matrix says in which something is trained."""

RECIPE = {
    "base": "base",
    "languages": [{"model": "es"}],
    "abilities": [{"model": "math", "pivot": "en", "k1": 0.2}],
    "dtype": "float32",
}
MODEL = {"model": "math"}
RELEASE = "micro-2026-11"


def matrix(**changes: object) -> str:
    """A matrix file with these keys changed."""
    return yaml.safe_dump({**MATRIX, **changes})


def recipe(**changes: object) -> str:
    """A recipe with these keys changed."""
    return yaml.safe_dump({**RECIPE, **changes})


def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill ``folder``: checkpoints, released sets in ``results``, a store in ``scored``."""
    _checkpoints(folder)
    _sets(folder / "results")
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    monkeypatch.setenv("MAEC_HOME", str(folder / "scored"))
    fill(
        Size(methods=("base", "tv", "maec"), abilities=("math",), seeds=(0,), items=8), keys="aaaa"
    )


def _checkpoints(folder: Path) -> None:
    rng = np.random.default_rng(20250410)
    base = llama(rng)
    for name, tensors in {
        "base": base,
        **{name: trained(rng, base) for name in ("es", "math", "en")},
        "shape": base | {"model.norm.weight": np.zeros(3, np.float32)},
        "nan": base | {"model.norm.weight": np.full(HIDDEN, np.nan, np.float32)},
        "fewer": {k: v for k, v in base.items() if f"layers.{LAYERS - 1}." not in k},
        "cut": base,
        "pickled": base,
        "bare": base,
        "gpt": base,
        "quantised": base,
        "own-code": base,
        "no-json": base,
    }.items():
        write(folder / name, tensors)
    write(folder / "words", base, words=tuple(f"x{i}" for i in range(len(WORDS))))
    write(folder / "shards", base, shards=3)
    next((folder / "shards").glob("model-00002*")).unlink()
    weights = folder / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    (folder / "pickled" / "model.safetensors").unlink()
    (folder / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "bare" / "config.json").unlink()
    (folder / "no-json" / "config.json").write_text("{", encoding="utf-8")
    _configure(folder / "gpt", model_type="gpt2")
    _configure(folder / "own-code", auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    _configure(folder / "quantised", quantization_config={"bits": 4})
    for name, kind in (("lora", "LORA"), ("ia3", "IA3")):
        _adapter(folder / name, kind)


def _configure(checkpoint: Path, **changes: object) -> None:
    file = checkpoint / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), encoding="utf-8")


def _adapter(folder: Path, kind: str) -> None:
    """One of a base half as wide."""
    folder.mkdir()
    config = {"peft_type": kind, "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    of = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {
        f"{of}.lora_A.weight": torch.ones(2, HIDDEN // 2),
        f"{of}.lora_B.weight": torch.ones(HIDDEN // 2, 2),
    }
    save_file(factors, folder / "adapter_model.safetensors")


def _sets(results: Path) -> None:
    good = CHECKOUT / "results" / RELEASE
    for name in (RELEASE, "altered", "partial", "from-tomorrow", "no-json"):
        shutil.copytree(good, results / name)
    with (results / "altered" / "cells.parquet").open("ab") as file:
        file.write(b"1")
    (results / "partial" / "items.parquet").unlink()
    manifest = json.loads((good / "manifest.json").read_text("utf-8"))
    newer = json.dumps(manifest | {"schema_version": 99})
    (results / "from-tomorrow" / "manifest.json").write_text(newer, encoding="utf-8")
    (results / "no-json" / "manifest.json").write_text("{", encoding="utf-8")

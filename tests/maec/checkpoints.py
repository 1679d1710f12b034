"""Small random Llama checkpoints on disk, written with safetensors and json alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from .numpy_reference import Tensors, bfloat16

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, VOCAB = 16, 24, 2, 4, 2, 32
WORDS = ("<unk>", "<s>", "</s>", *(f"w{i}" for i in range(VOCAB - 3)))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def shapes(*, tied: bool = False) -> dict[str, tuple[int, ...]]:
    """The tensors of the tiny Llama; with tied embeddings there is no `lm_head.weight`."""
    kv = HIDDEN * KV_HEADS // HEADS
    layer = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (kv, HIDDEN),
        "self_attn.v_proj": (kv, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
    }
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN)}
    for i in range(LAYERS):
        found |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    found["model.norm.weight"] = (HIDDEN,)
    if not tied:
        found["lm_head.weight"] = (VOCAB, HIDDEN)
    return found


def on_grid(values: np.ndarray, grid: float | None) -> np.ndarray:
    """Values rounded to multiples of `grid` (for exact ties), as float32."""
    rounded = values if grid is None else np.round(values / grid) * grid
    return rounded.astype(np.float32)


def llama(rng: np.random.Generator, *, tied: bool = False, grid: float | None = None) -> Tensors:
    """Random weights of a trained model's size."""
    return {
        name: on_grid(rng.normal(1.0 if len(shape) == 1 else 0.0, 0.3, shape), grid)
        for name, shape in shapes(tied=tied).items()
    }


def trained(
    rng: np.random.Generator,
    base: Tensors,
    *,
    change: float = 0.05,
    frozen: Iterable[str] = (),
    grid: float | None = None,
) -> Tensors:
    """`base` after a training that left the tensors in `frozen` as they were."""
    still = set(frozen)
    return {
        name: value
        if name in still
        else (value + on_grid(rng.normal(0, change, value.shape), grid)).astype(np.float32)
        for name, value in base.items()
    }


def stored_as(tensors: Tensors, dtype: str) -> Tensors:
    """The float32 values that `write` of this dtype keeps."""
    if dtype == "bfloat16":
        return {name: bfloat16(value) for name, value in tensors.items()}
    return {name: value.astype(dtype).astype(np.float32) for name, value in tensors.items()}


def write(
    folder: Path,
    tensors: Tensors,
    *,
    dtype: str = "float32",
    shards: int = 1,
    words: tuple[str, ...] = WORDS,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a checkpoint that `transformers` loads; `shards` > 1 deals the tensors out in turn."""
    folder.mkdir(parents=True)
    ready = {n: torch.tensor(v).to(DTYPES[dtype]).contiguous() for n, v in tensors.items()}
    if shards == 1:
        save_file(ready, folder / "model.safetensors", metadata or {"format": "pt"})
    else:
        where = {}
        for i in range(shards):
            file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
            part = {n: ready[n] for n in list(ready)[i::shards]}
            save_file(part, folder / file, metadata or {"format": "pt"})
            where |= dict.fromkeys(part, file)
        total = sum(t.numel() * t.element_size() for t in ready.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    rows = len(tensors.get("model.embed_tokens.weight", WORDS))
    write_config(folder, dtype=dtype, tied="lm_head.weight" not in tensors, rows=rows)
    write_tokenizer(folder, words)
    return folder


def write_config(
    folder: Path, *, dtype: str = "float32", tied: bool = False, rows: int = VOCAB
) -> None:
    """config.json and generation_config.json of the tiny Llama."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": rows,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": tied,
        "dtype": dtype,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    generation = {"bos_token_id": 1, "eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(generation))


def write_tokenizer(folder: Path, words: tuple[str, ...] = WORDS) -> None:
    """A word-level tokenizer in the files that `AutoTokenizer` reads."""
    special = [
        {
            "id": i,
            "content": words[i],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i in range(3)
    ]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": words[0]},
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": words[0],
        "bos_token": words[1],
        "eos_token": words[2],
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def read(folder: Path) -> Tensors:
    """All tensors of a checkpoint as float32 arrays, read with safetensors."""
    return {n: t.float().numpy() for n, t in read_torch(folder).items()}


def read_torch(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint in their stored dtype, read with safetensors."""
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def same_bits(x: dict[str, torch.Tensor], y: dict[str, torch.Tensor]) -> bool:
    """Whether both hold the same names, dtypes, shapes and bytes."""
    return x.keys() == y.keys() and all(
        x[n].dtype == y[n].dtype
        and x[n].shape == y[n].shape
        and x[n].contiguous().view(torch.uint8).equal(y[n].contiguous().view(torch.uint8))
        for n in x
    )


def write_recipe(file: Path, **keys: object) -> Path:
    """A recipe file with these keys (`lambda_` stands for `lambda`); paths become text."""
    named = {key.rstrip("_"): value for key, value in keys.items()}
    file.write_text(yaml.safe_dump(_plain(named), sort_keys=False))
    return file


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value

"""Tiny random models of the families people merge, made and saved by transformers itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from .checkpoints import read_torch, write_tokenizer

FAMILIES = {  # model type → what tiny takes beside the common sizes
    "llama": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"query_pre_attn_scalar": 8, "sliding_window": 8},
    "gemma3_text": {"query_pre_attn_scalar": 8, "sliding_window": 8},
    "mistral": {"sliding_window": 8},
}
ROWS = 40


def save_model(
    folder: Path,
    family: str,
    seed: int,
    *,
    tied: bool = False,
    rows: int = ROWS,
    dtype: torch.dtype = torch.float32,
    shards: bool = False,
) -> Path:
    """A random model of `family` with norms that are no ones, as `save_pretrained` writes it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        vocab_size=rows,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **FAMILIES[family],
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder, max_shard_size="6KB" if shards else "1GB")
    write_tokenizer(folder)
    return folder


def store_again(folder: Path, **extra: torch.Tensor | str) -> None:
    """Store more tensors in a checkpoint of one file; text names a tensor to be stored again.

    `__` in a name stands for a dot.
    """
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name, value in extra.items():
        tensor = tensors[value].clone() if isinstance(value, str) else value
        tensors[name.replace("__", ".")] = tensor
    save_file(tensors, file, {"format": "pt"})


def logits(folder: Path) -> torch.Tensor:
    """What the checkpoint answers to a fixed text, computed in float32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor([[3, 14, 15, 9, 26, 5, 30, 8, 9]])).logits


def logits_of(folder: Path, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a model with the config in `folder` answers once these tensors are loaded by hand."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).float()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    model.eval()
    with torch.no_grad():
        return model(torch.tensor([[3, 14, 15, 9, 26, 5, 30, 8, 9]])).logits


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """The parameters of a checkpoint, without a tied copy and computed buffers, as float32."""
    found = read_torch(folder)
    return {
        name: tensor.float().numpy()
        for name, tensor in found.items()
        if tensor.is_floating_point() and not name.endswith("inv_freq")
    }

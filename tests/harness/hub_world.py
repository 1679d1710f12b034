"""A small world that looks like a hub's: models of real families, and text in files."""

import json
from pathlib import Path

FAMILIES = {
    "llama": {},
    "qwen2": {},
    "gemma3_text": {"query_pre_attn_scalar": 32, "sliding_window": 64},
}


def save_model(
    folder: Path,
    family: str,
    seed: int,
    origin: Path | None = None,
    *,
    positions: int = 512,
    dtype: str = "float32",
) -> Path:
    """A random model with the embedded world's tokenizer, or ``origin`` a little changed."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from harness.embedded import tokenizer

    tokens = tokenizer.build()
    torch.manual_seed(seed)
    if origin is None:
        config = AutoConfig.for_model(
            family,
            vocab_size=len(tokens),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=32,
            max_position_embeddings=positions,
            tie_word_embeddings=family == "gemma3_text",
            bos_token_id=None,
            eos_token_id=tokens.eos_token_id,
            pad_token_id=tokens.pad_token_id,
            **FAMILIES[family],
        )
        model = AutoModelForCausalLM.from_config(config)
    else:
        model = AutoModelForCausalLM.from_pretrained(origin, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, seed: int) -> Path:
    """A LoRA adapter of ``base`` with random factors, as peft saves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(model, LoraConfig(**settings))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.05)
    adapted.save_pretrained(folder)
    return folder


def lines(file: Path, rows: list[dict]) -> Path:
    """A file of JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return file


def data_set(folder: Path, name: str, shards: list[list[dict]], licence: str = "cc-by-4.0") -> Path:
    """A folder in a hub's format: a card with one configuration, and its shards."""
    for index, rows in enumerate(shards):
        lines(folder / "data" / f"{name}-{index:05d}-of-{len(shards):05d}.jsonl", rows)
    (folder / "README.md").write_text(
        f"---\nlicense: {licence}\nconfigs:\n- config_name: {name}\n  data_files:\n"
        f"  - split: train\n    path: data/{name}-*\n---\n# A data set\n"
    )
    return folder


def parquet(file: Path, rows: list[dict]) -> Path:
    """The rows in one file of Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), file)
    return file

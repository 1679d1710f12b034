"""Small random models with the embedded world's tokenizer, for tests that need live engines."""

from pathlib import Path

from harness.steps import Step
from maec.checkpoint import fingerprint, open_checkpoint


def random_model(folder: Path, seed: int) -> Path:
    """A Llama of 0.3M parameters, written by transformers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from harness.embedded import tokenizer

    tokens = tokenizer.build()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.2,  # so that two random models disagree about everything
        bos_token_id=None,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    path = folder / f"model-{seed}"
    LlamaForCausalLM(config).save_pretrained(path)
    tokens.save_pretrained(path)
    return path


def base_step(path: Path) -> Step:
    """A checkpoint as a step that others can start from."""
    settings = {"fingerprint": fingerprint(open_checkpoint(path))}
    return Step("base", settings, label="the base", path=path)

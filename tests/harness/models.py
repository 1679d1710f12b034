"""Small random models with the embedded world's tokenizer, for tests that need live engines."""

from pathlib import Path

from harness.steps import Step
from maec.checkpoint import fingerprint, open_checkpoint


def random_model(folder: Path, seed: int, *, family: str = "llama") -> Path:
    """A Llama of 0.3M parameters, or a Qwen2 with biases and tied embeddings, by transformers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from harness.embedded import tokenizer

    tokens = tokenizer.build()
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        family,
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
        tie_word_embeddings=family == "qwen2",
    )
    path = folder / f"model-{seed}"
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # which are made zero
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(path)
    tokens.save_pretrained(path)
    return path


def base_step(path: Path) -> Step:
    """A checkpoint as a step that others can start from."""
    settings = {"fingerprint": fingerprint(open_checkpoint(path))}
    return Step("base", settings, label="the base", path=path)

"""Channels that an ability uses: those whose activations its training changed.

The importance of ACT (Jin et al. 2026, arXiv 2601.09398), which locates an ability by what modules
put out rather than by how far parameters moved. A channel is a row of a linear layer's weight.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from maec.errors import InputError
from maec.neurons import Importance
from maec.own_code import require_allowed
from maec.token_blocks import pack

BATCH = 16


def activation_change(
    base: Path,
    trained: Path,
    documents: Iterable[str],
    *,
    length: int = 64,
    trust_remote_code: Collection[Path] = (),
) -> dict[str, Tensor]:
    """Relative change of every channel's activations on ``documents``, by weight name.

    For a linear layer with n channels a float32 tensor [n]: Σ|a_trained − a_base| / Σ|a_base| over
    all tokens, 0 for a channel that is always 0 in both. Documents are packed into blocks of
    ``length`` tokens. ``trust_remote_code`` names those of the two that may run code they bring.

    Raises:
        InputError: no document, or a checkpoint with code of its own.
    """
    for path in (base, trained):
        require_allowed(path, path in trust_remote_code, "name it in trust_remote_code")
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=base in trust_remote_code)
    blocks = list(pack(tokenizer, documents, length))
    if not blocks:
        raise InputError(f"{base}: there is no text to measure activations on; give a document")
    models = [
        AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, trust_remote_code=path in trust_remote_code
        )
        for path in (base, trained)
    ]
    records = [_record(model) for model in models]
    apart: dict[str, Tensor] = {}
    size: dict[str, Tensor] = {}
    for ids in torch.tensor(blocks).split(BATCH):
        for model in models:
            with torch.no_grad():
                model(input_ids=ids)
        before, after = records
        for name, output in before.items():
            apart[name] = apart.get(name, 0) + (after[name] - output).abs().sum((0, 1))
            size[name] = size.get(name, 0) + output.abs().sum((0, 1))
    # a channel at rest in the base that the ability woke up has changed most of all
    return {
        name: torch.where(apart[name] == 0, 0.0, apart[name] / size[name].clamp_min(1e-12))
        for name in apart
    }


def by_channel(change: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Importance:
    """The importance of every entry is that of its channel; meant for granularity ``row``."""
    return lambda name: change[name][:, None].expand(shapes[name])


def _record(model: PreTrainedModel) -> dict[str, Tensor]:
    """The output [batch, tokens, channels] of each linear layer, of the latest call, by weight."""
    latest: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: object, output: Tensor) -> None:
            latest[name] = output

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(keep(f"{name}.weight"))
    return latest

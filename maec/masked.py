"""Training that moves key neurons alone: what keeps every other entry as it was, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from maec.distributed import local, sharded_like
from maec.errors import InputError

Mask = Mapping[str, torch.Tensor]


class KeyNeurons(TrainerCallback):
    """N_A beside the parameters of a model in training.

    Each process holds the mask of what it holds of the parameters, once training began.
    """

    def __init__(self, model: torch.nn.Module, mask: Mask) -> None:
        """Freeze the tensors without key neurons.

        Raises:
            InputError: names or shapes of ``mask`` that do not fit ``model``.
        """
        self._mask = mask
        self._allowed: dict[torch.Tensor, torch.Tensor] = {}
        self.count = 0
        parameters = dict(model.named_parameters())
        for name in sorted({*mask, *parameters}):
            allowed = mask.get(name)
            keys = 0 if allowed is None else int(allowed.count_nonzero())
            if name not in parameters:
                if keys:
                    raise InputError(
                        f"mask: tensor '{name}' is not a parameter of the model; locate the key "
                        "neurons on the same base model"
                    )
            elif not keys:
                parameters[name].requires_grad_(False)
            elif allowed.shape != parameters[name].shape:
                raise InputError(
                    f"mask: tensor '{name}' has shape {tuple(allowed.shape)}, the model's has "
                    f"{tuple(parameters[name].shape)}; locate the key neurons on the same base "
                    "model"
                )
            self.count += keys

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: torch.nn.Module, **_: Any
    ) -> None:
        # only now are parameters what they will be: on their device, each process with its part
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self._allowed[parameter] = sharded_like(self._mask[name], parameter)

    def clear_gradients(self) -> None:
        """Zero the gradient outside the mask, before clipping sees its norm."""
        for parameter, allowed in self._allowed.items():
            if parameter.grad is not None:
                gradient = local(parameter.grad)
                gradient.copy_(torch.where(allowed, gradient, 0.0))

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, *, optimizer: torch.optim.Optimizer, **_: Any
    ) -> None:
        """AdamW's decoupled decay θ ← θ·(1 − lr·wd) on the masked entries alone."""
        if not args.weight_decay:
            return
        with torch.no_grad():
            for group in optimizer.param_groups:
                factor = 1.0 - group["lr"] * args.weight_decay
                for parameter in group["params"]:
                    held = local(parameter)
                    held.copy_(torch.where(self._allowed[parameter], held * factor, held))

"""What a training run may be told: every field changes the weights that come out.

Kept apart from :mod:`maec.train` so that a plan can be made without importing torch. Knobs that do
not change the result (threads, progress, where scratch files lie) are arguments of
:func:`maec.train.train`, not settings.
"""

from typing import Literal

from pydantic import Field, model_validator

from maec.strict import Strict


class TrainSettings(Strict):
    """Continual pre-training: optimiser steps, step size, and which parameters move.

    ``learning_rate`` is AdamW's peak, reached after ``warmup_ratio`` of the steps and followed by a
    cosine to ``min_lr_ratio`` of it. ``embedding_lr_multiplier`` scales it for the input embedding
    rows: text in a new language needs new rows far more than a new body. ``lora_rank`` trains
    low-rank adapters (Hu et al. 2022, arXiv 2106.09685) on all linear layers but the output layer
    and merges them afterwards; None trains full tensors. ``record_gradient`` also accumulates
    |∂L/∂θ| over all steps (METHOD.md: importance ``gradient``); with ``learning_rate`` 0 that is
    the gradient at Θ_o.

    Two fields save memory and change results by rounding alone: ``micro_batch_size`` sequences are
    computed at a time, and their gradients added up to those of a step; ``gradient_checkpointing``
    computes activations twice in place of keeping them.
    """

    steps: int = Field(ge=1)
    learning_rate: float = Field(ge=0)
    batch_size: int = Field(16, ge=1, description="sequences a step")
    sequence_length: int = Field(64, ge=2, description="tokens a sequence")
    embedding_lr_multiplier: float = Field(1.0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    min_lr_ratio: float = Field(0.05, ge=0, le=1)
    adam_beta2: float = Field(0.98, gt=0, lt=1)
    max_grad_norm: float = Field(1.0, gt=0)
    lora_rank: int | None = Field(None, ge=1)
    record_gradient: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    # left out where they are not used: steps that were made before there were these keep their keys
    micro_batch_size: int | None = Field(None, ge=1, exclude_if=lambda value: value is None)
    gradient_checkpointing: bool = Field(False, exclude_if=lambda value: not value)

    @model_validator(mode="after")
    def _whole_parts(self) -> "TrainSettings":
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size: {self.micro_batch_size} does not divide batch_size, "
                f"{self.batch_size}"
            )
        return self

    def sequences_together(self, processes: int) -> int:
        """How many sequences ``processes`` compute at a time, sharing them out among them.

        It divides ``batch_size``, and no process gets more of them than ``micro_batch_size``.
        """
        most = processes * (self.micro_batch_size or self.batch_size)
        return max(n for n in range(1, min(most, self.batch_size) + 1) if self.batch_size % n == 0)

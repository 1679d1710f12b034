"""What a training run may be told: every field changes the weights that come out.

Kept apart from :mod:`maec.train` so that a plan can be made without importing torch. Knobs that do
not change the result (threads, progress, where scratch files lie) are arguments of
:func:`maec.train.train`, not settings.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainSettings(BaseModel):
    """Continual pre-training: optimiser steps, step size, and which parameters move.

    ``learning_rate`` is AdamW's peak, reached after ``warmup_ratio`` of the steps and followed by a
    cosine to ``min_lr_ratio`` of it. ``embedding_lr_multiplier`` scales it for the input embedding
    rows: text in a new language needs new rows far more than a new body. ``lora_rank`` trains
    low-rank adapters (Hu et al. 2022, arXiv 2106.09685) on all linear layers but the output layer
    and merges them afterwards; None trains full tensors. ``record_gradient`` also accumulates
    |∂L/∂θ| over all steps (METHOD.md: importance ``gradient``); with ``learning_rate`` 0 that is
    the gradient at Θ_o.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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

"""Bytes of GPU memory that training and serving a model take, from its parameters and its config.

Estimates, made of what :mod:`maec.train` and the engines really keep. Where a config does not say
what is needed, they are None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.spec_machine import Engine
from maec.settings import TrainSettings

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one number."""

STATE = 4 + 4 + 8
"""Bytes of a parameter that is trained: weight, gradient and AdamW's two moments, in float32."""


@dataclass(frozen=True)
class Shape:
    """What a config says of the size of its model's layers, in transformers' terms."""

    hidden: int
    intermediate: int
    layers: int
    queries: int
    keys: int
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape | None":
        """None where a key is missing or no number.

        ``queries`` and ``keys`` are all heads' widths together.
        """
        text = config.get("text_config") or config
        try:
            heads = text["num_attention_heads"]
            width = text.get("head_dim") or text["hidden_size"] // heads
            return cls(
                hidden=text["hidden_size"],
                intermediate=text["intermediate_size"],
                layers=text["num_hidden_layers"],
                queries=width * heads,
                keys=width * (text.get("num_key_value_heads") or heads),
                vocabulary=text["vocab_size"],
            )
        except (KeyError, TypeError, ZeroDivisionError):
            return None


def training(
    settings: TrainSettings,
    parameters: int | None,
    shape: Shape | None,
    *,
    masked: bool = False,
    processes: int = 1,
) -> int | None:
    """Of one run: state of all trained parameters, and activations of one step.

    With several ``processes`` it is that of each, on a GPU of its own: a share of the state, and
    for the moment what is whole of the model, two layers, embeddings and output layer, with a
    gradient of the largest.

    Weights are float32 whatever the ``precision``, which in bfloat16 also keeps a copy of them.
    Only LoRA keeps no gradient and no moments of the others: with a mask (a byte an entry) the
    optimiser still has all. Stepping takes one more number a parameter, when
    activations are gone.
    """
    if parameters is None or shape is None:
        return None
    trained = parameters
    if settings.lora_rank is not None:
        trained = settings.lora_rank * _lora(shape)
    held = 4 * parameters + (STATE if settings.lora_rank else STATE - 4) * trained
    if settings.record_gradient:
        held += 4 * trained
    if masked:
        held += parameters
    number = BYTES[settings.precision]
    kept = activations(settings, shape, processes)
    if processes > 1:
        rows, layer = shape.vocabulary * shape.hidden, _layer(shape)
        kept += number * 2 * (layer + rows) + 4 * max(layer, rows)
    elif settings.precision != "float32":
        held += number * parameters
    return -(-held // processes) + max(kept, 4 * trained // processes)


def activations(settings: TrainSettings, shape: Shape, processes: int = 1) -> int:
    """What a step keeps for its backward pass, of the sequences that are computed at a time.

    For each of T tokens and L layers 24·h bytes of float32 (norms, residuals) and 4·h + 4·k + 4·f
    numbers in the run's precision (h hidden, k keys, f intermediate width; attention keeps no
    scores), and for each word of the vocabulary the logits, their float32 and its gradient. With
    gradient checkpointing it is h numbers a layer, and all of one layer.
    """
    number = BYTES[settings.precision]
    sequences = -(-settings.sequences_together(processes) // processes)
    tokens = sequences * settings.sequence_length
    layer = 24 * shape.hidden + number * 4 * (shape.hidden + shape.keys + shape.intermediate)
    layers = shape.layers * layer
    if settings.gradient_checkpointing:
        layers = shape.layers * number * shape.hidden + layer
    return tokens * (layers + shape.vocabulary * (number + 8))


def serving(engine: Engine, parameters: int | None, shape: Shape | None) -> int | None:
    """Weights, and keys and values of as many tokens as the engine may hold at a time."""
    if parameters is None or shape is None:
        return None
    sequences = engine.max_num_seqs if engine.kind == "vllm" else engine.batch_size
    cached = 2 * shape.layers * shape.keys * sequences * engine.max_model_len
    return weights(engine, parameters, shape) + BYTES[engine.dtype] * cached


def weights(engine: Engine, parameters: int, shape: Shape | None) -> int:
    """Of a model in an engine; embeddings and output layer are never quantised."""
    number = BYTES[engine.dtype]
    if engine.quantization is None or shape is None:
        return number * parameters
    return parameters + (number - 1) * min(2 * shape.vocabulary * shape.hidden, parameters)


def _layer(shape: Shape) -> int:
    """Parameters of the linear layers of one layer."""
    attention = 2 * shape.hidden * (shape.queries + shape.keys)
    return attention + 3 * shape.hidden * shape.intermediate


def _lora(shape: Shape) -> int:
    """Parameters of adapters of rank 1 on all linear layers but the output layer."""
    attention = 2 * (shape.hidden + shape.queries) + 2 * (shape.hidden + shape.keys)
    return shape.layers * (attention + 3 * (shape.hidden + shape.intermediate))

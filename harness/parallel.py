"""Can engines split their models as they are told to, and are there as many GPUs?"""

from collections.abc import Iterable, Mapping
from typing import Any

from harness import machine
from harness.spec import Matrix
from harness.spec_machine import Engine
from maec.errors import InputError

_PADDED = 64
"""vLLM pads a vocabulary to a multiple of this before it is split."""

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""What a config.json of a mixture of experts has."""


def require_splits(config: Mapping[str, Any], engine: Engine, where: str) -> None:
    """Refuse an engine that cannot split a model with this ``config``, by vLLM's own rules.

    What the config does not say is not judged. ``where`` is the engine's place, with its file.

    Raises:
        InputError: a size that does not divide the model.
    """
    text = config.get("text_config")
    config = text if isinstance(text, Mapping) else config
    tensors, stages = engine.tensor_parallel_size, engine.pipeline_parallel_size
    if tensors > 1 and any(config.get(key) for key in _EXPERTS):
        raise InputError(
            f"{where}.tensor_parallel_size: found {tensors}; allowed: 1, since parts of a mixture "
            "of experts cannot be verified after a switch of weights; share layers by "
            "pipeline_parallel_size, or leave it out"
        )
    heads, layers = config.get("num_attention_heads"), config.get("num_hidden_layers")
    if isinstance(heads, int) and not _splits(config, tensors):
        allowed = [str(size) for size in range(1, heads + 1) if _splits(config, size)]
        raise InputError(
            f"{where}.tensor_parallel_size: found {tensors}; allowed: {', '.join(allowed)}, which "
            f"divide the base's {_parts(config)}"
        )
    if isinstance(layers, int) and stages > layers:
        raise InputError(
            f"{where}.pipeline_parallel_size: found {stages}; allowed: 1 to {layers}, the base's "
            "layers"
        )


def require_gpus(matrix: Matrix, gpus: int, *, engines: int = 1) -> None:
    """Refuse engines that need more than the ``gpus`` that so many ``engines`` share.

    Without a GPU an engine is split among processes of this machine.

    Raises:
        InputError: there are too few, or none for what only GPUs can do.
    """
    for place, engine in matrix.engines().items():
        where = f"{matrix.file}: {place}"
        if engine.quantization is not None and not gpus:
            raise InputError(
                f"{where}.quantization: found '{engine.quantization}', which takes a GPU, and this "
                "machine has none; leave it out, or run where there is one"
            )
        if gpus and engines * engine.workers > gpus:
            sizes = {
                "tensor_parallel_size": engine.tensor_parallel_size,
                "pipeline_parallel_size": engine.pipeline_parallel_size,
                "data_parallel_size": engines,
            }
            larger = {name: size for name, size in sizes.items() if size > 1}
            first = next(iter(larger))
            raise InputError(
                f"{where}.{first}: found {larger[first]}; {' × '.join(larger)} is "
                f"{engines * engine.workers} GPUs, and {gpus} can be used; allowed: sizes whose "
                f"product is at most {gpus}"
            )


def require_gpus_here(matrix: Matrix) -> None:
    """As :func:`require_gpus`, of this machine; a cluster's are looked at when it is joined."""
    if matrix.executor.kind == "local":
        count = matrix.engine.data_parallel_size or 1
        require_gpus(matrix, len(machine.visible_gpus()), engines=count)


def _splits(config: Mapping[str, Any], size: int) -> bool:
    """Whether vLLM can split every matrix of a model into ``size`` parts."""
    heads, keys = config["num_attention_heads"], config.get("num_key_value_heads")
    keys = keys if isinstance(keys, int) and keys else heads
    vocabulary = config.get("vocab_size")
    padded = -(-vocabulary // _PADDED) * _PADDED if isinstance(vocabulary, int) else 0
    whole = (heads, _wide(config), padded)
    # there are copies of a key's head where workers are more
    return not any(number % size for number in whole) and not max(size, keys) % min(size, keys)


def _wide(config: Mapping[str, Any]) -> int:
    found = config.get("intermediate_size")
    return found if isinstance(found, int) else 0


def _parts(config: Mapping[str, Any]) -> str:
    """What is split, in words."""
    named: Iterable[tuple[str, Any]] = (
        ("attention heads", config["num_attention_heads"]),
        ("key heads", config.get("num_key_value_heads")),
        ("intermediate_size", _wide(config)),
    )
    return ", ".join(f"{number} {name}" for name, number in named if number)

"""Does a live engine serve exactly the weights of a checkpoint?

vLLM fuses tensors (q, k and v into one), pads the vocabulary, and on CPU packs linear layers into
an opaque form, so tensors cannot be compared one by one. What survives all of that is every row of
every matrix: a product of each row with a fixed random vector, taken from the engine's live layers
and from the checkpoint's files, must give the same numbers in some order. One stale or missing
tensor gives other numbers.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from maec.checkpoint import Checkpoint

Products = dict[int, torch.Tensor]
"""Width of a matrix → the products of all rows of that width, sorted; width 1 holds vectors."""


class ServedWeights:
    """Mixed into vLLM's worker (``worker_extension_cls``), so that an engine can be asked."""

    model_runner: Any

    def served_products(self) -> Products:
        """Row products of everything that the live model computes with."""
        found: list[torch.Tensor] = []
        model = self.model_runner.get_model()
        for module in model.modules():
            packed = getattr(module, "cpu_linear", None)
            if packed is not None and module.weight.numel() == 0:
                width = module.input_size_per_partition
                probe = _probe(width).to(module.weight.dtype)
                rows = packed(probe.unsqueeze(0), module.weight, None).flatten()
                found.append(_tagged(width, rows))
        for parameter in model.parameters():
            if parameter.numel():
                found.append(_row_products(parameter.detach()))
        return _sorted(found)


class StreamedProducts:
    """Row products of tensors on their way into an engine, of which none is kept.

    They are rounded to the engine's dtype first. ``base`` tells whether embeddings are tied.
    """

    def __init__(self, base: Checkpoint, dtype: torch.dtype) -> None:
        self._tied = base.config.get("tie_word_embeddings", False)
        self._dtype = dtype
        self._found: list[torch.Tensor] = []

    def watch(
        self, tensors: Iterable[tuple[str, torch.Tensor]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in tensors:
            if tensor.is_floating_point() and not (self._tied and name == "lm_head.weight"):
                self._found.append(_row_products(tensor.to(self._dtype)))
            yield name, tensor

    def products(self) -> Products:
        """Of everything that passed."""
        return _sorted(self._found)


def checkpoint_products(checkpoint: Checkpoint, dtype: torch.dtype) -> Products:
    """Row products of a checkpoint's tensors, rounded to the engine's dtype first."""
    passed = StreamedProducts(checkpoint, dtype)
    for _ in passed.watch((name, checkpoint.read(name)) for name in checkpoint.tensors):
        pass
    return passed.products()


def differences(served: Products, expected: Products, tolerance: float) -> list[str]:
    """What differs, in words; empty when the engine serves the checkpoint.

    ``tolerance`` is relative to the largest product of the same width.
    """
    problems = []
    for width in sorted(served.keys() | expected.keys()):
        ours, theirs = (p.get(width, torch.empty(0)) for p in (served, expected))
        if len(ours) != len(theirs):
            problems.append(f"{len(ours)} rows of width {width} instead of {len(theirs)}")
        elif len(ours):
            apart = (ours - theirs).abs().max().item()
            if not apart <= tolerance * max(theirs.abs().max().item(), 1e-6):
                problems.append(f"rows of width {width} differ by up to {apart:.3g}")
    return problems


def _probe(width: int) -> torch.Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(width))


def _row_products(tensor: torch.Tensor) -> torch.Tensor:
    """One column of widths and one of products; a vector's entries stand for themselves."""
    values = tensor.to("cpu", torch.float32)
    if values.dim() < 2:
        return _tagged(1, values.flatten())
    width = values.shape[-1]
    return _tagged(width, values.reshape(-1, width) @ _probe(width))


def _tagged(width: int, products: torch.Tensor) -> torch.Tensor:
    values = products.to("cpu", torch.float32)
    return torch.stack([torch.full_like(values, width), values])


def _sorted(found: list[torch.Tensor]) -> Products:
    if not found:
        return {}
    widths, products = torch.cat(found, dim=1)
    # rows of zeros are padding; products are compared in sorted order, since fusing reorders rows
    return {
        int(width): products[(widths == width) & (products != 0)].sort().values
        for width in widths.unique()
    }

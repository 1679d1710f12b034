"""Arithmetic on pieces of tensors, on the device they lie on.

On a CPU the loops are compiled (:mod:`maec.kernels`), elsewhere they are torch's.  Both round every
operation by itself to float32, so that they give the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maec import kernels
from maec.errors import InputError

COMPILED = (torch.bfloat16, torch.float32)
"""What the compiled loops round to."""


class Sparse(NamedTuple):
    """Entries of a piece: ``places`` (int64, ascending) and the float32 ``values`` there."""

    places: Tensor
    values: Tensor


def device(name: str) -> torch.device:
    """The device called ``name``: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        InputError: no such device is here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    allowed = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    if name not in allowed:
        raise InputError(f"--device: {name!r} is not here; give one of {', '.join(allowed)}")
    return torch.device(name)


def _array(tensor: Tensor) -> np.ndarray:
    """A CPU tensor as the compiled loops read it; bfloat16 and float32 are not copied."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return tensor.float().numpy()


def is_compiled(tensor: Tensor) -> bool:
    """Whether the compiled loops can work on ``tensor``."""
    return tensor.device.type == "cpu"


def plus_difference(
    total: Tensor | None,
    origin: Tensor,
    trained: Tensor,
    factor: float,
    places: Tensor | None = None,
) -> Tensor:
    """total + factor·(trained − origin), float32; all entries, or those at ``places`` (int64).

    Without a ``total`` that is 0; else it is written to.
    """
    if not is_compiled(origin):
        if places is not None:
            origin, trained = origin[places], trained[places]
        change = trained.float() - origin.float()
        change = change if factor == 1 else change.mul_(factor)
        return change if total is None else total.add_(change)
    start, end = _array(origin).ravel(), _array(trained).ravel()
    new = total is None
    if total is None:
        total = torch.empty(origin.shape if places is None else places.shape)
    at = () if places is None else (places.numpy(),)
    if places is None:
        work = kernels.difference if new else kernels.add_difference
    else:
        work = kernels.difference_at if new else kernels.add_difference_at
    work(start, end, *at, np.float32(factor), total.numpy().ravel())
    return total


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor."""
    return memoryview(tensor.view(torch.uint8).numpy())


def is_finite(tensor: Tensor) -> bool:
    """Whether a CPU tensor, of any dtype, holds no NaN and no infinite number."""
    if tensor.dtype in COMPILED:
        return kernels.finite(_array(tensor))
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def square(vector: Tensor) -> float:
    """Σ vector², in float64, of a float32 tensor."""
    if is_compiled(vector):
        return kernels.square(vector.numpy())
    exact = vector.double()
    return float(exact @ exact)


def products(weights: Sparse, language: Tensor) -> tuple[float, float]:
    """Σ r·l and Σ r², in float64, over the places of R(A) that are given."""
    if is_compiled(language):
        places, values = weights.places.numpy(), weights.values.numpy()
        return kernels.products(values, language.numpy(), places)
    ours, theirs = weights.values.double(), language[weights.places].double()
    return float(ours @ theirs), float(ours @ ours)


def above(origin: Tensor, trained: Tensor, begin: int, width: int) -> tuple[Tensor, Tensor]:
    """Units whose importance has bits of at least ``begin``: places (int64, ascending) and bits.

    A unit is an entry, scored by |trained − origin|, or a row of ``width`` entries, scored by the
    mean of that.  The bits (int32) of numbers that are not negative are in their order.
    """
    if width == 1 and is_compiled(origin):
        places = np.empty(origin.numel(), dtype=np.int64)
        bits = np.empty(origin.numel(), dtype=np.int32)
        start, end = _array(origin), _array(trained)
        count = kernels.above(start, end, np.uint32(begin), places, bits)
        return torch.from_numpy(places[:count].copy()), torch.from_numpy(bits[:count].copy())
    scores = plus_difference(None, origin, trained, 1).abs_()
    if width > 1:
        # summed in float64: a float32 mean would depend on how a machine splits the sum
        scores = scores.view(-1, width).mean(dim=1, dtype=torch.float64).float()
    found = scores.view(torch.int32)
    units = (found >= begin).nonzero()[:, 0]
    return units, found[units]


def spread(units: Tensor, width: int) -> Tensor:
    """The places of all entries of ``units``, each ``width`` entries."""
    if width == 1:
        return units
    return (units[:, None] * width + torch.arange(width, device=units.device)).ravel()


def add_at(change: Tensor, weights: Sparse, factor: float) -> None:
    """Add factor·values to ``change`` at the places of ``weights``, in the dtype of ``change``."""
    if is_compiled(change) and change.dtype == torch.float32:
        places, values = weights.places.numpy(), weights.values.numpy()
        kernels.add_at(change.numpy(), places, values, np.float32(factor))
        return
    change.index_add_(0, weights.places, (weights.values * factor).to(change.dtype))


def round_sum(origin: Tensor, change: Tensor, stored: Tensor) -> tuple[bool, float, float]:
    """Write origin + change, rounded, to ``stored``.

    Whether all of it is finite, and in float64 Σ change² and Σ of the squares of what rounding
    changed.
    """
    if is_compiled(stored) and stored.dtype in COMPILED:
        return kernels.finish(_array(origin), change.numpy(), _array(stored))
    exact = origin.float() + change
    stored.copy_(exact)
    finite = bool(torch.isfinite(stored).all())
    return finite, square(change), square(stored.float() - exact)


def rounded(
    origin: Tensor, change: Tensor, stored: Tensor, weights: Sparse, factor: float
) -> tuple[int, int, float, float]:
    """What rounding took from factor·weights, which are part of ``change``.

    How many are not zero, how many of these make no difference to what is stored, and in float64
    the sum of their squares, and that of the squares of how far the difference they make is off.
    """
    places, values = weights
    if is_compiled(stored) and stored.dtype in COMPILED:
        arrays = _array(origin), change.numpy(), _array(stored)
        return kernels.rounded(*arrays, places.numpy(), values.numpy(), np.float32(factor))
    own = values * factor
    exact = origin[places].float() + change[places]
    before = (exact - own).to(stored.dtype).float()
    made = stored[places].float() - before
    lost = (own != 0) & (made == 0)
    return (
        int(own.count_nonzero()),
        int(lost.count_nonzero()),
        square(own),
        square(made.sub_(own)),
    )

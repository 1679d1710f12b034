"""Arithmetic on pieces of tensors, on the device they lie on.

On a CPU the loops are compiled (:mod:`maec.kernels`), elsewhere, and for a result in float16, they
are torch's.  Both round every operation by itself to float32, so that they give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Σ vector², in float64."""
    exact = vector.double()
    return float(exact @ exact)


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


def products(weights: Sparse, language: Tensor) -> tuple[float, float]:
    """Σ r·l and Σ r², in float64, over the places of R(A) that are given."""
    ours, theirs = weights.values.double(), language[weights.places].double()
    return float(ours @ theirs), float(ours @ ours)


def rounded(
    origin: Tensor, change: Tensor, stored: Tensor, weights: Sparse, factor: float
) -> tuple[int, int, float, float]:
    """What rounding took from factor·weights, which are part of ``change``.

    How many are not zero, how many of these make no difference to what is stored, and in float64
    the sum of their squares, and that of the squares of how far the difference they make is off.
    """
    places, own = weights.places, weights.values * factor
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


class Part(NamedTuple):
    """R(A) in a piece, its γ, and whether it is added; else it is only measured."""

    weights: Sparse
    gamma: float
    is_added: bool


class Merged(NamedTuple):
    """What is seen while a piece is merged.

    ``sums`` are Σ l² of the language weights, Σ of the squares of all changes, and of what rounding
    took from them.  ``of_abilities`` (abilities, 7) has how many entries R(A) has, Σ r·l and Σ r²,
    and, of those that are added and not zero, how many there are, how many make no difference to
    what is stored, Σ of their squares, and of those of how far the difference they make is off.
    """

    is_finite: bool
    sums: np.ndarray
    of_abilities: np.ndarray


def merge_compiled(
    origin: Tensor,
    languages: Sequence[tuple[Tensor, float]],
    parts: Sequence[Part],
    lam: float,
    stored: Tensor,
) -> Merged:
    """``combine.merged`` by compiled loops, for what ``is_compiled`` and rounds to ``COMPILED``."""
    total: Tensor | None = None
    for trained, mu in languages[:-1]:
        total = plus_difference(total, origin, trained, mu)
    last, mu = languages[-1] if languages else (origin, 0)
    places = [part.weights.places.numpy() for part in parts]
    values = [part.weights.values.numpy() for part in parts]
    sums, of_abilities = np.zeros(3), np.zeros((len(parts), 7))
    is_finite = kernels.merge(
        _array(origin),
        (torch.empty(0) if total is None else total).numpy(),
        _array(last),
        np.float32(mu),
        np.float32(lam),
        _joined(places, np.int64),
        _joined(values, np.float32),
        np.cumsum([len(of_part) for of_part in places], dtype=np.int64),
        np.array([part.gamma for part in parts], dtype=np.float32),
        np.array([part.is_added for part in parts], dtype=np.bool_),
        _array(stored),
        sums,
        of_abilities,
    )
    return Merged(is_finite, sums, of_abilities)


def _joined(arrays: Sequence[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.empty(0, dtype), *arrays])

"""What rounding to the dtype of the result takes: from the whole change, and from each ability."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maec.combine import Sparse

RUN = 256
"""Entries that are summed in float32: six digits of a norm need no more."""


def of_model(change: Tensor, exact: Tensor, stored: Tensor) -> np.ndarray:
    """Squared L2 norms of a piece, float64 [2]: of Θ_F − Θ_o, and of what rounding Θ_F changed.

    ``change`` (Θ_F − Θ_o) and ``exact`` (Θ_F) are float32, ``stored`` is Θ_F in the dtype of the
    result.
    """
    return np.array([_square(change), _square(stored.float().sub_(exact))])


def of_ability(exact: Tensor, stored: Tensor, weights: Sparse, gamma: float) -> np.ndarray:
    """Sums over one ability's entries in a piece, float64 [4]; its weights are part of ``exact``.

    How many of its weights are not zero; how many of these make no difference to what is stored;
    and squared L2 norms: of γ·R(A), and of γ·R(A) less the difference that it makes.
    """
    change = weights.values * gamma
    after = stored[weights.places]
    before = (exact[weights.places] - change).to(stored.dtype)
    not_zero = change != 0
    lost = not_zero & (after == before)
    made = after.float().sub_(before.float())
    counts = int(not_zero.count_nonzero()), int(lost.count_nonzero())
    return np.array([*counts, _square(change), _square(made.sub_(change))])


def described_model(sums: np.ndarray) -> dict[str, float]:
    """What ``maec.json`` says of the sums of ``of_model`` over all pieces."""
    return {"relative_error": _ratio(sums[1], sums[0])}


def described_ability(sums: np.ndarray) -> dict[str, Any]:
    """What ``maec.json`` says of the sums of ``of_ability`` over all pieces."""
    changed, lost, size, error = sums
    return {
        "changed": int(changed),
        "rounded_away": int(lost),
        "relative_error": _ratio(error, size),
    }


def _ratio(error: float, size: float) -> float:
    """Of two L2 norms from their squares, to six digits."""
    return float(f"{math.sqrt(error / size):.6g}") if size else 0.0


def _square(vector: Tensor) -> float:
    """The squared L2 norm: float32 within short runs, float64 over them."""
    whole = len(vector) // RUN * RUN
    runs, rest = vector[:whole].view(-1, RUN), vector[whole:].double()
    return float(torch.linalg.vecdot(runs, runs).sum(dtype=torch.float64) + rest @ rest)

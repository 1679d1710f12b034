"""What rounding to the dtype of the result takes, as it is reported."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def described_model(sums: np.ndarray) -> dict[str, float]:
    """What ``maec.json`` says of all pieces' sums: (Θ_F − Θ_o)², and roundings squared."""
    return {"relative_error": _ratio(sums[1], sums[0])}


def described_ability(sums: np.ndarray) -> dict[str, Any]:
    """What ``maec.json`` says of an ability, from the sums of ``arithmetic.rounded``."""
    changed, lost, size, error = sums
    return {
        "changed": int(changed),
        "rounded_away": int(lost),
        "relative_error": _ratio(error, size),
    }


def _ratio(error: float, size: float) -> float:
    """Of two L2 norms from their squares, to six digits."""
    return float(f"{math.sqrt(error / size):.6g}") if size else 0.0

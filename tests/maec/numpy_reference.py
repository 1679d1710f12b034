"""METHOD.md in plain numpy: what `maec` is compared with.

Whole models are dicts of float32 arrays held in memory, every top-k is a stable sort, sums are
float64, and nothing here imports `maec`. Slow and simple on purpose: it should be checkable
against the text by eye.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor

import numpy as np

Tensors = dict[str, np.ndarray]

HALF_ULP = 2.0**-24  # of float32


def share_of(share: float, count: int) -> int:
    """⌊share·count + ½⌋, in float64."""
    return floor(share * count + 0.5)


def value_change(base: Tensors, trained: Tensors) -> Tensors:
    """|θ' − θ|, the float32 difference."""
    return {name: np.abs(trained[name] - base[name]) for name in base}


def key_neurons(importance: Tensors, k1: float, granularity: str = "parameter") -> Tensors:
    """N_A as boolean arrays: the top k1 of the whole model, ties to the lower position."""
    names = sorted(importance)
    if granularity == "row":
        scores = [row_scores(importance[name]) for name in names]
    else:
        scores = [importance[name].ravel() for name in names]
    flat = np.concatenate(scores)
    # a stable sort by falling score keeps equal scores in the order of their positions
    chosen = np.argsort(-flat, kind="stable")[: share_of(k1, flat.size)]
    marks = np.zeros(flat.size, dtype=bool)
    marks[chosen] = True
    mask, begin = {}, 0
    for name, part in zip(names, scores, strict=True):
        of_tensor = marks[begin : begin + part.size]
        begin += part.size
        shape = importance[name].shape
        if granularity == "row":
            width = importance[name].size // part.size
            of_tensor = np.repeat(of_tensor, width)
        mask[name] = of_tensor.reshape(shape)
    return mask


def row_scores(importance: np.ndarray) -> np.ndarray:
    """The mean of every row; a tensor with one dimension is one row."""
    rows = importance.reshape(1, -1) if importance.ndim < 2 else importance
    return rows.astype(np.float64).mean(axis=1)


def ability_weights(
    base: Tensors, ability: Tensors, pivot: Tensors | None, mask: Tensors, alpha: float, beta: float
) -> Tensors:
    """R(A) = α·(Θ_A,L0 − Θ_o) − β·(Θ_L0 − Θ_o) inside N_A, zero outside."""
    weights = {}
    for name, origin in base.items():
        change = alpha * (ability[name].astype(np.float64) - origin)
        if pivot is not None:
            change -= beta * (pivot[name].astype(np.float64) - origin)
        weights[name] = np.where(mask[name], change, 0.0)
    return weights


def language_weights(base: Tensors, languages: list[tuple[Tensors, float]]) -> Tensors:
    """R_lang = Σ_j μ_j·(Θ_Lj − Θ_o)."""
    return {
        name: sum(
            (mu * (model[name].astype(np.float64) - origin) for model, mu in languages),
            start=np.zeros(origin.shape),
        )
        for name, origin in base.items()
    }


def cosine_similarity(x: np.ndarray, y: np.ndarray) -> float:
    """⟨x, y⟩ / (‖x‖·‖y‖), and 0 where either is all zero."""
    x, y = x.ravel().astype(np.float64), y.ravel().astype(np.float64)
    if not x.any() or not y.any():
        return 0.0
    return float(np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)))


def select(similarities: dict[str, float], k2: float, ranking: str = "signed") -> set[str]:
    """T(A): the ⌊k2·M + ½⌋ tensors of lowest similarity, ties by name."""
    rank = abs if ranking == "absolute" else float
    in_order = sorted(similarities, key=lambda name: (rank(similarities[name]), name))
    return set(in_order[: share_of(k2, len(similarities))])


@dataclass(frozen=True)
class Ability:
    """One entry of `abilities`, with the defaults that METHOD.md starts from."""

    model: Tensors
    pivot: Tensors | None = None
    k1: float = 0.05
    alpha: float = 0.8
    beta: float = 0.0
    gamma: float = 0.2
    k2: float = 0.8


@dataclass
class Merged:
    """Θ_F in float64, and how far float32 arithmetic may stray from it, entry by entry."""

    values: dict[str, np.ndarray]
    tolerance: dict[str, np.ndarray]
    masks: list[Tensors] = field(default_factory=list)
    similarities: list[dict[str, float]] = field(default_factory=list)
    selected: list[set[str]] = field(default_factory=list)


def merge(
    base: Tensors,
    languages: list[tuple[Tensors, float]],
    abilities: list[Ability],
    *,
    lam: float = 1.0,
    similarity: str = "signed",
    granularity: str = "parameter",
) -> Merged:
    """Θ_F[τ] = Θ_o[τ] + λ·R_lang[τ] + Σ_{A : τ ∈ T(A)} γ_A·R(A)[τ]."""
    r_lang = language_weights(base, languages)
    values = {name: base[name] + lam * r_lang[name] for name in base}
    # Each float32 operation errs by at most half a unit in the last place of its result, and no
    # intermediate result is larger than the sum of the terms' sizes.
    sizes = {
        name: np.abs(base[name].astype(np.float64))
        + sum(np.abs(lam * mu * (model[name] - base[name])) for model, mu in languages)
        for name in base
    }
    merged = Merged(values, {})
    for a in abilities:
        mask = key_neurons(value_change(base, a.model), a.k1, granularity)
        r_a = ability_weights(base, a.model, a.pivot, mask, a.alpha, a.beta)
        similarities = {name: cosine_similarity(r_a[name], r_lang[name]) for name in base}
        selected = select(similarities, a.k2, similarity)
        for name in selected:
            values[name] = values[name] + a.gamma * r_a[name]
            change = np.abs(a.alpha * (a.model[name] - base[name]))
            if a.pivot is not None:
                change = change + np.abs(a.beta * (a.pivot[name] - base[name]))
            sizes[name] = sizes[name] + np.abs(a.gamma * change) * mask[name]
        merged.masks.append(mask)
        merged.similarities.append(similarities)
        merged.selected.append(selected)
    operations = 2 + 5 * len(languages) + 10 * len(abilities)
    merged.tolerance = {n: operations * HALF_ULP * sizes[n] for n in base}
    return merged


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Values as they are after one rounding (to nearest, ties to even) to `dtype`, in float64."""
    if dtype == "bfloat16":
        return bfloat16(values.astype(np.float32)).astype(np.float64)
    return values.astype(dtype).astype(np.float64)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 values rounded to the nearest bfloat16, ties to even (finite values only)."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    even = (bits >> 16) & 1
    return ((bits + 0x7FFF + even) & np.uint32(0xFFFF0000)).view(np.float32).reshape(values.shape)


def differences(result: Tensors, expected: Merged, dtype: str) -> list[str]:
    """The tensors of `result` that no float32 computation rounded once to `dtype` could give.

    Rounding keeps order, so an entry is right when it lies between the rounded ends of the
    interval that float32 arithmetic may reach around the exact value.
    """
    wrong = []
    if result.keys() != expected.values.keys():
        wrong.append(f"names differ: {sorted(result.keys() ^ expected.values.keys())}")
    for name in result.keys() & expected.values.keys():
        value, slack = expected.values[name], expected.tolerance[name]
        low, high = rounded(value - slack, dtype), rounded(value + slack, dtype)
        bad = ~((low <= result[name]) & (result[name] <= high))
        if bad.any():
            at = np.unravel_index(bad.argmax(), bad.shape)
            wrong.append(
                f"{name}{list(map(int, at))}: {result[name][at]!r}, expected {value[at]!r} "
                f"± {slack[at]!r} ({int(bad.sum())} of {bad.size} entries)"
            )
    return sorted(wrong)

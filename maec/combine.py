"""Combination: language weights, similarity, selection, and the sum that is the result.

Pure functions on tensors, in float32 whatever the dtype of the checkpoints, one tensor at a time.
Symbols are those of METHOD.md: R_lang, R(A), T(A), μ, λ, γ, k2.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from maec.errors import InputError
from maec.pieces import pieces

Read = Callable[[str], Tensor]
Ranking = Literal["signed", "absolute", "random"]


def language_weights(base: Tensor, languages: Iterable[tuple[Tensor, float]]) -> Tensor:
    """R_lang = Σ_j μ_j·(Θ_Lj − Θ_o) of one tensor, float32, from pairs (Θ_Lj, μ_j).

    The sum runs in the order given; zero without languages.
    """
    total = torch.zeros(base.shape)
    for tensor, mu in languages:
        for t, trained, origin in pieces(total, tensor, base):
            t.add_(trained.float() - origin, alpha=mu)
    return total


def cosine_similarity(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two tensors taken as flat vectors, in [-1, 1].

    It is 0 by definition when either is all zero *(choice)*.  Sums run in float64 and the result
    is rounded to 12 decimals, so that the order of a sum, which differs between machines, does not
    decide between tensors that are equally similar.
    """
    product = square_a = square_b = 0.0
    for x, y in pieces(a, b):
        x, y = x.double(), y.double()
        product += float(x @ y)
        square_a += float(x @ x)
        square_b += float(y @ y)
    if square_a == 0 or square_b == 0:
        return 0.0
    cosine = product / (math.sqrt(square_a) * math.sqrt(square_b))
    return round(max(-1.0, min(1.0, cosine)), 12)


def select(
    similarities: Mapping[str, float], k2: float, ranking: Ranking = "signed", seed: int = 0
) -> set[str]:
    """T(A): the ⌊k2·M + ½⌋ of the M tensors whose R(A) is least similar to R_lang.

    There ability and language interfere least.  Ties go to the name that sorts first.  Ranking
    ``random`` is a control: as many tensors, which ones depends on ``seed`` and their names alone.

    Raises:
        InputError: ``k2`` outside [0, 1].
    """
    if not 0 <= k2 <= 1:
        raise InputError(f"k2: {k2} is outside [0, 1]; give the share of tensors to be selected")

    def rank(name: str) -> tuple[float | str, str]:
        similarity = similarities[name]
        match ranking:
            case "signed":
                return similarity, name
            case "absolute":
                return abs(similarity), name
            case "random":
                return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest(), name

    count = math.floor(k2 * len(similarities) + 0.5)
    return set(sorted(similarities, key=rank)[:count])


@dataclass(frozen=True)
class Addend:
    """One ability's part in the sum: γ_A, T(A), and R(A) by tensor name."""

    gamma: float
    selected: Collection[str]
    delta: Read


def combined_tensors(
    names: Iterable[str], base: Read, language: Read, abilities: Sequence[Addend], lam: float
) -> Iterator[tuple[str, Tensor]]:
    """Θ_F[τ] = Θ_o[τ] + λ·R_lang[τ] + Σ_{A : τ ∈ T(A)} γ_A·R(A)[τ] for every τ in ``names``.

    Yields float32 tensors.  Tensors that are not floating-point are the base's, unchanged
    *(choice)*.  The changes are summed before the base is added: they are small beside it.
    """
    for name in names:
        tensor = base(name)
        if not tensor.is_floating_point():
            yield name, tensor
            continue
        change = language(name).mul_(lam)
        for ability in abilities:
            if name in ability.selected:
                change.add_(ability.delta(name), alpha=ability.gamma)
        yield name, change.add_(tensor)

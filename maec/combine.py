"""Combination: language weights, ability weights, similarity, selection, and their sum.

Pure functions on flat pieces of tensors, on a CPU or a GPU.  All arithmetic is float32, whatever
the dtype of the checkpoints, in single operations rounded one by one: a result does not depend on
how a machine fuses them, on the piece that an entry lies in, or on the number of threads.  Symbols
are those of METHOD.md: R_lang, R(A), T(A), α, β, μ, λ, γ, k2.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maec import arithmetic
from maec.arithmetic import (
    COMPILED,
    Merged,
    Part,
    Sparse,
    merge_compiled,
    plus_difference,
    products,
    rounded,
    square,
)
from maec.errors import InputError

Ranking = Literal["signed", "absolute", "random"]


def language_weights(origin: Tensor, languages: Iterable[tuple[Tensor, float]]) -> Tensor:
    """R_lang = Σ_j μ_j·(Θ_Lj − Θ_o), float32, from Θ_o and pairs (Θ_Lj, μ_j) as they are stored.

    The sum runs in the order given; zero without languages.
    """
    total: Tensor | None = None
    for trained, mu in languages:
        total = plus_difference(total, origin, trained, mu)
    return torch.zeros(origin.shape, device=origin.device) if total is None else total


def ability_weights(
    origin: Tensor,
    trained: Tensor,
    pivot: Tensor | None,
    alpha: float,
    beta: float,
    places: Tensor | None = None,
) -> Tensor:
    """R(A) = α·(Θ_A,L0 − Θ_o) − β·(Θ_L0 − Θ_o), float32, from tensors as they are stored.

    Without a pivot Θ_L0 = Θ_o.  ``places`` (int64) are those of N_A; without them all entries are
    taken for key neurons.
    """
    change = plus_difference(None, origin, trained, alpha, places)
    return change if pivot is None else plus_difference(change, origin, pivot, -beta, places)


def combined(language: Tensor, abilities: Iterable[tuple[Sparse, float]], lam: float) -> Tensor:
    """Θ_F − Θ_o = λ·R_lang + Σ_A γ_A·R(A), float32, from pairs (R(A), γ_A) of selected tensors.

    Changes are summed before the base is added: they are small beside it.  Several abilities are
    added up in float64, in which sums of few float32 numbers are as good as exact: their order
    makes no difference, and so a pack gives what its checkpoints give.  May write to ``language``.
    """
    parts = list(abilities)
    change = language if lam == 1 else language.mul_(lam)
    if len(parts) > 1:
        change = change.double()
    for weights, gamma in parts:
        change.index_add_(0, weights.places, (weights.values * gamma).to(change.dtype))
    return change.float()


def merged(
    origin: Tensor,
    languages: Sequence[tuple[Tensor, float]],
    parts: Sequence[Part],
    lam: float,
    stored: Tensor,
) -> Merged:
    """Write Θ_F of a piece to ``stored``, rounded to its dtype, and say what is seen meanwhile.

    From Θ_o, pairs (Θ_Lj, μ_j) as they are stored, and R(A) of all abilities.
    """
    if arithmetic.is_compiled(stored) and stored.dtype in COMPILED:
        return merge_compiled(origin, languages, parts, lam, stored)
    language = language_weights(origin, languages)
    sums = [square(language)]
    of_abilities = [[len(part.weights.places), *products(part.weights, language)] for part in parts]
    change = combined(language, ((p.weights, p.gamma) for p in parts if p.is_added), lam)
    exact = origin.float() + change
    stored.copy_(exact)
    sums += [square(change), square(stored.float() - exact)]
    for part, own in zip(parts, of_abilities, strict=True):
        lost = rounded(origin, change, stored, part.weights, part.gamma) if part.is_added else ()
        own += [*lost, *(0,) * (4 - len(lost))]
    is_finite = bool(torch.isfinite(stored).all())
    return Merged(is_finite, np.array(sums), np.array(of_abilities).reshape(-1, 7))


def cosine(product: float, square_a: float, square_b: float) -> float:
    """The cosine in [-1, 1] of two vectors with ⟨a, b⟩ and the squares of their norms.

    It is 0 by definition where either is all zero *(choice)*, and rounded to 12 decimals, so that
    the order of a sum, which differs between machines, does not decide between tensors that are
    equally similar.
    """
    if square_a == 0 or square_b == 0:
        return 0.0
    found = product / (math.sqrt(square_a) * math.sqrt(square_b))
    return round(max(-1.0, min(1.0, found)), 12)


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

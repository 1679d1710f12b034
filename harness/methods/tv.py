"""TV, task arithmetic (Ilharco et al. 2023): Θ_o + λ·Σ_j R(L_j) + s·(Θ_{f-cpt-a} − Θ_o).

The merge itself is mergekit's ``task_arithmetic``.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from harness.methods import RATE, Info, Range, Rate
from harness.parts import Parts
from harness.steps import Step

INFO = Info(
    title="Task arithmetic",
    family="merging",
    data="C_Lj + C_L0,A",
    reference="arXiv:2212.04089",
)

Scale = Annotated[float, Field(ge=0)]

SEARCH = {"rate": RATE, "scale": Range(0.4, 1.6), "language_scale": Range(0.0, 1.2)}


def build(
    parts: Parts,
    abilities: Sequence[str],
    *,
    scale: Scale = 1.0,
    language_scale: Scale = 1.0,
    rate: Rate = 1.0,
) -> Step:
    """``rate`` is a factor on the learning rate of the ability models."""
    return merged(parts, abilities, "task_arithmetic", scale, language_scale, rate)


def merged(
    parts: Parts,
    abilities: Sequence[str],
    method: str,
    scale: float,
    language_scale: float,
    rate: float,
    **settings: Any,
) -> Step:
    """A merge, by mergekit, of the task vectors of each ability and each language model."""
    trained = parts.ability_models(abilities, rate=rate)
    languages = parts.language_models() if language_scale else {}
    models = {**trained, **languages}
    weights = dict.fromkeys(trained, scale) | dict.fromkeys(languages, language_scale)
    return Step(
        kind="mergekit",
        settings={"method": method, "weights": weights, **settings},
        inputs={"base": parts.base, **models},
        label=f"{method.replace('_', ' ')} {'+'.join(abilities)}",
    )

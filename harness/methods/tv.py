"""TV, task arithmetic (Ilharco et al. 2023): Θ_o + λ·Σ_j R(L_j) + s·(Θ_{f-cpt-a} − Θ_o).

The merge itself is mergekit's ``task_arithmetic``.
"""

from typing import Annotated, Any

from pydantic import Field

from harness.methods import Info
from harness.parts import Parts
from harness.steps import Step

INFO = Info(
    title="Task arithmetic",
    family="merging",
    data="C_Lj + C_L0,A",
    reference="arXiv:2212.04089",
)


Scale = Annotated[float, Field(ge=0)]


def build(parts: Parts, ability: str, *, scale: Scale = 1.0, language_scale: Scale = 1.0) -> Step:
    return merged(parts, ability, "task_arithmetic", scale, language_scale)


def merged(
    parts: Parts,
    ability: str,
    method: str,
    scale: float,
    language_scale: float,
    **settings: Any,
) -> Step:
    """A merge of the task vectors of the ability model and of every language model, by mergekit."""
    models = {"ability": parts.ability_model(ability)}
    if language_scale:
        models |= parts.language_models()
    weights = {name: scale if name == "ability" else language_scale for name in models}
    return Step(
        kind="mergekit",
        settings={"method": method, "weights": weights, **settings},
        inputs={"base": parts.base, **models},
        label=f"{method.replace('_', ' ')} {ability}",
    )

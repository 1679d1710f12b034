"""Layer swapping: the language model with the ability model's middle layers, by mergekit.

Bandarkar et al. 2024 (arXiv 2410.01335) take the outer layers from the language model, because
there a model turns its language into meaning and back.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from harness.methods import RATE, Info, Rate
from harness.parts import Parts
from harness.steps import Step

INFO = Info(
    title="Layer swapping", family="merging", data="C_Lj + C_L0,A", reference="arXiv:2410.01335"
)

SEARCH = {"rate": RATE, "outer": (0.0, 0.25, 0.5)}


def build(
    parts: Parts,
    abilities: Sequence[str],
    *,
    outer: Annotated[float, Field(ge=0, le=0.5)] = 0.25,
    rate: Rate = 1.0,
) -> Step:
    """``outer`` is the share of layers at either end that the language model gives."""
    return Step(
        kind="mergekit",
        settings={"method": "passthrough", "outer": outer},
        inputs={
            "language": parts.one_language_model(),
            "ability": parts.ability_model(abilities, rate=rate),
        },
        label=f"layer swap {'+'.join(abilities)}",
    )

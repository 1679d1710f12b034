"""SLERP: ability and language model, interpolated along the arc between them, by mergekit."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from harness.methods import RATE, Info, Range, Rate
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="SLERP", family="merging", data="C_Lj + C_L0,A")

SEARCH = {"rate": RATE, "t": Range(0.1, 0.9)}


def build(
    parts: Parts,
    abilities: Sequence[str],
    *,
    t: Annotated[float, Field(ge=0, le=1)] = 0.5,
    rate: Rate = 1.0,
) -> Step:
    """``t`` is the way from the language model to the ability model."""
    models = {
        "language": parts.one_language_model(),
        "ability": parts.ability_model(abilities, rate=rate),
    }
    return Step(
        kind="mergekit",
        settings={
            "method": "slerp",
            "base_model": "language",
            "weights": dict.fromkeys(models, 1.0),
            "parameters": {"t": t},
        },
        inputs=models,
        label=f"slerp {'+'.join(abilities)}",
    )

"""TIES: trim each task vector, elect signs, add what agrees (Yadav et al. 2023), by mergekit."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from harness.methods import Info, Range, Rate, tv
from harness.methods.tv import Scale, merged
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="TIES", family="merging", data="C_Lj + C_L0,A", reference="arXiv:2306.01708")

Density = Annotated[float, Field(gt=0, le=1)]

SEARCH = {**tv.SEARCH, "density": Range(0.2, 1.0)}


def build(
    parts: Parts,
    abilities: Sequence[str],
    *,
    scale: Scale = 1.0,
    language_scale: Scale = 1.0,
    density: Density = 0.5,
    rate: Rate = 1.0,
) -> Step:
    return merged(parts, abilities, "ties", scale, language_scale, rate, density=density)

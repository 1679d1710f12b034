"""DARE-TIES: task vectors thinned at random and scaled up, then TIES (Yu et al. 2024)."""

from collections.abc import Sequence

from harness.methods import Info, Rate
from harness.methods.ties import SEARCH as SEARCH
from harness.methods.ties import Density
from harness.methods.tv import Scale, merged
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="DARE-TIES", family="merging", data="C_Lj + C_L0,A", reference="arXiv:2311.03099")


def build(
    parts: Parts,
    abilities: Sequence[str],
    *,
    scale: Scale = 1.0,
    language_scale: Scale = 1.0,
    density: Density = 0.5,
    rate: Rate = 1.0,
) -> Step:
    drawn = {"density": density, "seed": parts.seed}
    return merged(parts, abilities, "dare_ties", scale, language_scale, rate, **drawn)

"""L-CPT_LA: LoRA on language and ability corpora, mixed (Hu et al. 2022, arXiv 2106.09685)."""

from collections.abc import Sequence

from harness.methods import Info, Rate
from harness.methods.f_cpt_la import SEARCH as SEARCH
from harness.methods.f_cpt_la import Repeats, mixture
from harness.parts import Parts
from harness.steps import Step

INFO = Info(
    title="LoRA CPT, languages and ability",
    family="training-based",
    data="C_Lj + C_L0,A",
    reference="arXiv:2106.09685",
)


def build(
    parts: Parts, abilities: Sequence[str], *, ability_repeats: Repeats = 2, rate: Rate = 1.0
) -> Step:
    return parts.train("lora", mixture(parts, abilities, ability_repeats), rate=rate)

"""Linear: the weighted mean of ability and language models (Wortsman et al. 2022), by mergekit."""

from harness.methods import Info
from harness.methods.tv import Scale, merged
from harness.parts import Parts
from harness.steps import Step

INFO = Info(
    title="Weighted mean", family="merging", data="C_Lj + C_L0,A", reference="arXiv:2203.05482"
)


def build(parts: Parts, ability: str, *, scale: Scale = 1.0, language_scale: Scale = 1.0) -> Step:
    return merged(
        parts,
        ability,
        "linear",
        scale,
        language_scale,
        base_model=None,
        parameters={"normalize": True},
    )

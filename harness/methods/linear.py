"""Linear: the weighted mean of ability and language models (Wortsman et al. 2022), by mergekit."""

from collections.abc import Sequence

from harness.methods import RATE, Info, Range, Rate
from harness.methods.tv import Scale, merged
from harness.parts import Parts
from harness.steps import Step

INFO = Info(
    title="Weighted mean", family="merging", data="C_Lj + C_L0,A", reference="arXiv:2203.05482"
)

# a mean: only the ratio of the two counts
SEARCH = {"rate": RATE, "language_scale": Range(0.1, 2.0, log=True)}


def build(
    parts: Parts,
    abilities: Sequence[str],
    *,
    scale: Scale = 1.0,
    language_scale: Scale = 1.0,
    rate: Rate = 1.0,
) -> Step:
    return merged(
        parts,
        abilities,
        "linear",
        scale,
        language_scale,
        rate,
        base_model=None,
        parameters={"normalize": True},
    )

"""F-CPT_A: full continual pre-training on the pivot's ability corpus."""

from collections.abc import Sequence

from harness.methods import RATE, Info, Rate
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="Full CPT, ability", family="training-based", data="C_L0,A")

SEARCH = {"rate": RATE}


def build(parts: Parts, abilities: Sequence[str], *, rate: Rate = 1.0) -> Step:
    return parts.ability_model(abilities, rate=rate)

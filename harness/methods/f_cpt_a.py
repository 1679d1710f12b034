"""F-CPT_A: full continual pre-training on the pivot's ability corpus."""

from harness.methods import Info
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="Full CPT, ability", family="training-based", data="C_L0,A")


def build(parts: Parts, ability: str) -> Step:
    return parts.ability_model(ability)

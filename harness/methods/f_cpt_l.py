"""F-CPT_L: full continual pre-training on the general corpora of the target languages."""

from collections.abc import Sequence

from harness.methods import Info
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="Full CPT, languages", family="training-based", data="C_Lj")


def build(parts: Parts, abilities: Sequence[str]) -> Step:
    return parts.languages_model()

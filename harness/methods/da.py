"""DA, domain adaptation: continual pre-training on the languages, then on the ability."""

from collections.abc import Sequence

from harness.methods import Info, Rate
from harness.methods.f_cpt_a import SEARCH as SEARCH
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="Domain adaptation", family="training-based", data="C_Lj, then C_L0,A")


def build(parts: Parts, abilities: Sequence[str], *, rate: Rate = 1.0) -> Step:
    """``rate`` is of the second stage; the first is the model of ``f-cpt-l``."""
    text = parts.ability_text(abilities)
    return parts.train("adapt", text, start=parts.languages_model(), rate=rate)

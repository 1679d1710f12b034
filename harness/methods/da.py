"""DA, domain adaptation: continual pre-training on the languages, then on the ability."""

from harness.methods import Info
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="Domain adaptation", family="training-based", data="C_Lj, then C_L0,A")


def build(parts: Parts, ability: str) -> Step:
    corpora = [parts.ability(ability), parts.pivot_general()]
    return parts.train("adapt", corpora, start=parts.languages_model())

"""F-CPT_LA: full continual pre-training on language and ability corpora, mixed."""

from harness.methods import Info
from harness.parts import Parts
from harness.steps import Step

INFO = Info(title="Full CPT, languages and ability", family="training-based", data="C_Lj + C_L0,A")


def build(parts: Parts, ability: str) -> Step:
    general = [parts.general(language) for language in parts.languages]
    return parts.train("joint", [*general, parts.ability(ability), parts.pivot_general()])

"""T-CPT: continual pre-training on ability data in the target languages, an upper reference.

It uses data that the other methods may not: everything else here gets ability text in the pivot
language alone.
"""

from harness.methods import Info
from harness.parts import Parts
from harness.steps import Step

INFO = Info(
    title="CPT on translated ability data",
    family="training-based",
    data="C_L0,A + C_Lj,A",
    translated=True,
)


def build(parts: Parts, ability: str) -> Step:
    translated = [parts.translated_ability(ability, language) for language in parts.languages]
    return parts.train("translated", [*translated, parts.ability(ability), parts.pivot_general()])

"""T-CPT: continual pre-training on ability data in the target languages, an upper reference.

It uses data that the other methods may not: everything else here gets ability text in the pivot
language alone.
"""

from collections.abc import Sequence

from harness.methods import Info, Rate
from harness.methods.f_cpt_a import SEARCH as SEARCH
from harness.parts import Parts
from harness.steps import Step

INFO = Info(
    title="CPT on translated ability data",
    family="upper-reference",
    data="C_L0,A + C_Lj,A",
    translated=True,
)


def build(parts: Parts, abilities: Sequence[str], *, rate: Rate = 1.0) -> Step:
    translated = [
        parts.translated_ability(ability, language)
        for ability in abilities
        for language in parts.languages
    ]
    return parts.train("translated", [*translated, *parts.ability_text(abilities)], rate=rate)

"""F-CPT_LA: full continual pre-training on language and ability corpora, mixed."""

from typing import Annotated

from pydantic import Field

from harness.methods import Info
from harness.parts import Parts
from harness.steps import Corpus, Step

INFO = Info(title="Full CPT, languages and ability", family="training-based", data="C_Lj + C_L0,A")

Repeats = Annotated[int, Field(ge=1)]


def build(parts: Parts, ability: str, *, ability_repeats: Repeats = 2) -> Step:
    return parts.train("joint", mixture(parts, ability, ability_repeats))


def mixture(parts: Parts, ability: str, repeats: int) -> list[Corpus]:
    """C_Lj of all target languages, C_{L0,A} ``repeats`` times, and C_{L0}.

    Ability text comes in one language and general text in all of them: the repeats balance them.
    """
    general = [parts.general(language) for language in parts.languages]
    return [*general, *[parts.ability(ability)] * repeats, parts.pivot_general()]

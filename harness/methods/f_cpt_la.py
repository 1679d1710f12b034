"""F-CPT_LA: full continual pre-training on language and ability corpora, mixed."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from harness.methods import RATE, Info, Rate
from harness.parts import Parts
from harness.steps import Corpus, Step

INFO = Info(title="Full CPT, languages and ability", family="training-based", data="C_Lj + C_L0,A")

Repeats = Annotated[int, Field(ge=1)]

SEARCH = {"ability_repeats": (1, 2, 4, 8), "rate": RATE}


def build(
    parts: Parts, abilities: Sequence[str], *, ability_repeats: Repeats = 2, rate: Rate = 1.0
) -> Step:
    return parts.train("joint", mixture(parts, abilities, ability_repeats), rate=rate)


def mixture(parts: Parts, abilities: Sequence[str], repeats: int) -> list[Corpus]:
    """C_Lj of all target languages, C_{L0,A} ``repeats`` times, and C_{L0}.

    Ability text comes in one language and general text in all of them: the repeats balance them.
    """
    general = [parts.general(language) for language in parts.languages]
    return [*general, *[parts.ability(a) for a in abilities] * repeats, parts.pivot_general()]

"""ACT-like: language weights, and the ability model's change in the channels that it uses.

After ACT (Jin et al. 2026, arXiv 2601.09398), which transfers the channels whose activations an
ability changed. Its light fine-tuning afterwards is left out: everything here is a pure merge.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from harness.methods import RATE, Info, Range, Rate
from harness.methods.maec import Share, Weight
from harness.parts import Parts, places
from harness.steps import PACK, Step

INFO = Info(
    title="Activation-guided channel transfer",
    family="merging",
    data="C_Lj + C_L0,A",
    reference="arXiv:2601.09398",
)

SEARCH = {
    "rate": RATE,
    "channels": Range(0.05, 0.8),
    "scale": Range(0.4, 1.6),
    "language_scale": Range(0.0, 1.2),
}


def build(
    parts: Parts,
    abilities: Sequence[str],
    *,
    channels: Share = 0.05,
    scale: Weight = 1.0,
    language_scale: Weight = 1.0,
    rate: Rate = 1.0,
    documents: Annotated[int, Field(ge=1)] = 200,
) -> Step:
    """``channels`` is the share transferred, found on ``documents`` documents of C_{L0,A}."""
    languages = parts.language_models() if language_scale else {}
    packs = {
        PACK + ability: _transfer(parts, ability, channels, documents, rate)
        for ability in abilities
    }
    return Step(
        kind="combine",
        settings={
            "abilities": list(abilities),
            "mu": dict.fromkeys(languages, 1.0),
            "lambda": language_scale,
            "gamma": scale,
            "k2": 1.0,
            "similarity": "signed",
        },
        inputs={"base": parts.base, **packs, **languages},
        label=f"channel transfer {'+'.join(abilities)}",
    )


def _transfer(parts: Parts, ability: str, channels: float, documents: int, rate: float) -> Step:
    trained = parts.ability_model([ability], rate=rate)
    text = parts.ability(ability)
    mask = Step(
        kind="locate",
        settings={
            "importance": "activation",
            "granularity": "row",
            "k1": channels,
            "corpora": [{**text.as_json(), "documents": documents}],
        },
        inputs={"base": parts.base, "trained": trained},
        label=f"channels {ability}",
        places=places([text]),
    )
    return Step(
        kind="extract",
        settings={"alpha": 1.0, "beta": 0.0},
        inputs={"base": parts.base, "mask": mask, "ability": trained},
        label=f"channel weights {ability}",
    )

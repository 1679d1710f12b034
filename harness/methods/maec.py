"""MAEC: extract ability weights and language weights, combine them (arXiv 2410.07825).

METHOD.md's symbols; ``maec`` does the work. Its defaults are the starting values for models of
8B parameters; a matrix sets its own.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.methods import RATE, Info, Range, Rate
from harness.parts import Parts
from harness.steps import PACK, Step

INFO = Info(
    title="MAEC",
    family="maec",
    data="C_Lj + C_L0,A",
    reference="arXiv:2410.07825",
)

Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]

# α is left out: R(A) has the scale γ·α, so that searching both would search one thing twice
SEARCH = {
    "rate": RATE,
    "k1": (0.2, 0.4, 0.7),
    "importance": ("value_change", "gradient"),
    "beta": Range(0.0, 0.4),
    "gamma": Range(0.6, 2.0),
    "k2": Range(0.5, 1.0),
    "similarity": ("signed", "absolute"),
    "language_scale": Range(0.0, 1.2),
}


def build(
    parts: Parts,
    abilities: Sequence[str],
    *,
    k1: Share = 0.05,
    k2: Annotated[float, Field(ge=0, le=1)] = 0.8,
    alpha: Weight = 0.8,
    beta: Weight = 0.2,
    gamma: Weight = 0.2,
    mu: Weight = 1.0,
    language_scale: Weight = 1.0,
    similarity: Literal["signed", "absolute", "random"] = "signed",
    granularity: Literal["parameter", "row"] = "parameter",
    importance: Literal["value_change", "gradient", "random"] = "value_change",
    freeze_embeddings: bool = False,
    rate: Rate = 1.0,
) -> Step:
    """``rate`` is a factor on the learning rate of the key neurons' training on the ability."""
    located = {"k1": k1, "granularity": granularity, "importance": importance} | (
        {"freeze_embeddings": True} if freeze_embeddings else {}
    )
    packs = {
        PACK + ability: ability_pack(parts, ability, located, alpha=alpha, beta=beta, rate=rate)
        for ability in abilities
    }
    # λ = 0 drops R_lang, so that the language models need not be trained
    languages = parts.language_models() if language_scale else {}
    return Step(
        kind="combine",
        settings={
            "abilities": list(abilities),
            "mu": dict.fromkeys(languages, mu),
            "lambda": language_scale,
            "gamma": gamma,
            "k2": k2,
            "similarity": similarity,
            **({"seed": parts.seed} if similarity == "random" else {}),
        },
        inputs={"base": parts.base, **packs, **languages},
        label=f"combine {'+'.join(abilities)}",
    )


def ability_pack(
    parts: Parts,
    ability: str,
    located: dict[str, Any],
    *,
    alpha: float,
    beta: float,
    rate: float,
) -> Step:
    """R(A): locate N_A, train only N_A on the ability and on the pivot, take the difference.

    A checkpoint that is given for the ability stands for the training, and what it moved most is
    N_A. β is then 0 unless one of the pivot came with it.
    """
    mask = key_neurons(parts, ability, located)
    if ability in parts.given.abilities:
        models = {"ability": parts.given_ability(ability, rate=rate)}
        pivot = parts.given.pivots.get(ability)
        beta = beta if pivot else 0.0
    else:
        text = parts.ability_text([ability])
        models = {"ability": parts.train("key_neurons", text, mask=mask, rate=rate)}
        pivot = parts.train("pivot", [parts.pivot_general()], mask=mask) if beta else None
    return Step(
        kind="extract",
        settings={"alpha": alpha, "beta": beta},
        inputs={
            "base": parts.base,
            "mask": mask,
            **models,
            **({"pivot": pivot} if pivot and beta else {}),
        },
        label=f"ability weights {ability}",
    )


def key_neurons(parts: Parts, ability: str, settings: dict[str, Any]) -> Step:
    """N_A by what a short training run moves, by its gradient, or, as a control, at random."""
    inputs = {"base": parts.base}
    match settings["importance"]:
        case "random":
            settings = {**settings, "seed": parts.seed}
        case "value_change" if ability in parts.given.abilities:
            inputs["trained"] = parts.given.abilities[ability]
        case "value_change":
            inputs["trained"] = parts.train("locate", [parts.ability(ability)])
        case "gradient":
            # the gradient at Θ_o is accumulated without moving Θ_o
            recording = {"record_gradient": True, "learning_rate": 0.0}
            inputs["trained"] = parts.train("locate", [parts.ability(ability)], **recording)
    return Step(kind="locate", settings=settings, inputs=inputs, label=f"key neurons {ability}")

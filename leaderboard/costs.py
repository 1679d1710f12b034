"""What methods cost, alone, and what one more language costs them: from the store's manifests."""

from collections.abc import Sequence

import pandas as pd

from harness.report import work
from harness.report.facts import Facts
from leaderboard import frames

UNITS = {
    "flops": "training FLOPs (6·N·D)",
    "tokens": "tokens trained on",
    "seconds": "seconds of all steps",
    "bytes": "bytes of all artifacts",
}
"""What a method's models of all abilities and languages take, the base left out."""


def costs(facts: Facts, variant: str, pivot: str) -> pd.DataFrame:
    """One row a method: method, title, family, the four ``UNITS``, accuracy, error, low, high.

    Costs are means over seeds of all steps that the method needs alone, NaN where one of them is
    not known. ``accuracy`` is the mean over target languages and abilities in percent, ``error``
    its standard deviation over seeds, or with one seed the standard error over items, cells taken
    as independent.
    """
    needed = work.steps(facts)
    found = work.costs(facts, needed[needed["variant"] == variant], variant)
    found = found[["method", *UNITS]].set_index("method")
    rows = facts.own[facts.own["variant"] == variant]
    means = frames.means(rows, pivot)
    error = means["deviation"].fillna(_standard_error(rows[rows["language"] != pivot]))
    found["accuracy"], found["error"] = means["targets"], error
    found["low"] = found["accuracy"] - found["error"].fillna(0)
    found["high"] = found["accuracy"] + found["error"].fillna(0)
    about = rows.drop_duplicates("method").set_index("method")[["title", "family"]]
    return about.join(found).reset_index()


def added_language(facts: Facts, variant: str, languages: Sequence[str]) -> pd.DataFrame:
    """One row a method: ``UNITS`` of the steps that one more target language asks for.

    These are the steps behind which a corpus in that language is, by their manifests: what was made
    without it can be kept. A mean over ``languages`` and seeds; NaN where a step is not known.
    """
    needed = work.steps(facts)
    needed = needed[needed["variant"] == variant]
    shares = {key: _share(facts, key, languages) for key in needed["key"].unique()}
    share = needed["key"].map(shares)
    # what is not needed costs nothing, even where its cost is not known
    figures = needed[list(UNITS)].mul(share, axis=0).mask(share == 0, 0.0)
    figures = figures.assign(method=needed["method"])
    sums = figures.groupby("method", sort=False).agg(lambda values: values.sum(skipna=False))
    order = [method for method in facts.methods if method in sums.index]
    return (sums / len(facts.seeds)).loc[order].rename_axis("method").reset_index()


def front(points: pd.DataFrame, cost: str) -> pd.Series:
    """Which points no other beats: none is as cheap and better, or cheaper and as good."""
    known = points.dropna(subset=[cost, "accuracy"])
    beaten = {
        row.Index: (
            ((known[cost] <= row.cost) & (known["accuracy"] > row.accuracy))
            | ((known[cost] < row.cost) & (known["accuracy"] >= row.accuracy))
        ).any()
        for row in known.assign(cost=known[cost]).itertuples()
    }
    return pd.Series(
        [index in beaten and not beaten[index] for index in points.index], points.index
    )


def _share(facts: Facts, key: str, languages: Sequence[str]) -> float:
    """Of the languages, how many have text behind a step; NaN where it has no manifest."""
    manifest = facts.manifests.get(key)
    if manifest is None or not languages:
        return float("nan")
    read = {corpus["language"] for corpus in manifest.get("corpora", [])}
    return sum(code in read for code in languages) / len(languages)


def _standard_error(rows: pd.DataFrame) -> pd.Series:
    """By method, in points, of the mean over the rows' cells."""
    groups = rows.groupby("method", sort=False)["stderr"]
    return groups.agg(lambda e: 100 * (e**2).sum(skipna=False) ** 0.5 / max(len(e), 1))

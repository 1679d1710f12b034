"""From the store's rows to what pages show; pure functions on data frames.

Rows are those of :func:`harness.store.view.placed`, of one variant, in which models are asked their
own ability. Scores come as shares and leave in percent. A value that needs a score which is missing
is NaN, never a mean over what happens to be there.
"""

from collections.abc import Sequence

import pandas as pd

from harness.languages import available, get

BASE = "base"

FAMILIES = {
    "maec": "MAEC",
    "ablation": "MAEC, ablated",
    "training-based": "training-based",
    "merging": "merging",
    "reference": "reference",
    "upper-reference": "upper reference",
    "reported": "reported by others",
}
"""What a method's family is called on the pages; another one is called what it is."""

LEVELS = {
    "pivot": "pivot language",
    "high": "high-resource languages",
    "low": "low-resource languages",
    "unknown": "languages of unknown resource level",
}


def own(placed: pd.DataFrame, variant: str) -> pd.DataFrame:
    """The rows of a variant that count as accuracy: what models forgot is no part of it."""
    return placed[(placed["variant"] == variant) & (placed["asked"] == placed["ability"])]


def resource(code: str) -> str:
    """'high' or 'low', or 'pivot'; 'unknown' for a language without a file of its own."""
    return get(code).resource if code in available() else "unknown"


def chosen(
    rows: pd.DataFrame,
    *,
    abilities: Sequence[str] = (),
    languages: Sequence[str] = (),
    seeds: Sequence[int] = (),
    families: Sequence[str] = (),
    runs: Sequence[str] = (),
    search: str = "",
) -> pd.DataFrame:
    """The rows that all filters let through; an empty filter lets all through.

    ``search`` looks in method names and titles. Scores of other runs become missing, so that no
    mean passes off a part as the whole; methods without a score in ``runs`` are dropped.
    """
    for column, wanted in (
        ("ability", abilities),
        ("language", languages),
        ("seed", seeds),
        ("family", families),
    ):
        if wanted:
            rows = rows[rows[column].isin(list(wanted))]
    if search:
        names = rows["method"] + " " + rows["title"]
        rows = rows[names.str.contains(search, case=False, regex=False)]
    if runs:
        scored = ["score", "stderr", "known", "new", "n"]
        rows = rows.assign(**{name: rows[name].where(rows["run_id"].isin(runs)) for name in scored})
        rows = rows[rows["method"].isin(rows.loc[rows["score"].notna(), "method"])]
    return rows


def by_language(rows: pd.DataFrame) -> pd.DataFrame:
    """Methods × languages in percent, in the rows' order: means over abilities and seeds."""
    return _over(rows, "score", ["language"])


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Methods × languages, in points: how far :func:`by_language` may be off.

    With several seeds their sample standard deviation, else the standard error over items.
    """
    if rows["seed"].nunique() > 1:
        by_seed = _over(rows, "score", ["language", "seed"])
        deviation = by_seed.T.groupby(level="language", sort=False).std(ddof=1).T
        return deviation.where(by_language(rows).notna())
    squares = _over(rows.assign(stderr=rows["stderr"] ** 2), "stderr", ["language"]) / 100
    # of a mean over k abilities, whose questions are different ones
    return 100 * (squares / rows["ability"].nunique()) ** 0.5


def means(rows: pd.DataFrame, pivot: str) -> pd.DataFrame:
    """By method: ``targets``, the mean over target languages, abilities and seeds, in percent.

    ``deviation`` is its sample standard deviation over seeds (points, NaN for one seed); ``known``
    and ``new`` are there where items are marked so.
    """
    targets = rows[rows["language"] != pivot]
    methods = pd.Index(rows["method"].unique(), name="method")
    if targets.empty:
        return pd.DataFrame({"targets": float("nan"), "deviation": float("nan")}, index=methods)
    by_seed = _over(targets, "score", ["seed"])
    found = pd.DataFrame(
        {
            "targets": by_seed.mean(axis=1, skipna=False),
            "deviation": by_seed.std(axis=1, ddof=1, skipna=False),
        }
    )
    for words in ("known", "new"):
        if targets[words].notna().any():
            found[words] = _over(targets, words, ["seed"]).mean(axis=1, skipna=False)
    return found.reindex(methods)


def ranking(rows: pd.DataFrame, pivot: str, references: Sequence[str] = (BASE,)) -> pd.DataFrame:
    """The ranking by ``targets``: :func:`by_language` beside :func:`means`, best first.

    ``Δ NAME`` is ``targets`` minus that of the method NAME, in points, for each of ``references``
    that is among the rows. Methods with a missing score come last, in the rows' order.
    """
    table = by_language(rows).join(means(rows, pivot))
    for name in dict.fromkeys(references):
        if name in table.index:
            table[f"Δ {name}"] = table["targets"] - table.loc[name, "targets"]
    return table.sort_values("targets", ascending=False, na_position="last", kind="stable")


def seed_means(rows: pd.DataFrame, pivot: str) -> pd.DataFrame:
    """Methods × seeds, as shares: the mean over target languages and abilities."""
    return _over(rows[rows["language"] != pivot], "score", ["seed"]) / 100


def long(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a method, ability and language: accuracy and spread (percent, points), n, resource.

    ``n`` is the number of items of each seed, ``shown`` the two numbers in words.
    """
    parts = []
    for ability, part in rows.groupby("ability", sort=False):
        table, deviation = by_language(part), spread(part)
        parts.append(
            pd.DataFrame(
                {
                    "accuracy": table.stack(future_stack=True),
                    "spread": deviation.stack(future_stack=True),
                    "n": part.groupby(["method", "language"])["n"].max(),
                }
            )
            .rename_axis(["method", "language"])
            .loc[table.stack(future_stack=True).index]
            .reset_index()
            .assign(ability=ability)
        )
    if not parts:
        columns = ["method", "language", "accuracy", "spread", "n", "ability", "resource"]
        return pd.DataFrame(columns=columns)
    found = pd.concat(parts, ignore_index=True)
    return found.assign(resource=found["language"].map(resource))


def sizes(values: pd.Series) -> str:
    """One number, or the least and the greatest; '0' where there is none."""
    found = values.dropna().astype(int)
    if found.empty:
        return "0"
    return "–".join(f"{value:,}" for value in dict.fromkeys((found.min(), found.max())))


def _over(rows: pd.DataFrame, column: str, kept: list[str]) -> pd.DataFrame:
    """Methods × ``kept`` in percent; the mean over all else, NaN while one of its cells is."""
    if rows.empty:
        return pd.DataFrame(index=pd.Index([], name="method"))
    places = ["ability", "language", "seed"]
    wide = rows.pivot(index="method", columns=places, values=column)
    order = pd.MultiIndex.from_frame(rows[places].drop_duplicates())
    wide = wide.reindex(index=rows["method"].unique(), columns=order).rename_axis(index="method")
    by = kept[0] if len(kept) == 1 else kept
    return 100 * wide.T.groupby(level=by, sort=False).mean(skipna=False).T

"""From the store's rows to what the page shows; pure functions on data frames."""

import pandas as pd

BASE = "base"


def matrices(placed: pd.DataFrame) -> list[str]:
    """Matrices that have rows, the one with the newest score first."""
    newest = placed.groupby("matrix")["created"].max().sort_values(ascending=False)
    return list(newest.index)


def accuracy(placed: pd.DataFrame, ability: str) -> pd.DataFrame:
    """Methods × languages in percent, in the matrix's order; NaN where a score is missing.

    A cell is the mean over its seeds, and missing while one of them is.
    """
    own = placed[placed["ability"] == ability]
    mean = own.groupby(["method", "language"], sort=False)["score"].agg(_complete_mean)
    table = 100 * mean.unstack("language")
    return table.reindex(index=own["method"].unique(), columns=own["language"].unique())


def summary(placed: pd.DataFrame, ability: str, pivot: str) -> pd.DataFrame:
    """:func:`accuracy` with the mean over target languages, known and new words, and deltas.

    ``targets``, ``known`` and ``new`` are means over the target languages and blank while a cell
    of the row is missing; ``Δ base`` is ``targets`` minus the base model's, in points.
    """
    table = accuracy(placed, ability)
    targets = [language for language in table.columns if language != pivot]
    own = placed[(placed["ability"] == ability) & (placed["language"] != pivot)]
    by_method = own.groupby("method", sort=False)
    table["targets"] = table[targets].mean(axis=1, skipna=False)
    for words in ("known", "new"):
        if own[words].notna().any():
            table[words] = 100 * by_method[words].agg(_complete_mean)
    if BASE in table.index:
        table["Δ base"] = table["targets"] - table.loc[BASE, "targets"]
    return table


def _complete_mean(values: pd.Series) -> float:
    return values.mean(skipna=False)


def long(table: pd.DataFrame) -> pd.DataFrame:
    """One row a method and language, as charts want it."""
    return (
        table.rename_axis(index="method", columns="language")
        .stack(future_stack=True)
        .rename("accuracy")
        .reset_index()
    )

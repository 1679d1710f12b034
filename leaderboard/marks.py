"""Which methods of a ranking are best, or not shown to be worse: tested once, then remembered."""

from pathlib import Path

import pandas as pd
import streamlit as st

from harness.store import view
from leaderboard import data, frames

BEST, NOT_WORSE, WORSE, UNTESTED = "best", "not shown worse", "worse", ""
UPPER = "upper reference"
"""What trains on ability data in the target languages, which the others may not use."""


def marks(path: Path, rows: pd.DataFrame, pivot: str) -> pd.DataFrame:
    """By method: ``mark`` (one of those above), ``p`` (Holm-adjusted), ``error`` (points).

    ``error`` is the standard error of the mean over targets, over questions asked of these models.
    Methods with a missing score are untested; so is all where fewer than two methods are complete.
    An upper reference competes with others of its kind alone.
    """
    columns = ["matrix", "variant", "method", "family", "ability", "language", "seed", "score"]
    return _marks(str(path), data.stamp(path), rows[columns].reset_index(drop=True), pivot)


@st.cache_data(max_entries=50, show_spinner=False)
def _marks(path: str, stamp: int, rows: pd.DataFrame, pivot: str) -> pd.DataFrame:
    from harness import ranked  # statsmodels: seconds, and the table is on the page already

    targets = rows[rows["language"] != pivot]
    means = frames.seed_means(targets, pivot)
    complete = means.index[means.notna().all(axis=1)]
    found = pd.DataFrame({"mark": UNTESTED, "p": float("nan"), "error": float("nan")}, means.index)
    if complete.empty:
        return found
    first = rows.iloc[0]
    lists = [list(targets[name].unique()) for name in ("ability", "language", "seed")]
    answers = data.ask_once(view.answers, Path(path), first["matrix"], first["variant"], *lists)
    answers = answers[answers["method"].isin(complete)]
    found["error"] = 100 * ranked.standard_errors(ranked.spread_out(answers))
    upper = rows.loc[rows["family"] == "upper-reference", "method"].unique()
    competing = complete.difference(upper, sort=False)
    if competing.empty:
        competing = complete
    else:
        found.loc[complete.intersection(upper), "mark"] = UPPER
    best = means.loc[competing].mean(axis=1).idxmax()
    if len(competing) > 1:
        wide = ranked.spread_out(answers[answers["method"].isin(competing)])
        against = ranked.against(wide, best, means.loc[competing]).set_index("method")
        found.loc[best, "mark"] = BEST
        found.loc[against.index, "mark"] = against["worse"].map({True: WORSE, False: NOT_WORSE})
        found.loc[against.index, "p"] = against["p_holm"]
    return found

"""Which methods of a ranking are best, or not shown to be worse: tested once, then remembered."""

from pathlib import Path

import pandas as pd
import streamlit as st

from harness.store import view
from leaderboard import data, frames

BEST, NOT_WORSE, WORSE, UNTESTED = "best", "not shown worse", "worse", ""


def marks(path: Path, rows: pd.DataFrame, pivot: str) -> pd.DataFrame:
    """By method: ``mark`` (one of the four above), ``p`` (Holm-adjusted), ``error`` (points).

    ``error`` is the standard error of the mean over targets, over questions asked of these models.
    Methods with a missing score are untested; so is all where fewer than two methods are complete.
    """
    columns = ["matrix", "variant", "method", "ability", "language", "seed", "score"]
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
    best = means.loc[complete].mean(axis=1).idxmax()
    wide = ranked.spread_out(answers)
    found["error"] = 100 * ranked.standard_errors(wide)
    if len(complete) > 1:
        against = ranked.against(wide, best, means.loc[complete]).set_index("method")
        found.loc[best, "mark"] = BEST
        found.loc[against.index, "mark"] = against["worse"].map({True: WORSE, False: NOT_WORSE})
        found.loc[against.index, "p"] = against["p_holm"]
    return found

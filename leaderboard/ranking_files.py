"""The ranking's downloads: cells as CSV and Parquet, the table as LaTeX."""

import pandas as pd
import streamlit as st

from leaderboard import downloads, frames
from leaderboard.shell import View


def offer(
    shown: View,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    spread: pd.DataFrame,
    marks: pd.DataFrame,
) -> None:
    """Buttons; a file is made when its button is pressed."""
    stem = "-".join(filter(None, (shown.matrix, shown.variant, *_abilities(rows))))
    spread_of = "standard deviation over seeds" if rows["seed"].nunique() > 1 else "standard error"
    words = (
        f"{', '.join(_abilities(rows))}: % correct on {shown.split} items ± {spread_of}, "
        f"n = {frames.sizes(rows['n'])} items a cell, {rows['seed'].nunique()} seed(s); matrix "
        f"{shown.matrix}. Bold: best, and not shown to be worse (permutation test over questions, "
        "Holm-adjusted p > 0.05)."
    )
    buttons = (
        ("CSV", "csv", "text/csv", lambda: downloads.csv(rows)),
        ("Parquet", "parquet", "application/vnd.apache.parquet", lambda: downloads.parquet(rows)),
        ("LaTeX", "tex", "text/x-tex", lambda: downloads.latex(table, spread, marks, words)),
    )
    helps = {
        "CSV": "One row a scored cell of this view, in full precision; scores are shares in [0, 1]",
        "Parquet": "The same rows as a Parquet file",
        "LaTeX": "This table for a paper, with booktabs",
    }
    with st.container(horizontal=True):
        for label, ending, kind, make in buttons:
            st.download_button(
                label, make, f"{stem}.{ending}", kind, key=f"_download_{ending}",
                on_click="ignore", help=helps[label], icon=":material/download:",
            )  # fmt: skip


def _abilities(rows: pd.DataFrame) -> list[str]:
    return list(rows["ability"].unique())

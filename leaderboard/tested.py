"""Paired tests that pages ask for, remembered until the source changes."""

from pathlib import Path

import pandas as pd
import streamlit as st

from harness.store import view
from leaderboard import data


def pair(
    path: Path, matrix: str, variant: str, ability: str, a: str, b: str, pivot: str
) -> tuple[pd.Series, pd.DataFrame]:
    """A against B: the row of :func:`harness.compare.summaries`, and its cells by language.

    Raises:
        InputError: they share no question in a target language.
    """
    summary, cells = _tested(
        str(path), data.stamp(path), matrix, variant, ability, ((a, b),), pivot, True
    )
    return summary.iloc[0], cells


def against(
    path: Path, matrix: str, variant: str, ability: str, ours: str, others: list[str], pivot: str
) -> pd.DataFrame:
    """``ours`` against each of the others, as :func:`harness.compare.summaries`.

    Raises:
        InputError: a pair shares no question in a target language.
    """
    pairs = tuple((ours, other) for other in others)
    return _tested(str(path), data.stamp(path), matrix, variant, ability, pairs, pivot, False)[0]


@st.cache_data(max_entries=100, show_spinner=False)
def _tested(
    path: str,
    stamp: int,
    matrix: str,
    variant: str,
    ability: str,
    pairs: tuple[tuple[str, str], ...],
    pivot: str,
    with_cells: bool,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    from harness import compare  # scipy and statsmodels: seconds, for these pages alone

    methods = list(dict.fromkeys(name for pair in pairs for name in pair))
    outcomes = data.ask_once(view.outcomes, Path(path), matrix, variant, ability, methods)
    cells = compare.cells(outcomes, *pairs[0]) if with_cells else pd.DataFrame()
    return compare.summaries(outcomes, pairs, pivot), cells

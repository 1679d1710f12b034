"""Map: how good each method is in each language, one heat map an ability and resource level."""

import pandas as pd
import streamlit as st

from leaderboard import charts, frames, shell
from leaderboard.text import counted, plain


def main() -> None:
    shown = shell.current()
    shell.title("Map", "Percent correct by method and language; dark is low, bright is high.")
    rows = shown.rows()
    if shell.unscored(rows):
        return
    left, right = st.columns([2, 2])
    families = left.multiselect(
        "Family", list(rows["family"].unique()), key="family", bind="query-params",
        placeholder="all",
    )  # fmt: skip
    sort = right.selectbox(
        "Order of methods", ["best first", "as in the matrix"], key="order", bind="query-params"
    )
    rows = frames.chosen(rows, families=families)
    for ability in rows["ability"].unique():
        own = rows[rows["ability"] == ability]
        ranked = frames.ranking(own, shown.pivot).index
        order = list(ranked if sort == "best first" else own["method"].unique())
        _ability(own, ability, order)


def _ability(rows: pd.DataFrame, ability: str, methods: list[str]) -> None:
    cells = frames.long(rows)
    seeds = rows["seed"].nunique()
    spread = "standard deviation over seeds" if seeds > 1 else "standard error over items"
    st.subheader(plain(ability))
    st.caption(
        f"n = {frames.sizes(rows['n'])} items a cell, {counted(seeds, 'seed')}; {spread} at most "
        f"{cells['spread'].max():.1f} points. An empty field is not scored yet."
    )
    levels = [level for level in frames.LEVELS if (cells["resource"] == level).any()]
    widths = [2 + cells.loc[cells["resource"] == level, "language"].nunique() for level in levels]
    for place, level in zip(st.columns(widths), levels, strict=True):
        part = cells[cells["resource"] == level]
        with place:
            st.caption(frames.LEVELS[level])
            languages = list(part["language"].unique())
            st.altair_chart(charts.heat_map(part, methods, languages), width="stretch")


main()

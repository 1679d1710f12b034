"""Ranking: methods × languages for an ability or their average, with what is more than chance."""

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from leaderboard import frames, reported, shell
from leaderboard.filters import Filters, filters
from leaderboard.look_into import look_into
from leaderboard.marks import marks
from leaderboard.ranked_table import caption, configured, styled
from leaderboard.ranking_files import offer


def main() -> None:
    shown = shell.current()
    shell.title("Ranking", "Which method is best, in which language, and by more than chance.")
    everything = shown.rows()
    if shell.unscored(everything):
        return
    asked = filters(everything)
    rows = asked.apply(everything)
    if rows.empty:
        shell.missing("No row passes all filters.", "Clear one of them under “More filters”.")
        return
    _show(shown, rows, asked)


def _show(shown: shell.View, rows: pd.DataFrame, asked: Filters) -> None:
    table = frames.ranking(rows, shown.pivot, (frames.BASE, asked.reference))
    families = rows.drop_duplicates("method").set_index("method")["family"]
    spread = frames.spread(rows)
    languages = [column for column in table.columns if column in spread.columns]
    others = reported.numbers(rows)
    added = None
    if reported.asked(shown, others, asked):
        added = reported.as_rows(others, languages, shown.pivot)
    slot = st.empty()
    # tests take a moment the first time: the scores are there before them
    untested = pd.DataFrame(
        {"mark": "", "p": float("nan"), "error": float("nan")}, index=table.index
    )
    _table(slot, table, families, spread, untested, asked, added)
    found = marks(shown.path, rows, shown.pivot).reindex(table.index)
    _table(slot, table, families, spread, found, asked, added)
    st.caption(caption(rows, shown.pivot))
    incomplete = int(table["targets"].isna().sum())
    if incomplete:
        st.caption(
            f"{incomplete} of {len(table)} methods have a cell that is not scored yet: their "
            "averages are blank, and they are not tested."
        )
    offer(shown, rows, table, spread, found)
    look_into(rows, list(table.index), shown.pivot, asked.reference)
    reported.section(others, languages)


def _table(
    slot: DeltaGenerator,
    table: pd.DataFrame,
    families: pd.Series,
    spread: pd.DataFrame,
    found: pd.DataFrame,
    asked: Filters,
    added: pd.DataFrame | None,
) -> None:
    frame = styled(table, families, spread, found, with_spread=asked.with_spread, reported=added)
    config = configured(frame.data)
    slot.dataframe(frame, hide_index=True, column_config=config, placeholder="")


main()

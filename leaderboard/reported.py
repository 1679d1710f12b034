"""Numbers that others reported, apart from what was measured here, and never part of a test."""

import pandas as pd
import streamlit as st

from harness import reported
from harness.home import results
from leaderboard import data
from leaderboard.filters import Filters
from leaderboard.frames import FAMILIES
from leaderboard.shell import View
from leaderboard.text import counted, listed, plain
from maec.errors import InputError

NOTE = (
    "Measured by others, with other models, prompts and answer filters; none of it was run here, "
    "and no test compares it with the ranking."
)


def numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """What is reported of the abilities and languages in ``rows``; what is wrong is said."""
    try:
        found = data.ask(reported.load, results() / "reported")
    except InputError as error:
        st.error(plain(error))
        found = pd.DataFrame(columns=reported.COLUMNS)
    wanted = found["ability"].isin(rows["ability"]) & found["language"].isin(rows["language"])
    return found[wanted]


def wide(found: pd.DataFrame, languages: list[str]) -> pd.DataFrame:
    """One row a system, setting and task, languages in columns, in percent; where it is from."""
    row = ["system", "setting", "task"]
    kept = [code for code in languages if code in set(found["language"])]
    scores = found.pivot(index=row, columns="language", values="value")[kept]
    source = found["authors"] + " " + found["year"].astype(str) + ", " + found["where"]
    about = found.assign(source=source, n=found["n"].astype("Int64")).drop_duplicates(row)
    table = about.join(scores, on=row)
    return table[["system", "setting", *kept, "task", "n", "source", "url"]]


def asked(shown: View, found: pd.DataFrame, chosen: Filters) -> bool:
    """Whether the ranking is to have them as rows, too; asked where that may mean something.

    Nobody else asked the embedded world's questions.
    """
    if found.empty or shown.embedded or chosen.ability not in set(found["ability"]):
        return False
    return st.toggle(
        "Reported numbers as rows", key="reported", bind="query-params",
        help=f"In grey at the end of the table. {NOTE}",
    )  # fmt: skip


def as_rows(found: pd.DataFrame, languages: list[str], pivot: str) -> pd.DataFrame:
    """Rows for the ranking: method, targets (blank unless every target is reported), languages."""
    table = wide(found, languages)
    names = table["system"] + ", " + table["setting"] + " (" + table["task"] + ")"
    targets = [code for code in languages if code != pivot]
    rows = table.reindex(columns=languages)
    mean = rows[targets].mean(axis=1, skipna=False) if targets else float("nan")
    found = pd.concat([names.rename("method"), rows.assign(targets=mean)], axis=1)
    return found.assign(family=FAMILIES["reported"])


def section(found: pd.DataFrame, languages: list[str]) -> None:
    """Their own table below the ranking, for those who open it: one table is there sooner."""
    if found.empty:
        return
    place = st.expander(
        f"Reported by others ({counted(found['system'].nunique(), 'system')})",
        key="_others", on_change="rerun",
    )  # fmt: skip
    if place.open:
        with place:
            _table(found, languages)


def _table(found: pd.DataFrame, languages: list[str]) -> None:
    tasks, metrics = found["task"].unique(), found["metric"].unique()
    st.caption(f"In percent ({listed(metrics)}) on {listed(tasks)}. {NOTE}")
    table = wide(found, languages)
    config = {code: st.column_config.NumberColumn(format="%.1f") for code in languages}
    config |= {
        "system": st.column_config.TextColumn(pinned=True, width=140),
        "setting": st.column_config.TextColumn(width="medium"),
        "n": st.column_config.NumberColumn(help="Items a language, where the source says so"),
        "url": st.column_config.LinkColumn("link", display_text="open"),
    }
    st.dataframe(table, hide_index=True, column_config=config, placeholder="")

"""The ranking's filters, all of them in the address; what they choose is one value."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from harness.languages import available, get
from leaderboard import frames
from leaderboard.text import plain

AVERAGE = "average over abilities"
MORE = ("languages", "resource", "family", "seeds", "runs")
"""Keys of the filters that are out of sight until asked for."""


@dataclass(frozen=True)
class Filters:
    """What is asked for; an empty tuple leaves a filter open."""

    ability: str
    reference: str
    languages: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    runs: tuple[str, ...] = ()
    search: str = ""
    with_spread: bool = False

    def apply(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows that pass; the pivot's column stays, whatever its resource level."""
        if self.resources:
            kept = {*self.resources, "pivot"}
            rows = rows[rows["language"].map(frames.resource).isin(kept)]
        return frames.chosen(
            rows,
            abilities=() if self.ability == AVERAGE else (self.ability,),
            languages=self.languages,
            seeds=self.seeds,
            families=self.families,
            runs=self.runs,
            search=self.search,
        )


def ability(rows: pd.DataFrame, *, average: bool = True) -> str:
    """Choose one of the rows' abilities, or their average."""
    names = list(rows["ability"].unique())
    options = [*names, AVERAGE] if average and len(names) > 1 else names
    return st.selectbox(
        "Ability", options, bind="query-params",
        # two keys: a page without averages does not know what to do with one
        key="ability" if average else "of",
        help="An average is the mean over abilities of the mean over target languages, each of "
        "them counting the same; it is blank while a cell of the row is missing",
    )  # fmt: skip


def filters(rows: pd.DataFrame) -> Filters:
    """Show the filters and return what is chosen."""
    left, middle, right = st.columns([2, 2, 2])
    with left:
        chosen = ability(rows)
    methods = list(rows["method"].unique())
    reference = middle.selectbox(
        "Compare with", methods, key="reference", bind="query-params",
        index=methods.index(frames.BASE) if frames.BASE in methods else 0,
        help="A column says how far each method is above or below this one, in points",
    )  # fmt: skip
    search = right.text_input(
        "Search methods", key="search", bind="query-params", placeholder="name or title"
    )
    line = st.container(horizontal=True, vertical_alignment="center")
    chosen_more = sum(bool(st.session_state.get(key)) for key in MORE)
    # in a popover, which a browser makes when it is opened
    with line.popover(f"More filters ({chosen_more})" if chosen_more else "More filters"):
        languages = _several("Languages", rows["language"], "languages", _language_help(rows))
        one, two, three = st.columns(3)
        with one:
            resources = _several(
                "Resource level",
                rows["language"].map(frames.resource),
                "resource",
                "How much text a language has, by its file in harness/languages",
            )
        with two:
            families = _several("Family", rows["family"], "family", _family_help())
        with three:
            seeds = _several("Seeds", rows["seed"].astype(int), "seeds", None)
        runs = _several(
            "Runs",
            rows["run_id"].dropna(),
            "runs",
            "Scores of other runs then count as missing",
        )
    with_spread = line.toggle(
        "± in every column", key="spread", bind="query-params",
        help="Standard deviation over seeds, or with one seed the standard error over items",
    )  # fmt: skip
    return Filters(
        chosen, reference, languages, resources, families, seeds, runs, search or "", with_spread
    )


def _several(label: str, values: pd.Series, key: str, help_text: str | None) -> tuple:
    options = [value for value in values.unique() if value != "pivot"]
    return tuple(
        st.multiselect(
            label, options, key=key, bind="query-params", help=help_text, placeholder="all"
        )
    )


def _language_help(rows: pd.DataFrame) -> str:
    codes = rows["language"].unique()
    return "; ".join(
        f"{plain(code)}: {plain(get(code).name)}, {get(code).resource}"
        for code in codes
        if code in available()
    )


def _family_help() -> str:
    return "; ".join(f"{plain(key)}: {value}" for key, value in frames.FAMILIES.items())

"""The ranking as a data frame widget: columns in their order, what they mean, and what is best."""

from typing import Any

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from harness.languages import available, get
from leaderboard import frames
from leaderboard.marks import BEST, NOT_WORSE
from leaderboard.style import GREY, HIGHLIGHT
from leaderboard.text import counted, plain

SUMMARY = {
    "targets": "Mean over the target languages, % correct",
    "±": "Of targets, in points: standard deviation over seeds, or with one seed the standard "
    "error over questions asked of these trained models",
    "p": "That this method is as good as the best: permutation test over questions, "
    "Holm-adjusted over the methods shown",
    "known": "Targets, on items made of words that the base knows, % correct",
    "new": "Targets, on items made of words that only a language's corpus teaches, % correct",
}


def styled(
    table: pd.DataFrame,
    families: pd.Series,
    spread: pd.DataFrame,
    marks: pd.DataFrame,
    *,
    with_spread: bool = False,
    reported: pd.DataFrame | None = None,
) -> Styler:
    """One row a method; ``table`` is :func:`leaderboard.frames.ranking`, ``marks`` has its index.

    Best and not shown worse are marked in words and by colour. What others ``reported``, rows of
    :func:`leaderboard.reported.as_rows`, comes last, in grey and without a mark.
    """
    languages = [column for column in table.columns if column in spread.columns]
    shown = pd.DataFrame(index=table.index)
    shown["targets"] = table["targets"]
    shown["±"] = table["deviation"].fillna(marks["error"])
    shown["against the best"] = marks["mark"]
    shown["p"] = marks["p"]
    for language in languages:
        shown[language] = table[language]
        if with_spread:
            shown[f"± {language}"] = spread[language]
    rest = [c for c in table.columns if c not in (*languages, "targets", "deviation")]
    shown = shown.join(table[rest])
    shown["family"] = families.map(lambda name: frames.FAMILIES.get(name, name))
    measured = len(shown)
    shown = pd.concat([shown.reset_index(), reported], ignore_index=True)[["method", *shown]]
    shown["against the best"] = shown["against the best"].fillna("")
    best = shown["against the best"].isin([BEST, NOT_WORSE])

    def colour(column: pd.Series) -> list[str]:
        return [HIGHLIGHT if marked else "" for marked in best]

    def grey(column: pd.Series) -> list[str]:
        return [GREY if number >= measured else "" for number in range(len(column))]

    return shown.style.apply(grey).apply(colour, subset=["targets", "against the best"])


def configured(shown: pd.DataFrame) -> dict[str, Any]:
    """Formats and explanations of the columns of :func:`styled`."""
    config: dict[str, Any] = {
        "method": st.column_config.TextColumn(pinned=True),
        "family": st.column_config.TextColumn(width="medium"),
        "against the best": st.column_config.TextColumn(
            width=130,
            help="The best of the methods shown that have every score, and whether another is "
            "worse by more than chance: Holm p ≤ 0.05 and below it in every seed. “Not shown "
            "worse” is not to say that they are equal. An upper reference trains on ability data "
            "in the target languages, which the others may not use: it does not compete",
        ),
    }
    for column in shown.columns:
        if column in config:
            continue
        if column.startswith("Δ"):
            note, form = f"Targets minus those of {plain(column[2:])}, in points", "%+.1f"
        elif column.startswith("± "):
            note, form = f"Of {plain(column[2:])}, in points", "%.1f"
        else:
            note = SUMMARY.get(column) or f"{_language(column)}, % correct"
            form = "%.3g" if column == "p" else "%.1f"
        config[column] = st.column_config.NumberColumn(format=form, help=note)
    return config


def caption(rows: pd.DataFrame, pivot: str) -> str:
    """Unit, n and uncertainty of what the table shows, and what its averages are."""
    abilities = list(rows["ability"].unique())
    seeds = rows["seed"].nunique()
    languages = [code for code in rows["language"].unique() if code != pivot]
    over = f"the {len(languages)} target languages" if len(languages) != 1 else "1 target language"
    if len(abilities) > 1:
        names = ", ".join(plain(name) for name in abilities)
        over = f"{len(abilities)} abilities ({names}) and {over}, each counting the same"
    error = 100 * rows["stderr"].max()
    kind = "standard deviation over seeds" if seeds > 1 else "standard error over questions"
    spread = "" if pd.isna(error) else f", standard error over items at most {error:.1f} points"
    return (
        f"Percent correct; n = {frames.sizes(rows['n'])} items a cell{spread}; "
        f"{counted(seeds, 'seed')}. targets is the mean over {over}, blank while a cell of the row "
        f"is missing; ± is its {kind}. Δ is in points."
    )


def _language(code: str) -> str:
    if code not in available():
        return plain(code)
    found = get(code)
    level = "the pivot" if found.resource == "pivot" else f"{found.resource} resource"
    return f"{plain(found.name)} ({level})"

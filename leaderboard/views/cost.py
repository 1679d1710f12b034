"""Cost: accuracy against what it takes, and what one more language takes."""

import pandas as pd
import streamlit as st

from leaderboard import charts, frames, shell
from leaderboard.costs import UNITS, added_language, costs, front
from leaderboard.facts import facts
from leaderboard.text import counted

COLUMNS = {
    "flops": st.column_config.NumberColumn("training FLOPs", format="scientific"),
    "tokens": st.column_config.NumberColumn("tokens", format="localized"),
    "seconds": st.column_config.NumberColumn("seconds", format="%.1f"),
    "bytes": st.column_config.NumberColumn("MB", format="%.1f"),
    "accuracy": st.column_config.NumberColumn("% correct", format="%.1f"),
    "error": st.column_config.NumberColumn("± points", format="%.1f"),
}


def main() -> None:
    shown = shell.current()
    shell.title("Cost", "What a method's accuracy takes, in compute, time, text and disk.")
    known = facts(shown)
    points = costs(known, shown.variant, shown.pivot)
    if points["accuracy"].isna().all():
        shell.missing("No method has all its scores yet.", "The page Live says what is left.")
        return
    left, right = st.columns([2, 2], vertical_alignment="bottom")
    cost = left.selectbox("Cost", list(UNITS), key="cost", bind="query-params")
    log = right.toggle("Logarithmic", value=True, key="log", bind="query-params")
    _chart(points, cost, log)
    seeds = len(known.seeds)
    st.caption(
        f"Costs are those of a method's models of all abilities and languages, made alone: a step "
        "that several methods share counts for each of them, the base for none; means over "
        f"{counted(seeds, 'seed')}. FLOPs are 6·N·D of training runs (N: all parameters, D: "
        "tokens; Kaplan et al. 2020), and merging counts in seconds alone; seconds were taken "
        "while other steps ran beside. Accuracy is the mean over target languages and abilities, ± "
        + ("standard deviation over seeds." if seeds > 1 else "standard error over items.")
    )
    st.subheader("All methods")
    _table(points[["method", "accuracy", "error", *UNITS, "title"]])
    st.subheader("One more language")
    _table(added_language(known, shown.variant, _targets(shown)))
    st.caption(
        "What adding one target language asks of a method, a mean over the target languages: the "
        "steps with that language's text behind them. What is made without it is kept; – is not "
        "known."
    )


def _chart(points: pd.DataFrame, cost: str, log: bool) -> None:
    drawn = points.dropna(subset=[cost, "accuracy"]).copy()
    if drawn.empty:
        shell.missing(
            f"{UNITS[cost]}: not known for any method that has all its scores.",
            "Costs are in the manifests of steps that were run into this store; choose another.",
        )
        return
    drawn["front"] = front(drawn, cost)
    drawn["family"] = drawn["family"].map(lambda name: frames.FAMILIES.get(name, name))
    st.altair_chart(charts.pareto(drawn, cost, UNITS[cost], log=log), width="stretch")
    names = ", ".join(f"{row.method}" for row in drawn[drawn["front"]].itertuples())
    st.text(f"On the Pareto front (dashed; no method is both cheaper and better): {names}")
    left_out = len(points) - len(drawn)
    if left_out:
        st.caption(f"Not drawn: {counted(left_out, 'method')} without a cost or a score.")


def _table(rows: pd.DataFrame) -> None:
    shown = rows.assign(bytes=rows["bytes"] / 1e6)
    st.dataframe(shown, hide_index=True, column_config=COLUMNS, placeholder="–")


def _targets(shown: shell.View) -> list[str]:
    languages = shown.rows()["language"].unique()
    return [code for code in languages if code != shown.pivot]


main()

"""The ranking page: method × language per ability, a heat map, deltas to the base model.

``streamlit run leaderboard/app.py`` (``make leaderboard``). It opens the snapshot read-only, so it
can stay open while a matrix runs; a cell shows when it is complete.
"""

import altair as alt
import pandas as pd
import streamlit as st

from harness import store
from harness.home import home
from harness.world import NOTE
from leaderboard import frames


def main() -> None:
    st.set_page_config(page_title="MAEC leaderboard", layout="wide")
    st.title("MAEC leaderboard")
    placed = store.placed()
    if placed.empty:
        st.info(f"No matrix was run yet in {home()}. `make matrix` runs the embedded one.")
        return
    names = frames.matrices(placed)
    left, right = st.columns(2)
    name = left.selectbox("Matrix", names, key="matrix")
    placed = placed[placed["matrix"] == name]
    ability = right.segmented_control(
        "Ability",
        list(placed["ability"].unique()),
        default=placed["ability"].iloc[0],
        required=True,
        key="ability",
    )
    _progress(placed)
    points = list(placed["variant"].unique())
    if len(points) > 1:
        placed = placed[placed["variant"] == st.selectbox("Variant", points, key="variant")]
    # what models forgot is no part of their accuracy
    placed = placed[placed["asked"] == placed["ability"]]
    pivot = str(placed["pivot"].iloc[0])
    if placed["embedded"].iloc[0]:
        st.caption(NOTE)
    ranked = frames.summary(placed, ability, pivot).sort_values(
        "targets", ascending=False, na_position="last", kind="stable"
    )
    _ranking(placed, ability, pivot, ranked)
    _heat_map(frames.accuracy(placed, ability).loc[ranked.index])


def _progress(placed: pd.DataFrame) -> None:
    done = int(placed["score"].notna().sum())
    if done < len(placed):
        st.progress(
            done / len(placed),
            text=f"{done} of {len(placed)} cells are scored; reload to see more",
        )


def _ranking(placed: pd.DataFrame, ability: str, pivot: str, table: pd.DataFrame) -> None:
    own = placed[placed["ability"] == ability]
    families = own.drop_duplicates("method").set_index("method")["family"]
    table = table.assign(family=families)[["family", *table.columns]]
    sizes = sorted(own["n"].dropna().astype(int).unique())
    count = "–".join(str(size) for size in dict.fromkeys([sizes[0], sizes[-1]])) if sizes else "0"
    split = own["split"].iloc[0]
    st.subheader(f"{ability}: % correct on {split} items")
    st.dataframe(
        table.reset_index(),
        hide_index=True,
        column_config={
            column: st.column_config.NumberColumn(format="%+.1f" if column == "Δ base" else "%.1f")
            for column in table.columns
            if column != "family"
        },
    )
    error = 100 * own["stderr"].max()
    spread = "" if pd.isna(error) else f", standard error over items at most {error:.1f} points"
    seeds = own["seed"].nunique()
    runs = "1 seed" if seeds == 1 else f"{seeds} seeds"
    st.caption(
        f"{count} items a cell{spread}; {runs}. `targets`, `known` and `new` are means over "
        f"the languages other than {pivot}, blank while a cell is missing; `known` and `new` are "
        "items made of words that the base model knows, and of words that only the language "
        "corpora teach. `Δ base` is in points."
    )


def _heat_map(table: pd.DataFrame) -> None:
    shown = frames.long(table)
    base = alt.Chart(shown).encode(
        x=alt.X("language:N", sort=list(table.columns), title=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("method:N", sort=list(table.index), title=None),
    )
    squares = base.mark_rect().encode(
        color=alt.Color(
            "accuracy:Q", scale=alt.Scale(scheme="viridis", domain=[0, 100]), title="% correct"
        ),
        tooltip=["method", "language", alt.Tooltip("accuracy:Q", format=".1f")],
    )
    numbers = base.mark_text().encode(
        text=alt.Text("accuracy:Q", format=".0f"),
        # viridis is dark below its middle
        color=alt.condition("datum.accuracy > 55", alt.value("black"), alt.value("white")),
    )
    chart = (squares + numbers).properties(height=alt.Step(28))
    st.altair_chart(chart, width="stretch")


main()

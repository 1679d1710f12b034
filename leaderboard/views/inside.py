"""Inside MAEC: where key neurons lie, which tensors take ability weights, tuning, ablations."""

import pandas as pd
import streamlit as st

from harness.compared import VERDICTS
from harness.report import work
from leaderboard import charts, inner, shell
from leaderboard.facts import facts
from leaderboard.filters import ability
from leaderboard.frames import sizes
from leaderboard.tested import against
from leaderboard.text import counted, number, plain
from maec.errors import InputError


def main() -> None:
    shown = shell.current()
    shell.title(
        "Inside MAEC", "What the method moved, how it was tuned, which of its steps matter."
    )
    known = facts(shown)
    asked = ability(shown.rows(), average=False)
    _tensors(work.tensors(known), shown.variant, asked)
    _tuning(known.trials, asked)
    _ablations(shown, asked)


def _tensors(tensors: pd.DataFrame, variant: str, asked: str) -> None:
    st.subheader("Key neurons and selected tensors")
    if not tensors.empty:
        here = (tensors["variant"] == variant) & (tensors["ability"] == asked)
        tensors = tensors[here].astype({"similarity": float})
    if tensors.empty:
        shell.missing(
            "No merged model of MAEC is in this matrix for this ability.",
            "Name the method `maec` in a matrix file and run it.",
        )
        return
    models = tensors[["method", "seed", "key"]].drop_duplicates()
    names = [f"{row.method}, seed {row.seed}, {row.key[:8]}" for row in models.itertuples()]
    name = names[0]
    if len(names) > 1:
        name = st.selectbox("Model", names, key="model", bind="query-params")
    key = models["key"].iloc[names.index(name)]
    one = inner.of_model(tensors[tensors["key"] == key].drop_duplicates(["layer", "module"]))
    total = inner.totals(one)
    one["layer"] = one["layer"].replace("outside the layers", "outside")
    st.caption(
        f"{total['key_neurons']:,} of {total['parameters']:,} parameters are key neurons "
        f"({total['share']:.1f} %); {total['selected']} of {total['tensors']} tensors are selected "
        "and take ability weights. Counts are exact: there is no sampling in them."
    )
    left, right = st.columns(2)
    with left:
        st.caption("Share of key neurons in each tensor, %")
        st.altair_chart(charts.layers(one, "share", "% key neurons"), width="stretch")
    with right:
        st.caption("Cosine similarity, ability and language weights; dot: selected")
        chart = charts.layers(one, "similarity", "cosine similarity", signed=True)
        st.altair_chart(chart, width="stretch")
    with st.expander("All tensors"):
        columns = [
            "layer",
            "module",
            "parameters",
            "key_neurons",
            "share",
            "similarity",
            "selected",
        ]
        st.dataframe(
            one[columns],
            hide_index=True,
            column_config={
                "share": st.column_config.NumberColumn("key neurons, %", format="%.2f"),
                "key_neurons": st.column_config.NumberColumn("key neurons"),
                "similarity": st.column_config.NumberColumn(format="%.4f"),
            },
        )


def _tuning(trials: list[dict], asked: str) -> None:
    st.subheader("Tuning")
    found = inner.curves(trials, asked)
    if found.empty:
        shell.missing(
            "No sweep of this matrix was done for this ability.",
            "`harness sweep MATRIX --method maec` searches parameters on dev items.",
        )
        return
    st.altair_chart(charts.curves(found), width="stretch")
    st.caption(
        f"Best score so far by trial, on n = {sizes(found['n'])} dev items (standard error at most "
        f"{found['error'].max():.1f} points), never on test items. A chosen "
        "point is the best of its trials, and so flatters."
    )
    with st.expander("All trials"):
        columns = ["method", "seed", "number", "score", "error", "n", "parameters"]
        st.dataframe(
            found[columns],
            hide_index=True,
            column_config={
                "number": "trial",
                "score": st.column_config.NumberColumn("% correct on dev", format="%.1f"),
                "error": st.column_config.NumberColumn("± points", format="%.1f"),
                "n": "n, items",
            },
        )


def _ablations(shown: shell.View, asked: str) -> None:
    st.subheader("Which steps matter")
    rows = shown.rows()
    own = rows[(rows["ability"] == asked) & (rows["language"] != shown.pivot)]
    complete = own.groupby("method", sort=False)["score"].agg(lambda values: values.notna().all())
    family = own.drop_duplicates("method").set_index("method")["family"]
    ready = [name for name in complete.index if complete[name]]
    ours = [name for name in ready if family[name] == "maec"]
    others = [name for name in ready if family[name] == "ablation"]
    if not ours or not others:
        shell.missing(
            "This matrix has no complete ablation of MAEC.",
            "Name some under `methods`, such as `maec-no-mask` or `maec-no-language`.",
        )
        return
    try:
        with st.spinner("Testing …"):
            found = against(
                shown.path, shown.matrix, shown.variant, asked, ours[0], others, shown.pivot
            )
    except InputError as error:
        st.warning(plain(error))
        return
    titles = own.drop_duplicates("method").set_index("method")["title"]
    table = pd.DataFrame(
        {
            "without": found["b"],
            "what is different": found["b"].map(titles),
            "MAEC, %": found["mean_a"],
            "ablated, %": found["mean_b"],
            "difference, points": found["difference"],
            "95 % interval": [
                f"[{number(row.low, sign=True)}, {number(row.high, sign=True)}]"
                for row in found.itertuples()
            ],
            "Holm p": found["p_holm"],
            "verdict": found["verdict"].map(VERDICTS),
        }
    )
    one = st.column_config.NumberColumn(format="%.1f")
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "MAEC, %": one,
            "ablated, %": one,
            "difference, points": st.column_config.NumberColumn(format="%+.1f"),
            "Holm p": st.column_config.NumberColumn(format="%.3g"),
        },
    )
    st.caption(
        f"A is {plain(ours[0])}: mean over the target languages, n = {found['items'].max():,} "
        f"questions, {counted(len(found['seeds'].iloc[0]), 'seed')}; Holm p over "
        f"{counted(len(found), 'row')}. A win needs p ≤ 0.05 and the same sign in every seed."
    )


main()

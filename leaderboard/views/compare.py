"""Compare: two methods head to head, and the questions on which they disagree."""

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from harness.compared import VERDICTS
from harness.store import browse
from leaderboard import charts, data, shell
from leaderboard.filters import ability
from leaderboard.pager import pager
from leaderboard.tested import pair
from leaderboard.text import counted, number, plain
from maec.errors import InputError
from maec.visible import visible

SIZE = 10  # disagreements a page


def main() -> None:
    shown = shell.current()
    shell.title("Compare", "Two methods on the same questions, paired question by question.")
    rows = shown.rows()
    scored = rows[rows["score"].notna()]
    methods = list(scored["method"].unique())
    if len(methods) < 2:
        shell.missing(
            "Two methods with scores are needed.", "`harness run` scores what is missing."
        )
        return
    one, two, three = st.columns(3)
    with one:
        asked = ability(scored, average=False)
    first = _first(scored)
    a = two.selectbox("A", methods, index=methods.index(first), key="a", bind="query-params")
    others = [name for name in methods if name != a]
    b = three.selectbox("B", others, key="b", bind="query-params")
    try:
        with st.spinner("Testing …"):
            summary, cells = pair(shown.path, shown.matrix, shown.variant, asked, a, b, shown.pivot)
    except InputError as error:
        st.warning(plain(error))
    else:
        _verdict(summary, a, b)
        _by_language(cells, a, b)
    _disagreements(shown, asked, a, b, list(rows["language"].unique()))


def _first(rows: pd.DataFrame) -> str:
    """MAEC where it is, else the first that is not the base."""
    maec = rows.loc[rows["family"] == "maec", "method"]
    others = rows.loc[rows["family"] != "reference", "method"]
    return next(iter([*maec, *others, *rows["method"]]))


def _verdict(row: pd.Series, a: str, b: str) -> None:
    seeds = len(row["seeds"])
    left, middle, right = st.columns(3)
    left.metric("A, % correct", number(row["mean_a"]))
    middle.metric("B, % correct", number(row["mean_b"]))
    right.metric(
        "A − B, points",
        number(row["difference"], sign=True),
        help="95 % interval: paired bootstrap over questions; p: permutation test",
    )
    deviation = f", standard deviation over seeds {row['sd']:.1f}" if seeds > 1 else ""
    st.markdown(
        f"**{VERDICTS[row['verdict']]}**: A is {plain(a)}, B is {plain(b)}; A − B = "
        f"{number(row['difference'], sign=True)} points, 95 % interval "
        f"[{number(row['low'], sign=True)}, {number(row['high'], sign=True)}]{deviation}, "
        f"p = {row['p']:.2g}."
    )
    st.caption(
        f"Mean over {len(row['languages'])} target languages, each counting the same; "
        f"n = {row['items']:,} questions, {counted(seeds, 'seed')}. Interval and p "
        "are about other questions asked of these trained models; what another training run would "
        "give, only seeds can say. A win needs p ≤ 0.05 and the same sign in every seed. No "
        "difference shown is not to say that there is none."
    )


def _by_language(cells: pd.DataFrame, a: str, b: str) -> None:
    st.subheader("Wins and losses by language")
    st.altair_chart(charts.differences(cells, a, b), width="stretch")
    columns = ["language", "seed", "n", "both", "only_a", "only_b", "neither", "difference", "p",
               "p_holm"]  # fmt: skip
    st.dataframe(
        cells[columns],
        hide_index=True,
        column_config={
            "n": st.column_config.NumberColumn("n, items"),
            "both": "both right",
            "only_a": "only A right",
            "only_b": "only B right",
            "neither": "neither right",
            "difference": st.column_config.NumberColumn("A − B, points", format="%+.1f"),
            "p": st.column_config.NumberColumn("p", format="%.3g"),
            "p_holm": st.column_config.NumberColumn("Holm p", format="%.3g"),
        },
    )
    st.caption(
        f"Exact McNemar test for each language and seed; Holm p over {counted(len(cells), 'row')}."
    )


def _disagreements(shown: shell.View, asked: str, a: str, b: str, languages: list[str]) -> None:
    st.subheader("Where they disagree")
    left, right = st.columns(2)
    language = left.selectbox("Language", ["any", *languages], key="language", bind="query-params")
    who = right.selectbox("Who was right", ["either", "A", "B"], key="who", bind="query-params")
    wanted = browse.Wanted(
        shown.matrix,
        shown.variant,
        ability=asked,
        language=None if language == "any" else language,
        verdict=None if who == "either" else who.lower(),
    )
    place = st.container()
    total, _ = data.ask(browse.disagreements, shown.path, wanted, a, b, 0, 0)
    if not total:
        place.info("They agree on every question here.")
        return
    offset = pager(total, SIZE, "questions", key="differ")
    _, found = data.ask(browse.disagreements, shown.path, wanted, a, b, SIZE, offset)
    with place:
        for row in found.to_dict("records"):
            _pair(row, a, b)


def _pair(row: dict, a: str, b: str) -> None:
    with st.container(border=True, gap="xsmall"):
        st.caption(
            f"{plain(row['language'])}, seed {row['seed']}, {plain(row['id'])}: "
            f"{plain(a if row['right'] == 'a' else b)} is right"
        )
        prompt, first, second, gold = st.columns([4, 3, 3, 2])
        _field(prompt, "prompt", row["prompt"])
        for place, side, name in zip((first, second), "ab", (a, b), strict=True):
            mark = "right" if row["right"] == side else "wrong"
            said = _answer(row[f"output_{side}"], row[f"extracted_{side}"])
            _field(place, f"{side.upper()}: {plain(name)}, {mark}", said)
        _field(gold, "expected", row["gold"])


def _field(place: DeltaGenerator, name: str, value: str) -> None:
    with place.container(gap=None):
        st.caption(name)
        st.text(visible(value) or "(empty)")


def _answer(output: str | None, extracted: str | None) -> str:
    """What was said, and what was read from it; of choices only the latter exists."""
    said = output if isinstance(output, str) else None
    read = extracted if isinstance(extracted, str) else "nothing"
    return f"{said}\n→ {read}" if said is not None else f"→ {read}"


main()

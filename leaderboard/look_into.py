"""From a method in the ranking to what lies behind its row, on the other pages."""

from pathlib import Path

import pandas as pd
import streamlit as st

VIEWS = Path(__file__).parent / "views"


def look_into(rows: pd.DataFrame, methods: list[str], pivot: str, reference: str) -> None:
    """Choose one of ``methods``, and follow a link with it: compare, items, reproduce and cite.

    The links ask for the first ability and target language among ``rows``.
    """
    with st.container(horizontal=True, vertical_alignment="bottom"):
        method = st.selectbox("Look into", methods, key="_look_into", width=240)
        ability = str(rows["ability"].iloc[0])
        targets = [code for code in rows["language"].unique() if code != pivot]
        language = (targets or [pivot])[0]
        seed = str(rows["seed"].iloc[0])
        if method != reference:
            _link("compare", "Compare", {"a": method, "b": reference, "of": ability})
        _link("items", "Items", {"method": method, "asked": ability, "language": language})
        score = {"method": method, "ability": ability, "language": language, "seed": seed}
        _link("reproduce", "Reproduce", {f"score_{name}": value for name, value in score.items()})


def _link(page: str, label: str, query: dict[str, str]) -> None:
    # source, matrix and variant stay what they are
    kept = {name: st.session_state.get(name) for name in ("source", "matrix", "variant")}
    query = {**{name: value for name, value in kept.items() if value}, **query}
    st.page_link(VIEWS / f"{page}.py", label=label, query_params=query, width="content")

"""Items: what models were asked, what they said, and what was read from it."""

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from harness.store import browse
from leaderboard import data, shell
from leaderboard.pager import pager
from leaderboard.text import number, plain
from maec.visible import visible

SIZE = 20  # items a page

ANY = "any"


def main() -> None:
    shown = shell.current()
    shell.title("Items", "Every question with its answer, as text, item by item.")
    wanted = _wanted(shown)
    total = data.ask(browse.count, shown.path, wanted)
    if not total:
        shell.missing(
            "No item is like that.", "Loosen a filter; what is not scored yet has no items."
        )
        return
    place = st.container()
    offset = pager(total, SIZE, "items")
    found = data.ask(browse.page, shown.path, wanted, SIZE, offset)
    with place:
        for row in found.to_dict("records"):
            _item(row)


def _wanted(shown: shell.View) -> browse.Wanted:
    placed = shown.placed()
    placed = placed[placed["variant"] == shown.variant]
    one, two, three = st.columns(3)
    methods = list(placed["method"].unique())
    method = _one(one, "Method", methods, "method", 1)
    asked = _one(two, "Asked for", list(placed["asked"].unique()), "asked", 1)
    languages = list(placed["language"].unique())
    first = next((i for i, code in enumerate(languages, 1) if code != shown.pivot), 1)
    language = _one(three, "Language", languages, "language", first)
    one, two, three = st.columns(3)
    verdict = _one(one, "Verdict", list(browse.VERDICTS), "verdict", 0)
    seeds = [str(seed) for seed in sorted(placed["seed"].unique())]
    seed = _one(two, "Seed", seeds, "seed", 0) if len(seeds) > 1 else None
    text = three.text_input(
        "Search in all texts", key="text", bind="query-params",
        placeholder="prompt, output, answer, gold",
    )  # fmt: skip
    return browse.Wanted(
        shown.matrix,
        shown.variant,
        method=method,
        # of a model's own ability; text is asked of every model
        ability=asked if asked in set(placed["ability"]) else None,
        asked=asked,
        language=language,
        seed=None if seed is None else int(seed),
        verdict=verdict,
        text=text or "",
    )


def _one(place: DeltaGenerator, label: str, options: list[str], key: str, index: int) -> str | None:
    found = place.selectbox(label, [ANY, *options], index=index, key=key, bind="query-params")
    return None if found == ANY else found


def _item(row: dict) -> None:
    judged = row["correct"] is not None and not pd.isna(row["correct"])
    verdict = ("right" if row["correct"] else "wrong") if judged else "not judged"
    words = f", {plain(row['words'])} words" if isinstance(row["words"], str) else ""
    with st.container(border=True, gap="xsmall"):
        st.caption(
            f"{_sign(verdict)} {verdict}: {plain(row['method'])}, {plain(row['asked'])}, "
            f"{plain(row['language'])}, seed {row['seed']}, {plain(row['id'])}{words}"
        )
        prompt, output, extracted, gold = st.columns([4, 3, 2, 2])
        _field(prompt, "prompt", row["prompt"])
        _field(output, "output", row["output"])
        _choices(output, row)
        _field(extracted, "extracted", row["extracted"])
        if row["gold"] != row["prompt"]:
            _field(gold, "expected", row["gold"])


def _field(place: DeltaGenerator, name: str, value: object) -> None:
    if isinstance(value, str):
        with place.container(gap=None):
            st.caption(name)
            st.text(visible(value) or "(empty)")


def _choices(place: DeltaGenerator, row: dict) -> None:
    """Log-likelihoods in nats, of the choices or of the whole text."""
    likely = row["loglikelihoods"]
    if likely is None or not hasattr(likely, "__len__") or not len(likely):
        return
    choices = row["choices"]
    named = choices is not None and hasattr(choices, "__len__") and len(choices) == len(likely)
    names = choices if named else ["the text"] * len(likely)
    lines = [f"{number(value, 2)}  {name}" for name, value in zip(names, likely, strict=True)]
    _field(place, "log-likelihood, nats", "\n".join(lines))


def _sign(verdict: str) -> str:
    return {"right": ":material/check_circle:", "wrong": ":material/cancel:"}.get(
        verdict, ":material/remove:"
    )


main()

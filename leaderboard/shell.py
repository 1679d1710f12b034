"""What all pages share: what is looked at, the link that shows it again, and empty states."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from harness.embedded import NOTE
from harness.home import home
from harness.store import Source, view
from leaderboard import data, frames
from leaderboard.text import counted, plain

_VIEW = "_view"


@dataclass(frozen=True)
class View:
    """A variant of a matrix in a source; ``split`` is test or dev, ``base`` the base's name."""

    source: str
    path: Path
    matrix: str
    variant: str
    pivot: str
    split: str
    base: str
    embedded: bool

    def placed(self) -> pd.DataFrame:
        """As :func:`harness.store.view.placed`, of this matrix; all variants."""
        return data.ask(view.placed, self.path, self.matrix)

    def rows(self) -> pd.DataFrame:
        """The variant's rows in which models are asked their own ability."""
        return frames.own(self.placed(), self.variant)


def sidebar() -> View | None:
    """Choose source, matrix and variant; None where the source holds nothing yet."""
    st.session_state.pop(_VIEW, None)
    with st.sidebar:
        source = _source()
        found = data.ask(view.matrices, source.path)
        if found.empty:
            return None
        matrix = st.selectbox(
            "Matrix", list(found["matrix"]), key="matrix", bind="query-params",
            help="What was run together: a base model, its methods, languages and abilities",
        )  # fmt: skip
        points = data.ask(view.variants, source.path, matrix)
        variant = points[0]
        if len(points) > 1:
            variant = st.selectbox("Variant", points, key="variant", bind="query-params")
    row = found.set_index("matrix").loc[matrix]
    base = "embedded" if row["embedded"] else str(row["base"])
    shown = View(
        source.name, source.path, matrix, variant, row["pivot"], row["split"], base,
        bool(row["embedded"]),
    )  # fmt: skip
    st.session_state[_VIEW] = shown
    with st.sidebar:
        _state(row)
    return shown


def welcome() -> None:
    """What to do before the first run."""
    st.title("MAEC leaderboard")
    missing(
        f"No matrix was run yet in {plain(home())}.",
        "Run `make matrix`, which scores the embedded world in some minutes, then reload.",
    )


def current() -> View:
    """What the sidebar has chosen; for pages, which run after it."""
    return st.session_state[_VIEW]


def link() -> None:
    """A link to what is shown, defaults written out: for copying, or a tab of its own."""
    state = {
        key: value
        for key, value in st.session_state.items()
        if not str(key).startswith("_") and value not in (None, "", [])
    }
    words = {key: _word(value) for key, value in sorted(state.items(), key=lambda e: str(e[0]))}
    address = (st.context.url or "").split("?")[0]
    # no code block: a browser takes half a second to get ready for the first
    with st.sidebar:
        st.markdown(f"[Link to this view]({address}?{urlencode(words, doseq=True)})")


def title(heading: str, what: str) -> None:
    """A page's heading, one line that says what it shows, and what the figures are worth."""
    st.title(heading)
    shown = current()
    if shown.embedded:
        st.caption(NOTE)
    where = f"{plain(shown.matrix)}{', ' + plain(shown.variant) if shown.variant else ''}"
    st.caption(f"{what} Matrix {where}; base model {plain(shown.base)}; {shown.split} items.")


def missing(what: str, remedy: str) -> None:
    """An empty state: what is not there, and what brings it."""
    st.info(f"{what} {remedy}")


def unscored(rows: pd.DataFrame) -> bool:
    """Whether none of ``rows`` has a score; then says so, and where to look."""
    if not rows["score"].isna().all():
        return False
    missing("No cell of this matrix is scored yet.", "The page Live says what is left.")
    return True


def _source() -> Source:
    found = data.sources()
    by_name = {source.name: source for source in found}
    if len(found) == 1:
        return found[0]
    name = st.selectbox(
        "Source", list(by_name), key="source", bind="query-params",
        help="The live store of this checkout, or a released set in results/",
    )  # fmt: skip
    return by_name[name]


def _state(row: pd.Series) -> None:
    """How much is there, and from when."""
    left = int(row["cells"] - row["scored"])
    if left:
        st.progress(
            row["scored"] / row["cells"],
            text=f"{row['scored']:,} of {row['cells']:,} cells are scored; reload to see more",
        )
    if pd.notna(row["newest"]):
        newest = f"{pd.Timestamp(row['newest']):%Y-%m-%d %H:%M}"
        st.caption(f"{counted(int(row['scored']), 'cell')} scored, the newest {newest}")


def _word(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return [str(part) for part in value] if isinstance(value, list | tuple) else str(value)

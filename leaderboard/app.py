"""The leaderboard's entry: one look for all pages, the sidebar, and the page that was asked for.

``python -m leaderboard`` (``make leaderboard``) serves it. It opens snapshots read-only, so it can
stay open while a matrix runs; a cell shows when it is complete.
"""

from pathlib import Path

import streamlit as st

from leaderboard import shell, style
from leaderboard.text import plain
from maec.errors import InputError

# Not ``pages``: Streamlit takes a folder of that name for an app of another kind, until somebody
# has opened the entry page, and a link to any other page would fail.
PAGES = Path(__file__).parent / "views"

TITLES = {
    "ranking": ("Ranking", ":material/leaderboard:"),
    "map": ("Map", ":material/grid_on:"),
    "compare": ("Compare", ":material/compare_arrows:"),
    "cost": ("Cost", ":material/payments:"),
    "inside": ("Inside MAEC", ":material/hub:"),
    "items": ("Items", ":material/list_alt:"),
    "reproduce": ("Reproduce and cite", ":material/replay:"),
    "live": ("Live", ":material/sync:"),
}


def main() -> None:
    icon = Path(__file__).parent / "icon.svg"  # a name of an icon would be fetched from a network
    st.set_page_config(page_title="MAEC leaderboard", page_icon=str(icon), layout="wide")
    style.apply()
    pages = [
        st.Page(PAGES / f"{name}.py", title=title, icon=icon, default=name == "ranking")
        for name, (title, icon) in TITLES.items()
    ]
    page = st.navigation(pages, expanded=True)
    try:
        if shell.sidebar() is None:
            shell.welcome()
            return
        page.run()
        shell.link()
    except InputError as error:
        st.error(plain(error))


main()

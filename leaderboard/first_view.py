"""What the first visitor of a new server waits for, in headless Chromium: for ``make bench``.

``python -m leaderboard.first_view OPTION`` opens the ranking page on the store of MAEC_HOME,
chooses the ability OPTION, and prints the figures as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from harness.home import home
from leaderboard import headless
from maec.errors import InputError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_CONTROL = """
import pandas as pd
import streamlit as st

st.title("A few numbers")
chosen = st.selectbox("Ability", {options})
st.dataframe(pd.DataFrame({{"chosen": [chosen] * 20, "number": range(20)}}))
"""

_SCORES = '[data-testid="stDataFrame"] canvas td'
# what is drawn: the table for screen readers, by which scores are recognised, follows 0.2 s later
_NOW = """
() => document.querySelector('[data-testid="stDataFrame"] canvas')?.toDataURL() ?? ""
"""
_OTHER = f'before => !["", before].includes(({_NOW.strip()})())'


def measure(option: str) -> dict[str, float]:
    """Seconds from an address to scores on the screen, and from a click to other scores.

    Beside it, in turn, the same of a page of a few numbers: what Streamlit and the browser take for
    themselves. Every visitor's browser has an empty cache; the first one's server has served nobody
    yet. Memory is the server's at the end, in MiB.

    Raises:
        InputError: there is no browser.
    """
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, headless.browsing() as browser:
        control = Path(folder) / "control.py"
        control.write_text(_CONTROL.format(options=["other", option]), encoding="utf-8")
        with (
            headless.serving(home()) as server,
            headless.serving(home(), script=control) as other,
        ):
            for visitor in ("first", "second"):
                for name, at in (("", server), (" of a page of a few numbers", other)):
                    view, change = _visit(browser, at.address, option)
                    figures[f"{visitor} visitor{name}, s"] = view
                    figures[f"{visitor} visitor's filter{name}, s"] = change
            figures["server, MiB"] = _peak(server.pid)
    return figures


def _visit(browser: Browser, address: str, option: str) -> tuple[float, float]:
    """Seconds until scores are on the screen, and until others are after ``option`` is chosen."""
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(1000 * headless.PATIENCE)
        began = time.monotonic()
        page.goto(address)
        page.wait_for_selector(_SCORES, state="attached")
        view = time.monotonic() - began
        headless.settle(page)
        before = page.evaluate(_NOW)
        select = page.get_by_test_id("stSelectbox").filter(has_text="Ability")
        select.get_by_role("combobox").click()
        chosen = page.get_by_role("option", name=option, exact=True)
        chosen.wait_for()
        began = time.monotonic()
        chosen.click()
        page.wait_for_function(_OTHER, arg=before, polling=20)
        return view, time.monotonic() - began


def _peak(pid: int) -> float:
    """The most memory that a process held, in MiB; what it holds now where no one counts."""
    status = Path(f"/proc/{pid}/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    return psutil.Process(pid).memory_info().rss / 2**20


def main() -> None:
    try:
        print(json.dumps(measure(sys.argv[1])))
    except InputError as error:
        print(f"leaderboard: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

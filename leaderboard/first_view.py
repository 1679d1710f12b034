"""What the first visitor of a new server waits for, in headless Chromium: for ``make bench``.

``python -m leaderboard.first_view OPTION`` opens the ranking page on the store of MAEC_HOME,
chooses the ability OPTION, and prints the figures as JSON.
"""

import json
import sys
import time
from pathlib import Path

import psutil

from harness.home import home
from leaderboard import headless
from maec.errors import InputError

_SCORES = '[data-testid="stDataFrame"] canvas td'
_OTHER = """
before => {
    const cells = [...document.querySelectorAll('[data-testid="stDataFrame"] canvas td')];
    return cells.length && cells.map(cell => cell.textContent).join("|") !== before;
}
"""
_NOW = """
() => [...document.querySelectorAll('[data-testid="stDataFrame"] canvas td')]
    .map(cell => cell.textContent).join("|")
"""


def measure(option: str) -> dict[str, float]:
    """Seconds from an address to scores on the screen, and from a click to other scores.

    The first visitor's server has imported nothing yet; both visitors' browsers have nothing in
    their caches. Memory is the server's at the end, in MiB.

    Raises:
        InputError: there is no browser.
    """
    with headless.browsing() as browser, headless.serving(home()) as server:
        figures = {}
        for visitor in ("first", "second"):
            with browser.new_context() as context:
                page = context.new_page()
                began = time.monotonic()
                page.goto(server.address)
                page.wait_for_selector(_SCORES, state="attached")
                figures[f"{visitor} visitor, s"] = time.monotonic() - began
                headless.settle(page)
                figures[f"{visitor} visitor, tests of significance too, s"] = (
                    time.monotonic() - began - headless.QUIET
                )
                before = page.evaluate(_NOW)
                page.get_by_test_id("stSelectbox").filter(has_text="Ability").get_by_role(
                    "combobox"
                ).click()
                chosen = page.get_by_role("option", name=option, exact=True)
                chosen.wait_for()
                began = time.monotonic()
                chosen.click()
                page.wait_for_function(_OTHER, arg=before, polling=20)
                figures[f"{visitor} visitor's filter, s"] = time.monotonic() - began
                headless.settle(page)
        figures["server, MiB"] = _peak(server.pid)
    return figures


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

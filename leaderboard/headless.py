"""The leaderboard without a person: served on a free port, and opened in headless Chromium.

For browser tests and screenshots. Chromium is the system's; playwright drives it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.home import CHECKOUT
from harness.home import results as released
from maec.errors import InputError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60
"""Seconds that the server may take to answer, and a page to be all there."""

QUIET = 0.5
"""Seconds without a change after which a page counts as settled: a click works with a delay."""

_SETTLED = """
quietFor => {
    const app = document.querySelector('[data-testid="stApp"]');
    const quiet = app && app.dataset.testScriptState === "notRunning"
        && document.querySelector('[data-testid="stElementContainer"]')
        && !document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]');
    if (!quiet) { window.quietSince = null; return false; }
    window.quietSince ??= performance.now();
    return performance.now() - window.quietSince > 1000 * quietFor;
}
"""

_CELLS = """
frame => [...frame.querySelectorAll("canvas tr")].map(
    row => [...row.querySelectorAll("th, td")].map(cell => cell.textContent))
"""


def chromium() -> str | None:
    """The path of the system's Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass(frozen=True)
class Server:
    """A leaderboard that answers at ``address``, in the process ``pid``."""

    address: str
    pid: int


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def serving(
    home: Path,
    results: Path | None = None,
    script: Path | None = None,
    port: int | None = None,
) -> Iterator[Server]:
    """A leaderboard on the store in ``home``, until the block ends.

    ``results`` is the folder of released sets, by default that of this process. Another Streamlit
    ``script`` can be served in the leaderboard's place, at a ``port`` of one's choice.

    Raises:
        RuntimeError: it does not answer within a minute.
    """
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    options = {
        "port": str(port),
        "address": "127.0.0.1",
        "headless": "true",
        "fileWatcherType": "none",
    }
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                *(["streamlit", "run", str(script)] if script else ["leaderboard"]),
            ]
            + [f"--server.{name}={value}" for name, value in options.items()],
            cwd=CHECKOUT,
            env={**os.environ, "MAEC_HOME": str(home), "MAEC_RESULTS": str(results or released())},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            if not _answers(address, server):
                said.seek(0)
                output = said.read().decode(errors="replace")[-2000:]
                raise RuntimeError(f"the leaderboard does not answer: {output}")
            yield Server(address, server.pid)
        finally:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextmanager
def browsing() -> Iterator[Browser]:
    """Headless Chromium, until the block ends.

    Raises:
        InputError: there is none on this machine.
    """
    from playwright.sync_api import sync_playwright

    path = chromium()
    if path is None:
        raise InputError(
            f"no browser: none of {', '.join(NAMES)} is on the PATH; install Debian's package "
            "chromium, or another that brings one of them"
        )
    # Chromium refuses to sandbox what root starts
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, args=["--no-sandbox"] if root else []
        )
        try:
            yield browser
        finally:
            browser.close()


def settle(page: Page) -> None:
    """Wait until Streamlit has run and all that it sent is drawn.

    Raises:
        playwright.sync_api.TimeoutError: that takes more than a minute.
    """
    page.wait_for_function(_SETTLED, arg=QUIET, timeout=1000 * PATIENCE)


def visit(page: Page, address: str) -> None:
    """Open an address and wait until it is all there."""
    page.goto(address)
    settle(page)


def choose(page: Page, label: str, option: str) -> None:
    """Choose an option of a select box; returns at once, :func:`settle` waits for the effect."""
    page.get_by_test_id("stSelectbox").filter(has_text=label).get_by_role("combobox").click()
    page.get_by_role("option", name=option, exact=True).click()


def table(page: Page, number: int = 0) -> list[dict[str, str]]:
    """What a data frame on the page shows, one dict a row, as far as it is scrolled to.

    Streamlit draws data frames on a canvas, and says the same in a table for screen readers.
    """
    frame = page.get_by_test_id("stDataFrame").nth(number)
    frame.locator("canvas th").first.wait_for(state="attached")
    rows = frame.evaluate(_CELLS)
    header, *body = [row for row in rows if row]
    return [dict(zip(header, row, strict=False)) for row in body]


def _answers(address: str, server: subprocess.Popen) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5) as answer:
                return answer.read() == b"ok"
        except OSError:
            time.sleep(0.1)
    return False

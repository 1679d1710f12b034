"""The leaderboard in a real browser: it opens, filters, links, hands out files, runs no text."""

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import duckdb
import pandas as pd
import pytest

from harness.store.export import export
from leaderboard import headless
from tests.conftest import CHECKOUT

pytestmark = pytest.mark.slow

MARK = "planted-7c1f"
SCRIPT = f"{MARK} <script>window.planted = 1</script><img src=x onerror='window.planted = 2'>"
FORMULA = f"{MARK} $x^2$ and $$\\frac{{1}}{{2}}$$ **bold** [link](javascript:window.planted=3)"
TITLE = "A <script>window.planted = 4</script> $x$ title"
SCORES = """
    SELECT p.method, p.ability, p.language, 100 * c.score AS score, c.key AS cell, c.score AS share,
           c.stderr, c.n, c.fingerprint
    FROM placements p JOIN cells c ON c.key = p.cell WHERE p.asked = p.ability
"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Headless Chromium; without one, a skip, or a failure where CI_BROWSER says there is one."""
    if headless.chromium() is None:
        said = f"no browser: none of {', '.join(headless.NAMES)} is on the PATH"
        if os.environ.get("CI_BROWSER"):
            pytest.fail(said)
        pytest.skip(said)
    with headless.browsing() as opened:
        yield opened


@pytest.fixture(scope="module")
def planted(ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the scores of a matrix that ran, and texts that want to be more than text."""
    home = tmp_path_factory.mktemp("planted")
    shutil.copy(ran / "snapshot.duckdb", home)
    with duckdb.connect(str(home / "snapshot.duckdb")) as connection:
        (cell,) = connection.execute(
            "SELECT cell FROM placements WHERE ability = 'math' AND asked = 'math' "
            "AND language <> 'en' ORDER BY row LIMIT 1"
        ).fetchone()
        for item, text in enumerate((SCRIPT, FORMULA)):
            connection.execute(
                "UPDATE items SET prompt = 'Asked: ' || $1, output = 'Said: ' || $1, "
                "extracted = $1 WHERE cell = $2 AND item = $3",
                [text, cell, item],
            )
        connection.execute("UPDATE placements SET title = ? WHERE method = 'tv'", [TITLE])
    return home


@pytest.fixture(scope="module")
def server(browser: object, planted: Path) -> Iterator[headless.Server]:
    with headless.serving(planted) as started:
        yield started


@pytest.fixture
def page(browser: object, server: headless.Server) -> Iterator:
    """A visitor without a past, and what went wrong in the visitor's browser."""
    with browser.new_context(
        viewport={"width": 1600, "height": 1200}, base_url=server.address, accept_downloads=True
    ) as context:
        opened = context.new_page()
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        yield opened
        assert errors == []


def scores(home: Path, where: str = "true") -> pd.DataFrame:
    with duckdb.connect(str(home / "snapshot.duckdb"), read_only=True) as connection:
        return connection.execute(f"{SCORES} AND {where}").df()


def assert_no_error(page) -> None:
    assert page.get_by_test_id("stException").count() == 0, page.inner_text("body")


def eventually(check: Callable[[], None]) -> None:
    """``check`` passes before long: a page takes its time to follow a click."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return check()
        except (AssertionError, ValueError, KeyError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def assert_shows(page, expected: pd.DataFrame) -> None:
    """The first table has these scores (percent), and methods without others."""
    shown = {row["method"]: row for row in headless.table(page)}
    assert set(shown) == set(expected["method"])
    for row in expected.itertuples():
        assert float(shown[row.method][row.language]) == pytest.approx(row.score)


def menu(page) -> dict[str, str]:
    """Addresses of all pages by their titles."""
    links = page.get_by_test_id("stSidebarNavLink")
    links.first.wait_for()
    return {link.inner_text().split("\n")[-1]: link.get_attribute("href") for link in links.all()}


def test_every_page_opens_without_an_error(page) -> None:
    headless.visit(page, "/")
    pages = menu(page)
    assert {"Ranking", "Map", "Compare", "Cost", "Items", "Live"} <= pages.keys()
    for title, address in pages.items():
        headless.visit(page, address)
        assert_no_error(page)
        assert page.get_by_role("heading", name=title, exact=True).count() == 1, title


def test_the_ranking_shows_the_stores_scores_and_a_filter_changes_them(page, planted: Path) -> None:
    headless.visit(page, "/")
    for ability in ("math", "science"):
        headless.choose(page, "Ability", ability)
        expected = scores(planted, f"p.ability = '{ability}'")
        eventually(lambda expected=expected: assert_shows(page, expected))
        assert_no_error(page)


def test_a_search_leaves_the_methods_that_it_finds(page) -> None:
    headless.visit(page, "/")
    page.get_by_label("Search methods").fill("maec")
    page.keyboard.press("Enter")

    def found_one() -> None:
        assert {row["method"] for row in headless.table(page)} == {"maec"}

    eventually(found_one)
    headless.settle(page)
    assert_no_error(page)


def test_the_link_reproduces_the_view_for_somebody_else(page, browser, server) -> None:
    headless.visit(page, "/")
    headless.choose(page, "Ability", "science")
    headless.settle(page)
    headless.choose(page, "Compare with", "tv")

    def compared() -> None:
        assert all("Δ tv" in row for row in headless.table(page))

    eventually(compared)
    headless.settle(page)
    seen = headless.table(page)
    link = page.get_by_role("link", name="Link to this view").get_attribute("href")
    assert {"ability", "reference"} <= parse_qs(urlsplit(link).query).keys()
    for address in (link, page.url):
        with browser.new_context(viewport={"width": 1600, "height": 1200}) as context:
            other = context.new_page()
            headless.visit(other, address)

            def same(other=other) -> None:
                assert headless.table(other) == seen

            eventually(same)


def test_downloads_hold_what_the_store_holds(page, planted: Path) -> None:
    headless.visit(page, "/")
    files = {}
    for label in ("CSV", "Parquet", "LaTeX"):
        with page.expect_download() as waiting:
            page.get_by_test_id("stDownloadButton").filter(has_text=label).click()
        files[label] = Path(waiting.value.path()).read_bytes()
    expected = scores(planted, "p.ability = 'math'").set_index("cell")
    for found in (
        pd.read_csv(io.BytesIO(files["CSV"])),
        pd.read_parquet(io.BytesIO(files["Parquet"])),
    ):
        found = found.set_index("cell").loc[expected.index]
        assert found["score"].to_list() == expected["share"].to_list()
        for column in ("method", "language", "stderr", "n", "fingerprint"):
            assert found[column].to_list() == expected[column].to_list(), column
    paper = files["LaTeX"].decode()
    assert r"\toprule" in paper and r"\bottomrule" in paper
    for method in expected["method"].unique():
        assert method in paper


def test_text_from_models_and_data_stays_text(page, planted: Path) -> None:
    query = urlencode({"method": "any", "asked": "math", "language": "any", "text": MARK})
    headless.visit(page, "/")
    headless.visit(page, f"{menu(page)['Items']}?{query}")
    assert_no_error(page)
    shown = page.get_by_test_id("stMain").inner_text()
    for text in (SCRIPT, FORMULA):
        assert f"Asked: {text}" in shown and f"Said: {text}" in shown
    for address in menu(page).values():
        headless.visit(page, f"{address}?{query}")
        assert page.evaluate("window.planted") is None
        main = page.get_by_test_id("stMain")
        assert main.locator("script, .katex, img[src='x'], a[href^='javascript']").count() == 0


def test_screenshots_show_every_page_of_a_set_and_are_small(
    browser, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.setenv("MAEC_HOME", str(ran))
    monkeypatch.setenv("MAEC_RESULTS", str(tmp_path))
    export("nano-1")
    done = subprocess.run(
        [sys.executable, "-m", "leaderboard.screenshots", "--out", str(tmp_path / "shots")],
        cwd=CHECKOUT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "of nano-1" in done.stdout
    pictures = list((tmp_path / "shots").glob("*.png"))
    assert len(pictures) == len(list((CHECKOUT / "leaderboard" / "views").glob("*.py")))
    assert sum(path.stat().st_size for path in pictures) <= 1_500_000
    for path in pictures:
        with Image.open(path) as image:
            assert image.size == (1200, 800) and len(image.getcolors()) > 8


def test_before_the_first_run_it_says_how_to_start(browser, home: Path) -> None:
    with headless.serving(home) as server, browser.new_context() as context:
        page = context.new_page()
        headless.visit(page, server.address)
        assert_no_error(page)
        assert "make matrix" in page.inner_text("body")


@pytest.mark.parametrize(("demanded", "code", "said"), [("", 0, "1 skipped"), ("1", 1, "1 error")])
def test_a_missing_browser_is_a_skip_and_where_it_is_demanded_a_failure(
    demanded: str, code: int, said: str
) -> None:
    arguments = ["-q", "-k", "before_the_first_run", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "PATH": "/nonexistent", "CI_BROWSER": demanded},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout
    assert said in done.stdout and "no browser: none of chromium" in done.stdout

"""``make screenshots``: a small PNG of every page, made from a released set, for the README."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer
from PIL import Image

from harness.home import results
from harness.store import sources
from harness.store.release import read_manifest
from leaderboard import headless
from maec.errors import InputError

OUT = Path(__file__).parent / "screenshots"
WIDTH, HEIGHT = 1200, 800
COLOURS = 64
LIMIT = 1_500_000
"""Bytes that all of them may take together."""

_ERRORS = '[data-testid="stException"], [data-testid="stAlertContentError"]'


def main(
    release: Annotated[
        Path | None,
        typer.Argument(help="Folder of a set; by default the newest one in results/."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the PNGs.")] = OUT,
) -> None:
    """Write a PNG of every page of the leaderboard, as it shows a released set."""
    try:
        folder = (release or _newest()).resolve()
        read_manifest(folder)
        images = screenshots(folder)
        size = sum(len(image) for image in images.values())
        if size > LIMIT:
            raise InputError(
                f"{out}: the screenshots would take {size:,} bytes together, at most {LIMIT:,} "
                "are allowed; lower WIDTH, HEIGHT or COLOURS in leaderboard/screenshots.py"
            )
    except InputError as error:
        print(f"screenshots: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    out.mkdir(parents=True, exist_ok=True)
    for path in out.glob("*.png"):
        path.unlink()
    for name, image in images.items():
        (out / f"{name}.png").write_bytes(image)
    print(f"{out}: {', '.join(images)}, of {folder.name}; {size:,} bytes together")


def screenshots(release: Path) -> dict[str, bytes]:
    """PNGs of all pages by their names, in the order of the menu, on the set in a folder.

    Raises:
        InputError: there is no browser.
        RuntimeError: a page shows an error.
    """
    images = {}
    # a home where nothing was run: what is shown is the set, not what happens to be here
    with (
        tempfile.TemporaryDirectory() as home,
        headless.browsing() as browser,
        headless.serving(Path(home), release.parent) as server,
    ):
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        query = urlencode({"source": release.name})
        headless.visit(page, f"{server.address}/?{query}")
        links = page.locator('[data-testid="stSidebarNavLink"]').all()
        menu = {
            link.inner_text().splitlines()[-1].strip(): link.get_attribute("href") for link in links
        } or {"Ranking": "/"}
        for title, link in menu.items():
            path = link.removeprefix(server.address)
            headless.visit(page, f"{server.address}{path}?{query}")
            if page.locator(_ERRORS).count():
                raise RuntimeError(f"the page {title} shows an error")
            images[title.lower().replace(" ", "-")] = _small(page.screenshot())
    return images


def _newest() -> Path:
    sets = [source.path for source in sources() if source.kind == "release"]
    if not sets:
        raise InputError(f"{results()}: no released set; `harness export NAME` writes one")
    return max(sets, key=lambda path: read_manifest(path).created)


def _small(png: bytes) -> bytes:
    """The same picture in few colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    target = io.BytesIO()
    image.save(target, "PNG", optimize=True)
    return target.getvalue()


if __name__ == "__main__":
    typer.run(main)

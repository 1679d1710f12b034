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

from harness.store import Source, sources
from harness.store.release import read_manifest
from leaderboard import headless
from maec.errors import InputError

OUT = Path(__file__).parent / "screenshots"
WIDTH, HEIGHT = 1200, 800
COLOURS = 64
LIMIT = 1_500_000
"""Bytes that all of them may take together."""


def main(
    release: Annotated[
        str | None, typer.Argument(help="A set in results/; by default the newest.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the PNGs.")] = OUT,
) -> None:
    """Write a PNG of every page of the leaderboard, as it shows a released set."""
    try:
        shown = _source(release)
        images = screenshots(shown)
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
    print(f"{out}: {', '.join(images)}, of {shown.name}; {size:,} bytes together")


def screenshots(shown: Source) -> dict[str, bytes]:
    """PNGs of all pages by their names, in the order of the menu.

    Raises:
        InputError: there is no browser.
        RuntimeError: a page shows an error.
    """
    images = {}
    # a home where nothing was run: what is shown is the set, not what happens to be here
    with (
        tempfile.TemporaryDirectory() as home,
        headless.browsing() as browser,
        headless.serving(Path(home)) as server,
    ):
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        query = urlencode({"source": shown.name})
        headless.visit(page, f"{server.address}/?{query}")
        links = page.locator('[data-testid="stSidebarNavLink"]').all()
        menu = {
            link.inner_text().splitlines()[-1].strip(): link.get_attribute("href") for link in links
        } or {"Ranking": "/"}
        for title, link in menu.items():
            path = link.removeprefix(server.address)
            headless.visit(page, f"{server.address}{path}?{query}")
            if page.locator('[data-testid="stException"]').count():
                raise RuntimeError(f"the page {title} shows an error")
            images[title.lower().replace(" ", "-")] = _small(page.screenshot())
    return images


def _source(release: str | None) -> Source:
    sets = {source.name: source for source in sources() if source.kind == "release"}
    if not sets:
        raise InputError("results/: there is no released set; `harness export NAME` writes one")
    if release is None:
        return max(sets.values(), key=lambda source: read_manifest(source.path).created)
    name = Path(release).name
    if name not in sets:
        raise InputError(
            f"RELEASE: there is no set '{release}' in results/ (there are: {', '.join(sets)})"
        )
    return sets[name]


def _small(png: bytes) -> bytes:
    """The same picture in few colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    target = io.BytesIO()
    image.save(target, "PNG", optimize=True)
    return target.getvalue()


if __name__ == "__main__":
    typer.run(main)

"""The commands of ``harness`` about released sets: write, take in, check again, cite."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

MatrixNames = Annotated[
    list[str] | None, typer.Option("--matrix", metavar="NAME", help="All by default.")
]


@app.command()
def export(
    release: Annotated[
        str, typer.Argument(metavar="RELEASE", help="Name of the set, such as micro-1.")
    ],
    matrix: MatrixNames = None,
    licence: Annotated[
        str | None,
        typer.Option(metavar="SPDX", help="Needed where questions or base are not the project's."),
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Whom a citation of the set names.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="By default results/RELEASE.")
    ] = None,
) -> None:
    """Write scores and items as a set that others can read and check: Parquet and a manifest."""
    from harness.store.export import export as write

    path = write(release, matrix or (), licence=licence, authors=author or (), out=out)
    print(_said(path))


@app.command("import")
def bring_in(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A released set.")],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="By default the set's own name.")
    ] = None,
) -> None:
    """Check somebody else's set and copy it to results/, where the leaderboard shows it."""
    from harness.store.importing import bring_in as copy

    print(_said(copy(folder, name)))


def _said(path: Path) -> str:
    """What lies in a set, in one line."""
    from rich.filesize import decimal

    from harness.store.release import read_manifest

    manifest = read_manifest(path)
    return (
        f"{path}: {', '.join(manifest.matrices)}; {manifest.rows('cells')} cells, "
        f"{manifest.rows('items')} items, {decimal(manifest.nbytes)}"
    )

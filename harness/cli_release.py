"""The commands of ``harness`` about released sets: write, take in, check again, cite."""

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli_options import AsJson
from maec.visible import visible

app = typer.Typer()

MATRICES = Path(__file__).parent / "matrices"

MatrixNames = Annotated[
    list[str] | None, typer.Option("--matrix", metavar="NAME", help="All by default.")
]
Beside = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        metavar="FOLDER",
        help="What local paths in matrix files are relative to; harness/matrices by default.",
    ),
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
    print(visible(_said(path)))


@app.command()
def export_lm_eval(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder, for all models.")],
    release: Annotated[
        str | None,
        typer.Option(metavar="RELEASE", help="A released set; the live store by default."),
    ] = None,
    matrix: MatrixNames = None,
    beside: Beside = None,
) -> None:
    """Write scores as lm-eval's command line writes its own: results and samples, a folder a model.

    lm-eval scores the stored answers anew; whatever does not come out as stored is refused.
    """
    from harness.lm_eval_files import write
    from maec.console import Console

    console = Console(stderr=True)
    models = write(out, console, release=release, matrices=matrix or (), beside=beside or MATRICES)
    print(f"{out}: {models} models")


@app.command("import")
def bring_in(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A released set.")],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="By default the set's own name.")
    ] = None,
) -> None:
    """Check somebody else's set and copy it to results/, where the leaderboard shows it."""
    from harness.store.importing import bring_in as copy

    print(visible(_said(copy(folder, name))))


@app.command()
def verify(
    release: Annotated[
        str, typer.Argument(metavar="RELEASE", help="Name of a set in results/, or its folder.")
    ],
    cells: Annotated[int, typer.Option(min=1, help="How many, drawn at random.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    beside: Beside = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Training runs side by side.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make and score cells of a set anew, and compare them with what was released, item by item.

    0 if all are equal or differ as the hardware rule allows, which is printed, and 1 if not.
    """
    from harness import verify_table
    from harness.interrupt import told_to_go_on
    from harness.verify import verify as run_again
    from maec.console import Console

    console = Console(stderr=True)
    with told_to_go_on():
        found = run_again(release, cells, seed, console, beside=beside or MATRICES, workers=workers)
    if as_json:
        print(visible(json.dumps(found.as_json(), indent=1, ensure_ascii=False)))
    else:
        shown = Console(width=max(Console().width, 150))
        shown.print(verify_table.table(found))
        for line in verify_table.words(found):
            shown.print(line, markup=False, highlight=False, soft_wrap=True)
    if not found.good:
        raise typer.Exit(1)


@app.command()
def cite(
    row: Annotated[
        str,
        typer.Argument(
            metavar="ROW",
            help="A released set by name or folder, or a cell by the start of its key.",
        ),
    ],
) -> None:
    """Print BibTeX for a score or a set and its method, and a sentence for a methods section."""
    from harness.cite import cite as citation

    print(visible(citation(row)))


def _said(path: Path) -> str:
    """What lies in a set, in one line."""
    from rich.filesize import decimal

    from harness.store.release import read_manifest

    manifest = read_manifest(path)
    return (
        f"{path}: {', '.join(manifest.matrices)}; {manifest.rows('cells')} cells, "
        f"{manifest.rows('items')} items, {decimal(manifest.nbytes)}"
    )

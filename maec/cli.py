"""The command line: ``maec train``, ``merge``, ``extract``, ``inspect``, ``push`` and ``pull``."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from maec.command import start
from maec.errors import InputError
from maec.hub import as_source
from maec.recipe import ALPHA, BETA, K1
from maec.size import MEMORY, as_bytes
from maec.visible import one_line, visible

app = typer.Typer(
    name="maec",
    help="Extract abilities from models and combine them with languages (MAEC).",
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


class Granularity(StrEnum):
    """What is chosen as a key neuron: each scalar, or whole rows of weight matrices."""

    parameter = "parameter"
    row = "row"


class Vocabulary(StrEnum):
    """What becomes of a model with more tokens than its base."""

    refuse = "refuse"
    pad = "pad"


class PackDtype(StrEnum):
    """What the entries of a pack are stored in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Memory = Annotated[
    str, typer.Option(metavar="SIZE", help="Memory to use at most, such as 800MB or 4GB.")
]


Device = Annotated[str, typer.Option(help="What does the arithmetic: cpu, or a GPU: cuda, cuda:1.")]


@app.command()
def merge(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file; see the README.")],
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="New folder for the result.")],
    memory: Memory = MEMORY,
    device: Device = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it will read, write and need; no more.")
    ] = False,
) -> None:
    """Make the checkpoint that RECIPE describes: base, languages, abilities."""
    from maec.recipe import load_recipe

    loaded = load_recipe(recipe)  # before torch is imported: mistakes show at once
    limit = as_bytes(memory)
    if dry_run:
        from maec.console import Console
        from maec.dry_run import plan

        Console().print(plan(loaded, limit).table())
        return
    from maec.merge import merge as run_merge
    from maec.progress import bar

    run_merge(loaded, out, memory=limit, device=device, track=bar)
    typer.echo(f"{out}: done; how it was made is in README.md, `maec inspect {out}` shows more")


@app.command()
def train(
    training: Annotated[
        Path, typer.Argument(metavar="TRAINING", help="YAML file; see the README.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="New folder for the result.")],
    processes: Annotated[
        int, typer.Option(min=1, help="That share it on this machine, one a GPU; not torchrun's.")
    ] = 1,
) -> None:
    """Train the checkpoint that TRAINING names on text: all of it, LoRA or key neurons alone."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported
    from maec.training import load_training, run

    loaded = load_training(training)  # before torch is imported: mistakes show at once
    from maec.distributed import launch, leave, rank, size
    from maec.folder import require_new

    require_new(out)
    if processes == 1 or size() > 1:
        report = run(loaded, out, _log)
        leave()
    else:
        try:
            report = launch(run, processes, loaded, out, report=_log)
        except (RuntimeError, MemoryError) as error:  # in one of them, and told in one line
            typer.echo(f"maec: {one_line(error)}", err=True)
            raise typer.Exit(1) from error
    if rank() == 0:
        typer.echo(
            f"{out}: done; {report.tokens} tokens in {report.seconds:.0f} s, "
            f"{report.trainable_parameters} of {report.parameters} parameters trained"
        )


def _log(step: int, steps: int, loss: float) -> None:
    """A hundred lines at most of how far a training is."""
    if step * 100 // steps > (step - 1) * 100 // steps:
        typer.echo(f"step {step} of {steps}: loss {loss:.4f}", err=True)


@app.command()
def extract(
    base: Annotated[str, typer.Argument(metavar="BASE", help="Checkpoint it started from.")],
    ability: Annotated[str, typer.Argument(metavar="ABILITY", help="Checkpoint with ability.")],
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="New folder for the pack.")],
    pivot: Annotated[
        str | None, typer.Option(help="Checkpoint trained on general text of the pivot language.")
    ] = None,
    mask: Annotated[
        str | None, typer.Option(help="Folder with a key-neuron mask to use as it is.")
    ] = None,
    k1: Annotated[
        float | None,
        typer.Option(help=f"Share of parameters that are key neurons; {K1} without --mask."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Weight of the ability's change.")] = ALPHA,
    beta: Annotated[
        float | None,
        typer.Option(help=f"Weight of the pivot's change; {BETA} with --pivot, else 0."),
    ] = None,
    granularity: Annotated[
        Granularity, typer.Option(help="Choose scalars, or whole rows.")
    ] = Granularity.parameter,
    vocabulary: Annotated[
        Vocabulary, typer.Option(help="A model with more tokens: refuse it, or leave them out.")
    ] = Vocabulary.refuse,
    dtype: Annotated[
        PackDtype, typer.Option(help="What the pack stores; float32 merges to the same bits.")
    ] = PackDtype.float32,
    memory: Memory = MEMORY,
    device: Device = "cpu",
) -> None:
    """Extract the ability that ABILITY was trained in from BASE, as a sparse pack.

    BASE, ABILITY, --pivot and --mask are folders, or hub ids: org/name or org/name@revision.
    """
    from maec.extract import extract as run_extract
    from maec.progress import bar

    if mask is not None and k1 is not None:
        raise InputError(f"--k1: {k1} is settled in the mask {mask}; leave it out")
    if beta is None:
        beta = BETA if pivot is not None else 0.0
    run_extract(
        as_source(base),
        as_source(ability),
        out,
        pivot=as_source(pivot) if pivot is not None else None,
        mask=as_source(mask) if mask is not None else None,
        k1=K1 if k1 is None else k1,
        alpha=alpha,
        beta=beta,
        granularity=granularity.value,
        vocabulary=vocabulary.value,
        dtype=dtype.value,
        memory=as_bytes(memory),
        device=device,
        track=bar,
    )
    typer.echo(f"{out}: done; `maec inspect {out}` shows where its key neurons lie")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Mask, pack or merged model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON rows.")] = False,
) -> None:
    """Show where key neurons lie, how similar ability and language are, what was selected."""
    from maec.inspect import summary, tables

    rows = summary(path)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from maec.console import Console

    console = Console()
    for table in tables(rows):
        console.print(table)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pack, mask or merged model.")],
    repo: Annotated[str, typer.Argument(metavar="REPO_ID", help="Where to: org/name.")],
    private: Annotated[bool, typer.Option("--private", help="Make it a private one.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Branch; made where it is missing.")
    ] = None,
    message: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the commit says.")
    ] = None,
) -> None:
    """Put FOLDER on the model hub, for `maec pull` and for recipes by its hub id."""
    from maec.share import push as run_push

    address = run_push(folder, repo, private=private, revision=revision, message=message)
    typer.echo(visible(f"{folder}: pushed; {address}"))


@app.command()
def pull(
    repo: Annotated[
        str, typer.Argument(metavar="REPO_ID", help="What: org/name or org/name@revision.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="New folder for it.")],
) -> None:
    """Fetch a pack, a mask or a merged model from the model hub."""
    from maec.share import pull as run_pull

    run_pull(repo, out)
    typer.echo(f"{out}: done; `maec inspect {out}` shows what it holds")


def main() -> None:
    """Entry point of the ``maec`` command."""
    start(app, "maec")


if __name__ == "__main__":
    main()

"""The commands of ``harness`` for machines with a scheduler: one step by itself, and Slurm."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli_options import MatrixFile, PricedGpu, Utilisation
from maec.errors import InputError
from maec.progress import Progress

if TYPE_CHECKING:
    from harness.spec import Matrix

app = typer.Typer()


def make_step(matrix: "Matrix", key: str) -> None:
    """Make the step of a matrix whose key starts with ``key``; exit code 1 if it fails."""
    from harness.failed import failed
    from harness.interrupt import told_to_go_on
    from harness.one_step import find, make
    from harness.plan import make_plan

    if sys.flags.hash_randomization:  # merges follow it, and it is settled when Python starts
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONHASHSEED": "0"})
    with told_to_go_on():
        planned = make_plan(matrix)
    step = find(planned, key)
    try:
        with told_to_go_on():
            made = make(planned, step, _tenths())
    except InputError:
        raise
    except Exception as error:
        print(f"harness: {step.label}: {failed(error)}", file=sys.stderr)
        raise typer.Exit(1) from None
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"{step.folder}: {'made' if made else 'was there already'} ({step.label})")


def _tenths() -> Progress:
    """Progress for a log: a line for every tenth."""
    shown = 0

    def tell(done: int, total: int) -> None:
        nonlocal shown
        if (tenth := done * 10 // total) > shown:
            shown = tenth
            print(f"{done} of {total}", file=sys.stderr, flush=True)

    return tell


@app.command()
def slurm(
    matrix: MatrixFile,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there; printed by default.")
    ] = None,
    partition: Annotated[str | None, typer.Option(help="Of the cluster.")] = None,
    gpus_per_task: Annotated[
        int | None,
        typer.Option(min=0, help="Of each training, on each node; by default its processes."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Of each training.")] = 1,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION", help="Another option of sbatch, such as --account=me."),
    ] = None,
    gpu: PricedGpu = "h100",
    utilisation: Utilisation = 0.4,
) -> None:
    """Write a script that submits what is missing to Slurm: an array a level, then the run."""
    from harness.plan import make_plan
    from harness.slurm import Cluster, script
    from harness.spec import load_matrix
    from maec.folder import write_file

    planned = make_plan(load_matrix(matrix))
    gpus = planned.matrix.resources.processes if gpus_per_task is None else gpus_per_task
    text = script(planned, Cluster(gpus, nodes, partition, sbatch or (), gpu, utilisation))
    if out is None:
        print(text, end="")
        return
    write_file(out, text, "--out")
    print(f"{out}: written; `bash {out}` submits it")

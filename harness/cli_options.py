"""Options and arguments that several commands of ``harness`` take."""

from pathlib import Path
from typing import Annotated

import typer

MatrixFile = Annotated[Path, typer.Argument(metavar="MATRIX", help="Matrix file (YAML).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
PricedGpu = Annotated[str, typer.Option(help="To price by: a100, h100, rtx4090, …")]
Utilisation = Annotated[float, typer.Option(help="Share of the GPU's peak that is reached.")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Also what failed before by its own fault.")
]
OnExecutor = Annotated[
    str | None,
    typer.Option(
        "--executor",
        help="local, ray, or the address of a Ray cluster; what the matrix says by default.",
    ),
]

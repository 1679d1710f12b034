"""``harness``: plan, run and read a matrix. Exit codes: 0 done, 1 some failed, 2 refused input."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from harness import cli_cluster, cli_doctor, cli_release
from harness.cli_options import (
    AsJson,
    MatrixFile,
    OnExecutor,
    PricedGpu,
    RetryFailed,
    Utilisation,
)
from maec.command import start
from maec.console import Console
from maec.errors import InputError
from maec.visible import visible

if TYPE_CHECKING:
    from rich.table import Table

    from harness.run import Outcome


OWN_FOLDERS = (
    *("artifacts", "cache", "locks", "questions"),
    *("records", "remote", "tasks", "training", "verify"),
)
"""What the harness makes in MAEC_HOME; nothing else there is ever deleted."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run a matrix of models × abilities × languages and read its scores.",
)
app.add_typer(cli_release.app)
app.add_typer(cli_doctor.app)
app.add_typer(cli_cluster.app)


@app.command()
def plan(
    matrix: MatrixFile,
    steps: Annotated[bool, typer.Option("--steps", help="List every step instead.")] = False,
    gpu: PricedGpu = "h100",
    utilisation: Utilisation = 0.4,
    nodes: Annotated[int, typer.Option(min=1, help="Simulate so many nodes.")] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Simulate the schedule: GPUs a node.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Simulate the schedule here, without a GPU.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is done, what is missing and what that takes; does nothing, asks no network."""
    from harness.interrupt import told_to_go_on
    from harness.plan import make_plan
    from harness.price import assumptions, price
    from harness.price_table import table
    from harness.simulate_table import Simulation
    from harness.spec import load_matrix

    if workers is not None and (gpus is not None or nodes > 1):
        raise InputError(
            "--workers: this machine without a GPU; leave it out, or --nodes and --gpus"
        )
    if nodes > 1 and gpus is None:
        raise InputError(f"--nodes: {nodes}; say with --gpus how many GPUs each has")
    simulated = None
    with told_to_go_on():
        planned = make_plan(load_matrix(matrix))
        summary, found = planned.summary(), price(planned, gpu, utilisation)
        if gpus is not None:
            simulated = Simulation.on_gpus(planned, gpu, utilisation, nodes, gpus)
        elif workers is not None:
            simulated = Simulation.on_this_machine(planned, workers)
    if as_json:
        more = {"simulated": simulated.found} if simulated else {}
        told = json.dumps({**summary, "price": found, **more}, indent=1, ensure_ascii=False)
        print(visible(told))
        return
    console = Console()
    missing = summary["missing"]
    if steps:
        console.print(_steps(summary))
    elif missing["cells"]:
        console.print(table(summary["matrix"], found))
        for line in assumptions(planned, found):
            console.print(f"[dim]{escape(line)}[/dim]", highlight=False)
    if simulated and missing["cells"]:
        console.print(*simulated.tables())
        for line in simulated.assumptions():
            console.print(f"[dim]{escape(line)}[/dim]", highlight=False)
    console.print(
        f"{missing['steps']} of {len(summary['steps'])} steps and {missing['cells']} of "
        f"{len(summary['cells'])} cells are missing; `harness run {escape(str(matrix))}` does them"
    )


def _steps(summary: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(title=f"{summary['matrix']}: steps", title_justify="left")
    for column in ("state", "kind", "step", "key"):
        table.add_column(column)
    for step in summary["steps"]:
        table.add_row(step["state"], step["kind"], escape(step["label"]), step["key"][:12])
    return table


@app.command()
def run(
    matrix: MatrixFile,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Training runs side by side; one a core by default.")
    ] = None,
    retry_failed: RetryFailed = False,
    executor: OnExecutor = None,
    step: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Make this step alone; touches no score and no store."),
    ] = None,
) -> None:
    """Do what is missing, then print the table."""
    from harness import run as running
    from harness.interrupt import told_to_go_on
    from harness.spec import load_matrix

    loaded = load_matrix(matrix).by(executor)
    if step is not None:
        cli_cluster.make_step(loaded, step)
        return
    console = Console(stderr=True)
    with told_to_go_on():
        outcome = running.run(loaded, console, workers=workers, retry_failed=retry_failed)
    if not outcome.failures and not outcome.cells:
        console.print("nothing to do: every cell has its score")
    _print_tables(matrix)
    Console(soft_wrap=True).print("leaderboard: make leaderboard")
    _print_failures(console, outcome, f"harness run {matrix}")
    if outcome.failures:
        raise typer.Exit(1)


def _print_failures(console: Console, outcome: "Outcome", command: str) -> None:
    for what, why in outcome.failures.items():
        console.print(f"[red]failed[/red]  {escape(what)}: {escape(why)}", soft_wrap=True)
    if outcome.untried:
        console.print(
            f"{outcome.untried} of these failed before and were not tried again; "
            f"`{command} --retry-failed` does that",
            soft_wrap=True,
        )


@app.command()
def sweep(
    matrix: MatrixFile,
    budget: Annotated[int, typer.Option(min=1, help="Trials a method and ability.")],
    method: Annotated[
        list[str] | None, typer.Option(help="Method label; all that have parameters by default.")
    ] = None,
    ability: Annotated[list[str] | None, typer.Option(help="All by default.")] = None,
    items: Annotated[int, typer.Option(min=1, help="Dev items a trial, over all targets.")] = 100,
    seed: Annotated[
        int | None, typer.Option(help="Of the models; the matrix's first by default.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Training runs side by side.")] = None,
    retry_failed: RetryFailed = False,
    executor: OnExecutor = None,
    curves: Annotated[bool, typer.Option("--curves", help="Show every trial.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search a method's parameters on dev items; no sweep can ask a test item."""
    from harness import store, tasks
    from harness.interrupt import told_to_go_on
    from harness.search import run as search
    from harness.spec import load_matrix
    from harness.sweep import sweeps
    from harness.sweep_table import by_sweep, curve, overview

    loaded = load_matrix(matrix).by(executor)
    named = {"abilities": ability or (), "items": items, "seed": seed}
    console = Console(stderr=True)
    with told_to_go_on():
        if sweeps(loaded, method or (), **named):  # refuse before anything is fetched
            for split in ("test", "dev"):
                tasks.fetch(loaded.model_copy(update={"split": split}), console)
        wanted = sweeps(loaded, method or (), **named)
        outcome = search(
            loaded, wanted, budget, console, workers=workers, retry_failed=retry_failed
        )
    tried = by_sweep(store.trials())
    found = [tried[entry.key] for entry in wanted if entry.key in tried]
    if as_json:
        print(visible(json.dumps(found, indent=1, ensure_ascii=False, default=str)))
    else:
        shown = Console(width=max(Console().width, 130))
        for table in (overview(found), *(map(curve, found) if curves else ())):
            shown.print(table)
    _print_failures(console, outcome, f"harness sweep {matrix} --budget {budget}")
    if outcome.failures:
        raise typer.Exit(1)


@app.command()
def table(matrix: MatrixFile, as_json: AsJson = False) -> None:
    """Print the scores that a matrix has so far."""
    if not as_json:
        _print_tables(matrix)
        return
    from harness.plan import make_plan
    from harness.spec import load_matrix
    from harness.table import rows

    print(visible(json.dumps(rows(make_plan(load_matrix(matrix))), indent=1, ensure_ascii=False)))


@app.command()
def compare(
    methods: Annotated[list[str], typer.Argument(metavar="A B [C …]", help="Method labels.")],
    matrix: Annotated[
        str | None, typer.Option(help="Name of a matrix; by default the last one scored.")
    ] = None,
    ability: Annotated[str | None, typer.Option(help="Only this ability.")] = None,
    variant: Annotated[str | None, typer.Option(help="Which point of its axis.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every pair, not only A with each of the others.")
    ] = False,
    cells: Annotated[
        bool, typer.Option("--cells", help="Also an exact test a language and seed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare A with the other methods, item by item: is the difference more than chance?"""
    from harness import compared

    found = compared.compared(methods, matrix, ability, variant, every=every, with_cells=cells)
    if as_json:
        print(visible(json.dumps(found.as_json(), indent=1, ensure_ascii=False)))
        return
    console = Console(width=max(Console().width, 130))
    for shown in found.tables():
        console.print(shown)


@app.command()
def cost(
    matrix: MatrixFile,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Method that others are compared with; by default the most accurate trained one.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what each method costs, in tokens, FLOPs, seconds and bytes, and one more language."""
    from harness.cost import costs
    from harness.cost_table import table
    from harness.plan import make_plan
    from harness.spec import load_matrix

    found = costs(make_plan(load_matrix(matrix)), reference)
    if as_json:
        print(visible(json.dumps(found, indent=1, ensure_ascii=False)))
        return
    console = Console(width=max(Console().width, 140))
    console.print(table(found))


@app.command()
def report(
    matrix: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Name of a matrix; by default the last one scored."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="By default results/NAME.md.")
    ] = None,
) -> None:
    """Write what a matrix showed, with all that it took, as Markdown; from the store alone."""
    from harness.report.document import write

    print(write(matrix, out))


@app.command()
def add_language(
    code: Annotated[str, typer.Argument(metavar="CODE", help="BCP 47, such as sw or zh-Hant.")],
    name: Annotated[str | None, typer.Option(help="In English.")] = None,
    native_name: Annotated[str | None, typer.Option(help="In the language itself.")] = None,
    script: Annotated[str | None, typer.Option(help="Such as Latin or Cyrillic.")] = None,
    resource: Annotated[
        str | None, typer.Option(metavar="high|low", help="How much text and data there is.")
    ] = None,
    lexicon: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Words and patterns for the embedded world (YAML)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="By default harness/languages/CODE.yaml.")
    ] = None,
) -> None:
    """Write the one file that a new language needs, and say what is missing in it."""
    from harness.add_language import add

    added = add(
        code,
        name=name,
        native_name=native_name,
        script=script,
        resource=resource,
        lexicon=lexicon,
        out=out,
    )
    for line in added.lines():
        print(visible(line))


@app.command()
def status() -> None:
    """Say what was run here, and what the store and the artifacts hold."""
    from rich.table import Table

    from harness import store
    from harness.home import home

    console = Console()
    overview = store.overview()
    if overview is None:
        console.print(f"{home()}: nothing was run here yet; `make matrix` starts")
        return
    runs = Table(title="runs", title_justify="left")
    for column in ("run", "matrix", "status", "started", "seconds", "cells", "engine start, s"):
        runs.add_column(column)
    for entry in overview["runs"]:
        runs.add_row(*("" if value is None else escape(str(value)) for value in entry))
    console.print(runs)
    if failures := store.failures():
        console.print(_failed(failures))
    console.print(
        f"{home()}: {overview['cells']} cells, {overview['items']} items, "
        f"{overview['artifacts']} artifacts of {overview['bytes'] / 1e6:.0f} MB"
    )


def _failed(failures: Sequence[Mapping[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table(title="failed, and not done since", title_justify="left")
    for column in ("what", "which", "times", "tried again", "why"):
        table.add_column(column)
    for entry in failures:
        again = "with --retry-failed" if entry["lasting"] else "by the next run"
        shown = (entry["what"], entry["label"], str(entry["times"]), again, entry["message"])
        table.add_row(*map(escape, shown))
    return table


@app.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete all artifacts and scores of this MAEC_HOME, after asking."""
    import shutil

    from harness import store
    from harness.home import home
    from harness.live_status import NAME as LIVE
    from harness.store.lock import NAME as LOCK
    from harness.store.lock import alone

    overview = store.overview()
    if not home().is_dir():
        print(f"{home()}: nothing to delete")
        return
    held = f"{overview['cells']} scores and " if overview else ""
    question = f"delete {held}all artifacts in {home()}?"
    if not yes and not typer.confirm(question):
        print("kept everything")
        return
    with alone():
        for path in (home() / name for name in OWN_FOLDERS):
            shutil.rmtree(path, ignore_errors=True)
        stores = (*home().glob("*.duckdb"), *home().glob("*.duckdb.wal"))
        for path in (*stores, home() / LIVE, home() / LOCK):
            path.unlink(missing_ok=True)
    print(f"deleted {held}all artifacts in {home()}")


def _print_tables(matrix: Path) -> None:
    from harness.embedded import NOTE
    from harness.plan import make_plan
    from harness.spec import load_matrix
    from harness.table import rows, tables

    planned = make_plan(load_matrix(matrix))
    console = Console(width=max(Console().width, 110))
    for shown in tables(planned, rows(planned)):
        console.print(shown)
    if planned.matrix.embedded:
        console.print(NOTE, soft_wrap=True)


def main() -> None:
    """Entry point of the ``harness`` command."""
    # read when tqdm is imported: the terminal belongs to the harness's own bars
    os.environ.setdefault("TQDM_DISABLE", "1")
    start(app, "harness")


if __name__ == "__main__":
    main()

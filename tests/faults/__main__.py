"""``make chaos``: interrupt and damage runs on a small matrix, compare, and say what survived."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.faults.campaign import ENGINES, FAMILIES, Campaign
from tests.faults.report import Trial, table, write

OUT = Path(__file__).parents[2] / "build" / "chaos"


def main(
    seed: Annotated[int, typer.Option(help="What decides which fault comes when.")] = 1,
    faults: Annotated[int, typer.Option(min=0, help="Interruptions, over all chains.")] = 200,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Nothing but this, more than once: {', '.join(FAMILIES)}."),
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help=f"{' or '.join(ENGINES)}; both by default.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Faults of the environment: those whose name has this.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Start nothing new after so long.")] = 120.0,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new one.")] = OUT,
) -> None:
    """Exit code 1 if a fault was not survived, or not tried since the time was up."""
    for given, known in ((only, FAMILIES), (engine, ENGINES)):
        if unknown := set(given or ()) - set(known):
            raise typer.BadParameter(f"{unknown.pop()!r}; give one of {', '.join(known)}")
    if out != OUT and out.exists():
        raise typer.BadParameter(f"{out} exists already; name a new folder")
    shutil.rmtree(out, ignore_errors=True)
    console = Console()
    campaign = Campaign(out, seed, faults, only or FAMILIES, engine or ENGINES, name, minutes)
    trials: list[Trial] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("faults", total=campaign.total)
        for trial in campaign.run():
            trials.append(trial)
            bar.update(task, completed=campaign.done)
            if trial.problem or trial.skipped:
                word = "[yellow]skipped[/]" if trial.skipped else "[red]not survived[/]"
                why = trial.skipped or f"{trial.problem}\n  {trial.again}\n  {trial.log}"
                console.print(f"{word}  {trial.name} ({trial.engine}): {why}", soft_wrap=True)
            write(trials, out, seed, campaign.undisturbed, campaign.untried)
    console.print(table(trials))
    console.print(f"log and report: {out}", soft_wrap=True)
    if campaign.untried:
        console.print(f"{campaign.untried} faults were not tried: {minutes:g} minutes are over")
    sys.exit(campaign.untried > 0 or any(trial.problem for trial in trials))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()

"""The command of ``harness`` that looks after what is kept."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli_options import AsJson
from maec.visible import one_line, visible

app = typer.Typer()


@app.command()
def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Restore what can be; sets the damaged aside.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Read neither artifacts nor records.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check scores, records, artifacts and released sets; says what is wrong and what to do.

    0 if nothing is wrong any more, 1 if something is.
    """
    from harness import doctor as examination
    from maec.progress import bar

    if repair:
        found, left = examination.repair(quick=quick, track=bar)
    else:
        found = left = examination.examine(quick=quick, track=bar)
    if as_json:
        both = {"found": asdict(found), "left": asdict(left)}
        print(visible(json.dumps(both, indent=1, default=str)))
    else:
        for finding in found.findings:
            if finding not in left.findings:
                print(one_line(f"repaired: {finding.where}: {finding.what}"))
        for finding in left.findings:
            print(one_line(finding))
        gone = f" ({left.gone} more are gone, to be made again when needed)" if left.gone else ""
        wrong = len(left.findings) or "nothing"
        print(f"{left.cells} cells, {left.artifacts} artifacts{gone}: {wrong} wrong")
    if left.findings:
        raise typer.Exit(1)

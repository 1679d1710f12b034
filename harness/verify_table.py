"""What ``harness verify`` prints: a row a cell, and in words what is equal and what excuses it."""

from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table

from harness.agreement import RULE
from harness.verify import DIFFERS, EQUAL, EXPLAINED, NOT_RUN, Check, Verification


def table(found: Verification) -> Table:
    """One row a cell; scores in percent, or in bits per byte where text was read."""
    shown = Table(
        title=f"{found.manifest.release}: {len(found.checks)} of {found.cells} cells, drawn with "
        f"seed {found.seed}",
        title_justify="left",
    )
    for column in ("cell", "matrix", "method", "ability", "language", "seed"):
        shown.add_column(column)
    for column in ("released", "again", "items", "differ", "nats apart"):
        shown.add_column(column, justify="right")
    shown.add_column("weights")
    shown.add_column("verdict")
    for check in found.checks:
        shown.add_row(*map(escape, _row(check)))
    return shown


def words(found: Verification) -> Iterator[str]:
    """Line by line: how many cells are what, why, and where it all lies."""
    counts = {
        verdict: [check for check in found.checks if check.verdict == verdict]
        for verdict in (EQUAL, EXPLAINED, DIFFERS, NOT_RUN)
    }
    if equal := counts[EQUAL]:
        items = sum(check.agreement.items for check in equal)
        same = sum(check.agreement.same_model for check in equal)
        yield (
            f"{len(equal)} of {len(found.checks)} cells are equal, all of their {items:,} items to "
            f"the last bit; {same} of {len(equal)} models have the released fingerprint"
        )
    for check in (*counts[EXPLAINED], *counts[DIFFERS], *counts[NOT_RUN]):
        other = f"other weights from this step on: {check.other}" if check.other else ""
        reasons = "; ".join(filter(None, (*check.reasons, other))) or "arithmetic alone"
        yield f"{check.verdict}: {_name(check)} ({check.cell[:12]}): {reasons}"
    yield f"runs: {_differing(found)}"
    if len(counts[EQUAL]) < len(found.checks):
        yield RULE
    yield (
        f"released by commit {found.manifest.commit or 'not known'}, run again in {found.home}; "
        "what is done there is not done twice by the same program"
    )


def _row(check: Check) -> Iterator[str]:
    place, found = check.place, check.agreement
    asked = place.ability if place.asked == place.ability else f"{place.ability} → {place.asked}"
    method = " ".join(filter(None, (place.variant, place.method)))
    yield from (check.cell[:8], check.matrix, method, asked, place.language, str(place.seed))
    judged = found is None or not found.verdicts.empty
    yield _score(check.released["score"], judged)
    if found is None:
        yield from ("–", "", "", "", "")
    else:
        yield _score(found.again, judged)
        yield str(found.items)
        yield ", ".join(f"{count} {name}" for name, count in found.differing.items()) or "0"
        yield f"{found.apart:.1g}" if found.apart else "0"
        yield "the same" if found.same_model else "differ"
    yield check.verdict


def _score(value: float, judged: bool) -> str:
    return f"{100 * value:.1f}" if judged else f"{value:.4f}"


def _name(check: Check) -> str:
    place = check.place
    seed = f"seed {place.seed}"
    parts = (check.matrix, place.variant, place.method, place.asked, place.language, seed)
    return " ".join(filter(None, parts))


def _differing(found: Verification) -> str:
    """Hardware and versions of both, where they differ."""
    if not found.differs:
        return "same hardware and versions, as far as both say"
    return "; ".join(
        f"{name} {_value(then)} was, {_value(now)} is" if then != now else f"{name} {_value(now)}"
        for name, (then, now) in found.differs.items()
    )


def _value(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)

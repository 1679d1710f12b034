"""What sweeps found, from the store: the point chosen, how many were tried, the whole curve."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

Trial = Mapping[str, Any]


def chosen(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest score; the first of them when several have it."""
    return max(trials, key=lambda trial: (trial["score"], -trial["number"]))


def by_sweep(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The trials of every sweep by its key, in the order in which they were tried."""
    grouped: dict[str, list[Trial]] = {}
    for trial in trials:
        grouped.setdefault(trial["sweep"], []).append(trial)
    return grouped


def overview(sweeps: Sequence[Sequence[Trial]]) -> Table:
    """One row a sweep: what it began with, what it chose, and how many trials that took."""
    table = Table(title="sweeps on dev items", title_justify="left")
    for column in ("method", "ability"):
        table.add_column(column)
    for column in ("trials", "items", "start, %", "chosen, %"):
        table.add_column(column, justify="right")
    table.add_column("chosen parameters", overflow="fold")
    for trials in sweeps:
        first, best = trials[0], chosen(trials)
        table.add_row(
            escape(first["method"]),
            escape(first["ability"]),
            str(len(trials)),
            str(first["items"]),
            f"{100 * first['score']:.1f}",
            f"{100 * best['score']:.1f}",
            escape(yaml_line(best["parameters"])),
        )
    return table


def curve(trials: Sequence[Trial]) -> Table:
    """Every trial of one sweep, in order; the chosen one is marked."""
    best = chosen(trials)
    first = trials[0]
    title = escape(f"{first['method']} {first['ability']}: all trials")
    table = Table(title=title, title_justify="left")
    for column in ("trial", "score, %", "best so far, %", *first["languages"]):
        table.add_column(column, justify="right")
    table.add_column("parameters", overflow="fold")
    highest = 0.0
    for trial in trials:
        highest = max(highest, trial["score"])
        table.add_row(
            f"{trial['number']}{' *' if trial is best else ''}",
            f"{100 * trial['score']:.1f}",
            f"{100 * highest:.1f}",
            *(f"{100 * trial['by_language'][code]:.0f}" for code in first["languages"]),
            escape(yaml_line(trial["parameters"])),
        )
    return table


def yaml_line(parameters: Mapping[str, Any]) -> str:
    """Parameters as they would stand in a matrix file; numbers to three digits."""
    return ", ".join(
        f"{name}: {format(value, '.3g') if isinstance(value, float) else value}"
        for name, value in parameters.items()
    )

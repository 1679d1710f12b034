"""The price of a matrix, for people."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from harness.price import gpus_needed


def table(name: str, found: Mapping[str, Any]) -> Table:
    """One row for each kind of step that is left, evaluation, and their sum."""
    shown = Table(title=f"{name}: what is left to do", title_justify="left")
    shown.add_column("")
    for column in ("how many", "download", "disk", "GPU memory", "FLOPs", "GPU hours"):
        shown.add_column(column, justify="right")
    for label, figures in found["groups"].items():
        shown.add_row(escape(label), *_cells(figures, found))
    shown.add_section()
    # steps and evaluations are no sum
    shown.add_row("total", "", *_cells(found["total"], found)[1:])
    return shown


def _cells(figures: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    def memory(nbytes: float) -> str:
        count = gpus_needed(nbytes, found["gpu_memory"])
        return decimal(round(nbytes)) + (f" ({count} GPUs)" if count > 1 else "")

    return [
        str(figures["count"]),
        _told(figures["download"], lambda value: decimal(round(value))),
        _told(figures["disk"], lambda value: decimal(round(value))),
        _told(figures["gpu_memory"], memory),
        _told(figures["flops"], lambda value: f"{value:.1e}"),
        _told(figures["gpu_hours"], _hours),
    ]


def _told(figure: Mapping[str, Any], form: Callable[[float], str]) -> str:
    """Nothing for nothing, "unknown", or a number that is more where some of it is unknown."""
    known, unknown = figure["known"], figure["unknown"]
    text = form(known) if known else ""
    if not unknown:
        return text
    return "unknown" if not text or text.startswith("<") else f"≥ {text}"


def _hours(value: float) -> str:
    if value < 0.01:
        return "< 0.01"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"

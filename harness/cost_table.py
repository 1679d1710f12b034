"""The cost table of a matrix, for people."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table


def table(found: Mapping[str, Any]) -> Table:
    """What :func:`harness.cost.costs` found: one row a method, blank where a figure is unknown."""
    bases = [f"{base['label']}, {_number(base['parameters'])} parameters" for base in found["base"]]
    reference = escape(found["reference"] or "a scored method")
    shown = Table(
        title=f"{found['matrix']}: what each method costs to get it alone",
        caption="FLOPs: of training, 6·N·D. trained: share of the parameters that may move, by "
        "FLOPs. fair: a step that n methods share counts 1/n for each. +1: one more language, on "
        f"average. accuracy, cost (in FLOPs): in % of {reference}. "
        "Seconds and memory depend on the machine and on what else ran there. Not included: the "
        f"base ({escape('; '.join(bases))}).",
        title_justify="left",
        caption_justify="left",
    )
    shown.add_column("method", no_wrap=True)
    for name in ("tokens", "FLOPs", "trained %", "seconds", "peak MB", "artifacts MB"):
        shown.add_column(name, justify="right")
    for name in ("fair FLOPs", "+1 FLOPs", "+1 tokens", "accuracy %", "cost %"):
        shown.add_column(name, justify="right")
    for label, method in found["methods"].items():
        added = method["added_language"] or {}
        shown.add_row(
            escape(label),
            *_own(method),
            _power(method["fair"]["flops"]),
            _power(added.get("flops")),
            _number(added.get("tokens")),
            _number(method["accuracy_share"], 100, digits=1),
            _number(method["cost_share"], 100, digits=1),
        )
    shown.add_section()
    total = found["total"]
    shown.add_row("every step once", *_own(total), _power(total["flops"]))
    return shown


def _own(figures: Mapping[str, Any]) -> list[str]:
    return [
        _number(figures["tokens"]),
        _power(figures["flops"]),
        _number(figures["trainable_share"], 100, digits=1),
        _number(figures["seconds"], digits=1),
        _number(figures["peak_memory"], 1e-6),
        _number(figures["bytes"], 1e-6, digits=1),
    ]


def _number(value: float | None, factor: float = 1, *, digits: int = 0) -> str:
    return "" if value is None else f"{value * factor:,.{digits}f}"


def _power(value: float | None) -> str:
    """``1.8e12``."""
    if not value:
        return _number(value)
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"

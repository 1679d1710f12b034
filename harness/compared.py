"""What ``harness compare`` shows: methods of a matrix in the store, compared and as tables."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from harness import store
from harness.home import home
from maec.errors import InputError, nearest

VERDICTS = {"wins": "A wins", "loses": "A loses", "ties": "no difference shown"}


@dataclass(frozen=True)
class Comparison:
    """Methods of one matrix: :func:`harness.compare.summaries`, and cells for each pair asked."""

    matrix: str
    pivot: str
    summaries: pd.DataFrame
    cells: list[pd.DataFrame]

    def as_json(self) -> dict[str, Any]:
        """Full precision; None where a number does not exist."""
        return {
            "matrix": self.matrix,
            "pivot": self.pivot,
            "summaries": _records(self.summaries),
            "cells": [row for frame in self.cells for row in _records(frame)],
        }

    def tables(self) -> list[Table]:
        return [_summaries(self), *(_cells(self.matrix, frame) for frame in self.cells)]


def compared(
    methods: Sequence[str],
    matrix: str | None = None,
    ability: str | None = None,
    variant: str | None = None,
    *,
    every: bool = False,
    with_cells: bool = False,
) -> Comparison:
    """The first method with each of the others, or ``every`` pair.

    Raises:
        InputError: nothing was scored yet; an unknown matrix, variant, method or ability; fewer
            than two methods or one of them twice; methods that cannot be paired.
    """
    if len(set(methods)) < max(2, len(methods)):
        raise InputError(f"compare: name at least two different methods, found {list(methods)}")
    name, pivot = scored_matrix(matrix)
    outcomes = store.outcomes(name)
    where = f"matrix '{name}'"
    if variant is None and outcomes["variant"].nunique() > 1:
        points = ", ".join(outcomes["variant"].unique())
        raise InputError(f"{where} has the variants {points}; name one with --variant")
    if variant is not None and not any(outcomes["variant"]):
        raise InputError(f"--variant: '{variant}': {where} has no variants; leave it out")
    if variant is not None:
        _check("variant", variant, outcomes["variant"].unique(), where)
        outcomes = outcomes[outcomes["variant"] == variant]
    for method in methods:
        _check("method", method, outcomes["method"].unique(), where)
    if ability is not None:
        _check("ability", ability, outcomes["ability"].unique(), where)
        outcomes = outcomes[outcomes["ability"] == ability]
    pairs = list(combinations(methods, 2) if every else ((methods[0], b) for b in methods[1:]))

    from harness import compare  # scipy and statsmodels: a refusal does not wait for them

    return Comparison(
        matrix=name,
        pivot=pivot,
        summaries=compare.summaries(outcomes, pairs, pivot),
        cells=[compare.cells(outcomes, a, b) for a, b in pairs] if with_cells else [],
    )


def scored_matrix(asked: str | None) -> tuple[str, str]:
    """Name and pivot of the matrix asked for, else of the one with the newest score.

    Raises:
        InputError: nothing was scored yet, or nothing of the matrix asked for.
    """
    placed = store.placed()
    scored = placed if placed.empty else placed.dropna(subset=["score"])
    if scored.empty:
        raise InputError(f"{home()}: nothing was scored here yet; `harness run MATRIX` does it")
    newest = scored.sort_values("created", ascending=False).drop_duplicates("matrix")
    name = newest["matrix"].iloc[0] if asked is None else asked
    _check("matrix", name, newest["matrix"], str(home()))
    return name, newest.set_index("matrix").loc[name, "pivot"]


def _check(what: str, word: str, scored: Iterable[str], where: str) -> None:
    scored = list(scored)
    if word not in scored:
        raise InputError(
            f"{what} '{word}': no scores in {where}{nearest(word, scored)} "
            f"(scored: {', '.join(scored) or 'none'})"
        )


def _summaries(found: Comparison) -> Table:
    rows = found.summaries
    table = Table(
        title=f"{found.matrix}: A − B on the target languages, paired over items",
        title_justify="left",
        caption=f"A and B: % correct, mean over languages. A − B: points, with its 95 % interval "
        f"over items of these trained models. Holm p: over {len(rows)} rows. A verdict needs Holm "
        "p ≤ 0.05 and the same sign in every seed.",
        caption_justify="left",
    )
    for column in ("A", "B", "ability"):
        table.add_column(column)
    for column in ("languages", "items", "seeds", "A %", "B %"):
        table.add_column(column, justify="right")
    for column in ("A − B", "sd over seeds", "p", "Holm p"):
        table.add_column(column, justify="right", no_wrap=column == "A − B")
    table.add_column("verdict")
    for row in rows.itertuples():
        table.add_row(
            *map(escape, (row.a, row.b, row.ability)),
            *(str(len(row.languages)), str(row.items), str(len(row.seeds))),
            *(f"{row.mean_a:.1f}", f"{row.mean_b:.1f}"),
            f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]",
            "–" if pd.isna(row.sd) else f"{row.sd:.1f}",
            *(f"{row.p:.2g}", f"{row.p_holm:.2g}", VERDICTS[row.verdict]),
        )
    return table


def _cells(matrix: str, rows: pd.DataFrame) -> Table:
    a, b = rows.loc[0, ["a", "b"]]
    table = Table(
        title=escape(f"{matrix}: {a} (A) − {b} (B), exact McNemar test a cell; Holm p over ")
        + f"{len(rows)} cells",
        title_justify="left",
    )
    for column in ("ability", "language"):
        table.add_column(column)
    for column in ("seed", "items", "both", "only A", "only B", "neither", "A − B, points"):
        table.add_column(column, justify="right")
    for column in ("p", "Holm p"):
        table.add_column(column, justify="right")
    for row in rows.itertuples():
        counts = (row.seed, row.n, row.both, row.only_a, row.only_b, row.neither)
        table.add_row(
            *map(escape, (row.ability, row.language)),
            *map(str, counts),
            *(f"{row.difference:+.1f}", f"{row.p:.2g}", f"{row.p_holm:.2g}"),
        )
    return table


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(frame.to_json(orient="records", double_precision=15))

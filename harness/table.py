"""The result table of a matrix: one row a method, for people; one row a cell, for scripts."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from harness import store
from harness.plan import Plan


def rows(plan: Plan) -> list[dict[str, Any]]:
    """One row a cell of the matrix; ``score`` and what belongs to it is None where it is missing.

    Scores and standard errors are shares in [0, 1]; ``known`` and ``new`` are the scores on items
    made of words that the base knows, and of words that only the language corpora teach.
    """
    keys = [plan.key(cell) for cell in plan.cells]
    found = store.scores([key for key in keys if key])
    by_key = {row["key"]: row for row in found.to_dict("records")}
    return [
        {
            "method": cell.method,
            "ability": cell.ability,
            "language": cell.language,
            "seed": cell.seed,
            **{
                name: _number(by_key.get(key, {}).get(name))
                for name in ("score", "stderr", "n", "known", "new")
            },
            "model_path": str(cell.model.folder),
            "task": cell.task.name,
            "task_path": str(cell.task.folder),
        }
        for cell, key in zip(plan.cells, keys, strict=True)
    ]


def tables(plan: Plan, found: Sequence[dict[str, Any]]) -> list[Table]:
    """A table an ability: methods × languages in percent, with the mean over the targets.

    A mean over an incomplete row is left blank.
    """
    matrix = plan.matrix
    return [
        _table(plan, ability, [r for r in found if r["ability"] == ability])
        for ability in matrix.abilities
    ]


def _table(plan: Plan, ability: str, found: Sequence[dict[str, Any]]) -> Table:
    matrix = plan.matrix
    sizes = sorted({row["n"] for row in found if row["n"]})
    many = f", {len(matrix.seeds)} seeds" if len(matrix.seeds) > 1 else ""
    items = f"{'–'.join(str(size) for size in sizes)} items a cell" if sizes else "no score yet"
    table = Table(
        title=f"{ability}: % correct on {matrix.split} ± standard error over items; {items}{many}",
        title_justify="left",
    )
    table.add_column("method")
    for language in matrix.columns:
        table.add_column(language, justify="right")
    table.add_column("targets", justify="right")
    marked = any(row["new"] is not None for row in found)
    for column in ("known", "new") if marked else ():
        table.add_column(column, justify="right")
    for method in [entry.label for entry in matrix.methods]:
        own = [row for row in found if row["method"] == method]
        targets = [row for row in own if row["language"] in matrix.languages]
        cells = [
            _cell([row for row in own if row["language"] == language])
            for language in matrix.columns
        ]
        means = [_mean(targets, name) for name in ("score", *(("known", "new") if marked else ()))]
        table.add_row(method, *cells, *means)
    return table


def _cell(found: Sequence[dict[str, Any]]) -> str:
    """Mean over seeds, with the standard error over items (averaged over seeds)."""
    if any(row["score"] is None for row in found):
        return "–"
    mean = _average(found, "score")
    errors = [row["stderr"] for row in found]
    if any(error is None for error in errors):
        return f"{100 * mean:.1f}"
    return f"{100 * mean:.1f} ±{100 * sum(errors) / len(errors):.1f}"


def _mean(found: Sequence[dict[str, Any]], name: str) -> str:
    if not found or any(row[name] is None for row in found):
        return ""
    return f"{100 * _average(found, name):.1f}"


def _average(found: Sequence[dict[str, Any]], name: str) -> float:
    return sum(row[name] for row in found) / len(found)


def _number(value: Any) -> Any:
    """None for what is missing, plain Python numbers otherwise."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value

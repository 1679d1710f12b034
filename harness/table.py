"""The result table of a matrix: one row a method, for people; one row a cell, for scripts."""

import json
import math
from collections.abc import Iterable, Sequence
from statistics import mean, stdev
from typing import Any

from rich.markup import escape
from rich.table import Table

from harness import store
from harness.plan import Plan
from harness.tasks import TEXT

Row = dict[str, Any]


def rows(plan: Plan) -> list[Row]:
    """One row a cell of the matrix; ``score`` and what belongs to it is None where it is missing.

    Scores and standard errors are shares in [0, 1]; ``known`` and ``new`` are the scores on items
    made of words that the base knows, and of words that only the language corpora teach. Where
    ``asked`` is not the model's own ability, the cell tells what the model forgot; where it is
    text, the score is in bits per byte and ``perplexity`` is per word. ``vs_base`` is the score
    minus that of the base model asked the same, for the cells about forgetting.
    """
    keys = [plan.key(cell) for cell in plan.cells]
    found = store.scores([key for key in keys if key])
    by_key = {row["key"]: row for row in found.to_dict("records")}
    of_base = {
        (cell.task.key, cell.base.key): by_key.get(key, {}).get("score")
        for cell, key in zip(plan.cells, keys, strict=True)
        if cell.model.key == cell.base.key
    }
    return [
        {
            **({"variant": cell.variant} if cell.variant else {}),
            "method": cell.method,
            "ability": cell.ability,
            "asked": cell.asked,
            "language": cell.language,
            "seed": cell.seed,
            **{
                name: _number(scored.get(name)) for name in ("score", "stderr", "n", "known", "new")
            },
            **_forgetting(cell, scored, of_base.get((cell.task.key, cell.base.key))),
            "model_path": str(cell.model.folder),
            "task": cell.task.name,
            "task_path": str(cell.task.folder) if cell.task.fetched else None,
        }
        for cell, key in zip(plan.cells, keys, strict=True)
        for scored in [by_key.get(key, {})]
    ]


def _forgetting(cell: Any, scored: Row, base: float | None) -> Row:
    if cell.asked == cell.ability:
        return {}
    score = scored.get("score")
    known = score is not None and base is not None
    change = {"vs_base": score - base if known else None}
    if cell.asked != TEXT:
        return change
    metrics = json.loads(scored.get("metrics", "{}"))
    return change | {"perplexity": metrics.get("word_perplexity,none")}


def tables(plan: Plan, found: Sequence[Row]) -> list[Table]:
    """A table an ability (and variant): methods × languages in percent, with the targets' mean.

    A mean over an incomplete row is left blank. With several seeds, a cell is their mean ± the
    standard deviation over seeds.
    """
    matrix = plan.matrix
    return [
        _table(
            plan,
            " ".join(filter(None, (ability, variant))),
            [r for r in found if (r.get("variant", ""), r["ability"]) == (variant, ability)],
        )
        for variant in matrix.points()
        for ability in matrix.abilities
    ]


def _table(plan: Plan, name: str, found: Sequence[Row]) -> Table:
    matrix = plan.matrix
    own = [row for row in found if row["asked"] == row["ability"]]
    text = [row for row in found if row["asked"] == TEXT]
    other = [row for row in found if row["asked"] not in (TEXT, row["ability"])]
    sizes = sorted({row["n"] for row in own if row["n"]})
    items = f"{'–'.join(str(size) for size in sizes)} items a cell" if sizes else "no score yet"
    many = len(matrix.seeds) > 1
    spread = "standard deviation over seeds" if many else "standard error over items"
    seeds = f", {len(matrix.seeds)} seeds" if many else ""
    table = Table(
        title=f"{escape(name)}: % correct on {matrix.split} ± {spread}; {items}{seeds}",
        title_justify="left",
        caption="Δ: against the base, in bits per byte of held-out general text (+ is worse) and "
        "in points on the other abilities"
        if text or other
        else None,
        caption_justify="left",
    )
    table.add_column("method")
    for language in matrix.columns:
        table.add_column(language, justify="right")
    shares = ["score", *(("known", "new") if any(row["new"] is not None for row in own) else ())]
    forgetting = [f for f in (("text", text, 1, 2), ("other", other, 100, 1)) if f[1]]
    for column in ("targets", *shares[1:], *(f"Δ {entry[0]}" for entry in forgetting)):
        table.add_column(column, justify="right")
    for method in [entry.label for entry in matrix.methods]:
        mine = [row for row in own if row["method"] == method]
        targets = [row for row in mine if row["language"] in matrix.languages]
        cells = [_cell([r for r in mine if r["language"] == code]) for code in matrix.columns]
        means = [_over_seeds(targets, share) for share in shares]
        lost = [
            _change((r for r in entries if r["method"] == method), scale, digits)
            for _, entries, scale, digits in forgetting
        ]
        table.add_row(escape(method), *cells, *means, *lost)
    return table


def _cell(found: Sequence[Row]) -> str:
    """One seed: score ± standard error over items; several: mean ± deviation over seeds."""
    if any(row["score"] is None for row in found):
        return "–"
    if len(found) > 1:
        return _spread([row["score"] for row in found])
    (row,) = found
    error = "" if row["stderr"] is None else f" ±{100 * row['stderr']:.1f}"
    return f"{100 * row['score']:.1f}{error}"


def _over_seeds(found: Sequence[Row], name: str) -> str:
    """The mean over languages, with its deviation over seeds; blank while a cell is missing."""
    if not found or any(row[name] is None for row in found):
        return ""
    seeds = {row["seed"] for row in found}
    return _spread([mean(row[name] for row in found if row["seed"] == seed) for seed in seeds])


def _spread(values: Sequence[float]) -> str:
    deviation = f" ±{100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation}"


def _change(found: Iterable[Row], scale: float, digits: int) -> str:
    values = [row["vs_base"] for row in found]
    if not values or any(value is None for value in values):
        return ""
    return f"{scale * mean(values):+.{digits}f}"


def _number(value: Any) -> Any:
    """None for what is missing, plain Python numbers otherwise."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value

"""Items of a matrix page by page: filtered and counted in SQL, texts read for one page alone."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.store.read import reader

VERDICTS = {"right": "i.correct", "wrong": "NOT i.correct", "not judged": "i.correct IS NULL"}

_COLUMNS = [
    *("variant", "method", "ability", "asked", "language", "seed", "item", "id"),
    *("words", "prompt", "output", "extracted", "gold", "correct", "choices", "loglikelihoods"),
    *("cell"),
]


@dataclass(frozen=True)
class Wanted:
    """Which items: None leaves a field open; ``text`` is looked for, case aside, in all texts."""

    matrix: str
    variant: str | None = None
    method: str | None = None
    ability: str | None = None
    asked: str | None = None
    language: str | None = None
    seed: int | None = None
    verdict: str | None = None
    text: str = ""


def count(path: Path, wanted: Wanted) -> int:
    """How many items there are."""
    where, values = _where(wanted)
    query = f"SELECT count(*) FROM placements p JOIN items i ON i.cell = p.cell WHERE {where}"
    with reader(path) as connection:
        return connection.execute(query, values).fetchone()[0] if connection else 0


def page(path: Path, wanted: Wanted, limit: int, offset: int = 0) -> pd.DataFrame:
    """``limit`` items from ``offset`` on, in the matrix's order.

    Columns: variant, method, ability (the model's), asked, language, seed, item (its number), id,
    words, prompt, output (None where choices were scored), extracted, gold, correct (None where
    nothing is judged), choices, loglikelihoods, cell.
    """
    where, values = _where(wanted)
    query = f"""
        WITH page AS (
            SELECT p.row, p.variant, p.method, p.ability, p.asked, p.language, p.seed, i.cell,
                   i.item
            FROM placements p JOIN items i ON i.cell = p.cell WHERE {where}
            ORDER BY p.row, i.item LIMIT ? OFFSET ?)
        SELECT p.variant, p.method, p.ability, p.asked, p.language, p.seed, i.item, i.id, i.words,
               i.prompt, i.output, i.extracted, i.gold, i.correct, i.choices, i.loglikelihoods,
               i.cell
        FROM page p JOIN items i ON i.cell = p.cell AND i.item = p.item
        WHERE i.cell IN (SELECT cell FROM page)
        ORDER BY p.row, i.item
    """
    with reader(path) as connection:
        if connection is None:
            return pd.DataFrame(columns=_COLUMNS)
        return connection.execute(query, [*values, limit, offset]).df()


def disagreements(
    path: Path, wanted: Wanted, a: str, b: str, limit: int, offset: int = 0
) -> tuple[int, pd.DataFrame]:
    """Questions that one of the methods ``a`` and ``b`` had right and the other wrong.

    How many there are, and ``limit`` of them from ``offset`` on: ability, language, seed, id,
    prompt, gold, right ('a' or 'b'), output_a, output_b, extracted_a, extracted_b. ``wanted``'s
    verdict may be None, 'a' or 'b' (the method that was right); its method is not looked at.
    """
    open_fields = Wanted(
        wanted.matrix, wanted.variant, None, wanted.ability, wanted.ability, wanted.language,
        wanted.seed,
    )  # fmt: skip
    where, values = _where(open_fields)
    side = f"""
        SELECT p.row, p.ability, p.language, p.seed, i.id, i.item, i.cell, i.correct
        FROM placements p JOIN items i ON i.cell = p.cell
        WHERE {where} AND p.method = ? AND p.asked = p.ability AND i.correct IS NOT NULL
    """
    both = f"""
        WITH a AS ({side}), b AS ({side}), differ AS (
            SELECT a.row, a.ability, a.language, a.seed, a.id, a.item, a.cell AS cell_a,
                   b.cell AS cell_b, b.item AS item_b,
                   CASE WHEN a.correct THEN 'a' ELSE 'b' END AS "right"
            FROM a JOIN b USING (ability, language, seed, id)
            WHERE a.correct <> b.correct AND (?::VARCHAR IS NULL OR a.correct = (? = 'a')))
    """
    chosen = wanted.verdict if wanted.verdict in ("a", "b") else None
    values = [*values, a, *values, b, chosen, chosen]
    shown = f"""{both}, page AS (
            SELECT * FROM differ ORDER BY row, item LIMIT ? OFFSET ?)
        SELECT d.ability, d.language, d.seed, d.id, x.prompt, x.gold, d."right",
               x.output AS output_a, y.output AS output_b, x.extracted AS extracted_a,
               y.extracted AS extracted_b
        FROM page d JOIN items x ON x.cell = d.cell_a AND x.item = d.item
        JOIN items y ON y.cell = d.cell_b AND y.item = d.item_b
        ORDER BY d.row, d.item
    """
    columns = "ability language seed id prompt gold right output_a output_b extracted_a extracted_b"
    with reader(path) as connection:
        if connection is None:
            return 0, pd.DataFrame(columns=columns.split())
        total = connection.execute(f"{both} SELECT count(*) FROM differ", values).fetchone()[0]
        return total, connection.execute(shown, [*values, limit, offset]).df()


def _where(wanted: Wanted) -> tuple[str, list]:
    """A condition on placements ``p`` and items ``i``, and its parameters in order."""
    parts, values = [], []
    for name in ("matrix", "variant", "method", "ability", "asked", "language", "seed"):
        value = getattr(wanted, name)
        if value is not None:
            parts.append(f"p.{name} = ?")
            values.append(value)
    if wanted.verdict in VERDICTS:
        parts.append(VERDICTS[wanted.verdict])
    if wanted.text:
        texts = ("prompt", "output", "extracted", "gold")
        said = " OR ".join(f"contains(lower(i.{name}), lower(?))" for name in texts)
        parts.append(f"({said})")
        values += [wanted.text] * len(texts)
    return " AND ".join(parts), values

"""A ranking as files: every cell in full precision, or a table for a paper."""

import io

import pandas as pd

from leaderboard.marks import BEST, NOT_WORSE
from maec.visible import one_line

COLUMNS = [
    *("matrix", "variant", "method", "title", "family", "ability", "language", "seed"),
    *("score", "stderr", "n", "known", "new", "split", "fingerprint", "task"),
    *("run_id", "cell", "created"),
]

_LATEX = str.maketrans(
    {
        **{character: "\\" + character for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "[": "{[}",  # after the end of a row it would begin an option
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "Δ": r"$\Delta$",
        "±": r"$\pm$",
        "–": "--",
    }
)
"""Characters that LaTeX reads; those of captions and names, which are no model's text."""


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a scored cell, as the store has it: scores are shares in [0, 1]."""
    return rows.loc[rows["score"].notna(), COLUMNS].reset_index(drop=True)


def csv(rows: pd.DataFrame) -> bytes:
    """The cells as CSV; what a spreadsheet would take for a formula begins with an apostrophe."""
    found = cells(rows)
    texts = found.select_dtypes(exclude=["number", "datetimetz"]).columns
    return (
        found.assign(**{name: found[name].map(_no_formula) for name in texts})
        .to_csv(index=False)
        .encode()
    )


def _no_formula(value: object) -> object:
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if formula else value


def parquet(rows: pd.DataFrame) -> bytes:
    target = io.BytesIO()
    cells(rows).to_parquet(target, index=False)
    return target.getvalue()


def latex(
    table: pd.DataFrame,
    spread: pd.DataFrame,
    marks: pd.DataFrame,
    caption: str,
) -> bytes:
    r"""A booktabs table; a paper needs ``\usepackage{booktabs}`` for it.

    ``table`` is :func:`leaderboard.frames.ranking`, ``spread`` methods × languages, ``marks`` those
    of :func:`leaderboard.marks.marks`. Best and not shown worse are bold, what is missing a dash.
    """
    shown = pd.DataFrame(index=[_escaped(name) for name in table.index])
    for column in (name for name in table.columns if name != "deviation"):
        errors = spread.get(column)
        if column == "targets":
            errors = table["deviation"].fillna(marks["error"].reindex(table.index))
        signed = column.startswith("Δ")
        numbers = [
            _cell(value, None if errors is None else errors.get(method), signed)
            for method, value in table[column].items()
        ]
        shown[_escaped(column)] = numbers
    bold = marks["mark"].reindex(table.index).isin([BEST, NOT_WORSE]).to_numpy()
    if "targets" in shown:
        shown["targets"] = [
            rf"\textbf{{{text}}}" if marked else text
            for text, marked in zip(shown["targets"], bold, strict=True)
        ]
    written = shown.style.to_latex(
        hrules=True,
        column_format="l" + "r" * shown.shape[1],
        caption=_escaped(caption),
        position_float="centering",
    )
    return written.encode()


def _cell(value: float, error: float | None, signed: bool) -> str:
    if pd.isna(value):
        return "--"
    number = f"{value:+.1f}" if signed else f"{value:.1f}"
    if error is None or pd.isna(error):
        return f"${number}$" if signed else number
    return rf"{number} $\pm$ {error:.1f}"


def _escaped(text: object) -> str:
    return one_line(text).translate(_LATEX)

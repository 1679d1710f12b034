"""Numbers and tables as Markdown; what is missing is blank, never 0."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd


def table(rows: Sequence[Mapping[str, Any]], left: int = 1) -> str:
    """A Markdown table of rows that are text already; the first ``left`` columns are words."""
    frame = pd.DataFrame(rows).fillna("").astype(str).replace(r"\|", r"\\|", regex=True)
    align = ["left" if index < left else "right" for index in range(frame.shape[1])]
    return frame.to_markdown(index=False, disable_numparse=True, colalign=align)


def section(heading: str, *parts: str) -> str:
    """A heading with the parts that say something; "" when none does."""
    said = [part for part in parts if part]
    return "\n\n".join([f"## {heading}", *said]) if said else ""


def spread(values: pd.Series, scale: float = 1, digits: int = 1, *, sign: bool = False) -> str:
    """Mean ± standard deviation of one value a seed; blank while one is missing."""
    if values.empty or values.isna().any():
        return ""
    deviation = f" ± {scale * values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{number(scale * values.mean(), digits, sign=sign)}{deviation}"


def number(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    if value is None or pd.isna(value):
        return ""
    # adding zero: what rounds to zero has no minus
    return f"{round(value, digits) + 0.0:{'+' if sign else ''},.{digits}f}"


def by_seed(rows: pd.DataFrame, column: str) -> pd.Series:
    """The mean over rows for each seed, missing where one of its rows is."""
    return rows.groupby("seed")[column].agg(lambda values: values.mean(skipna=False))


def codes(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def sizes(values: pd.Series) -> str:
    """One number, or the least and the greatest."""
    found = sorted({int(value) for value in values.dropna()})
    return "–".join(f"{value:,}" for value in dict.fromkeys((found[0], found[-1]))) if found else ""


def of_point(name: str, point: str) -> str:
    """A sub-heading's words, for a point of the matrix's axis where it has one."""
    return f"{name}, {point}" if point else name

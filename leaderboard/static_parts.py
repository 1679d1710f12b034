"""What the static page is made of: its style, the script that sorts, table fields, heat maps."""

import html

import pandas as pd

from leaderboard import frames
from leaderboard.text import number

STYLE = """
:root { color-scheme: light dark; }
body { font-family: "Source Sans 3", "Noto Sans", "Noto Sans Bengali", "Noto Sans Telugu",
  "Noto Sans CJK SC", "Nirmala UI", "PingFang SC", "Segoe UI", sans-serif;
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.5; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8884; }
.wide { overflow-x: auto; }
.maps { display: flex; flex-wrap: wrap; gap: 1.5rem; }
table { border-collapse: collapse; margin: 0.5rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; opacity: 0.75; }
th, td { padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid #8883; }
tbody th, th:first-child { text-align: left; font-weight: 600; }
.sortable thead th { cursor: pointer; }
td small { opacity: 0.7; }
.map td { min-width: 3rem; text-align: center; border: 1px solid #8883; }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    let up = column > 0;
    head.addEventListener("click", () => {
      up = !up;
      const key = row => {
        const cell = row.cells[column];
        return column ? parseFloat(cell.dataset.value) : cell.textContent;
      };
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
"""

CIVIDIS = [
    "#00224E",
    "#123570",
    "#3B496C",
    "#575D6D",
    "#707173",
    "#8A8678",
    "#A59C74",
    "#C3B369",
    "#E1CC55",
    "#FEE838",
]


def field(value: float, error: float | None = None, *, sign: bool = False) -> str:
    """A number as a table field, with what may be added or taken; empty where it is missing."""
    if pd.isna(value):
        return "<td></td>"
    spread = "" if error is None or pd.isna(error) else f" <small>± {number(error)}</small>"
    return f'<td data-value="{value:.6g}">{number(value, sign=sign)}{spread}</td>'


def heat_map(cells: pd.DataFrame, methods: list[str]) -> str:
    """Methods × languages, a table a resource level; ``cells`` is :func:`frames.long`."""
    parts = []
    for level, words in frames.LEVELS.items():
        part = cells[cells["resource"] == level]
        if not part.empty:
            parts.append(_table(part, methods, words))
    return f'<div class="maps">{"".join(parts)}</div>'


def _table(cells: pd.DataFrame, methods: list[str], words: str) -> str:
    wide = cells.pivot(index="method", columns="language", values="accuracy")
    wide = wide.reindex(index=methods, columns=cells["language"].unique())
    head = "".join(f"<th>{html.escape(str(code))}</th>" for code in wide.columns)
    lines = [
        f"<tr><th>{html.escape(str(method))}</th>{''.join(map(_coloured, values))}</tr>"
        for method, values in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    n = frames.sizes(cells["n"])
    return (
        f'<table class="map"><caption>{words}, % correct, n = {n} items</caption>'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _coloured(value: float) -> str:
    if pd.isna(value):
        return "<td></td>"
    colour = CIVIDIS[min(int(value / 100 * len(CIVIDIS)), len(CIVIDIS) - 1)]
    text = "#000" if value > 52 else "#fff"
    return f'<td style="background:{colour};color:{text}">{value:.0f}</td>'

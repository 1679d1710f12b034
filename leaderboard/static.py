"""Ranking and map as one HTML file that needs no network: ``make leaderboard-static``.

All text from the store is escaped; the only script sorts tables.
"""

import argparse
import html
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from harness import reported
from harness.home import snapshot_path
from harness.store import view
from leaderboard import frames
from leaderboard.reported import NOTE, wide
from leaderboard.static_parts import SCRIPT, STYLE, field, heat_map
from leaderboard.text import counted
from maec.errors import InputError

TARGET = Path("build/leaderboard.html")


def page(path: Path) -> str:
    """The whole document for the snapshot or released set at ``path``: matrices, newest first.

    Raises:
        InputError: nothing was scored there yet, or a file of reported numbers is wrong.
    """
    found = view.matrices(path)
    found = found[found["scored"] > 0]
    if found.empty:
        raise InputError(f"{path}: nothing was scored yet; `make matrix` runs the embedded world")
    parts = [*(_matrix(path, row) for row in found.to_dict("records")), *_reported()]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>MAEC leaderboard</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>MAEC leaderboard</h1>\n{body}\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _matrix(path: Path, row: dict) -> str:
    placed = view.placed(path, row["matrix"])
    heading = f"<h2>{html.escape(row['matrix'])}</h2>"
    base = "embedded" if row["embedded"] else row["base"]
    newest = f"{pd.Timestamp(row['newest']):%Y-%m-%d}"
    about = (
        f"<p>Base model {html.escape(str(base))}; {html.escape(row['split'])} items; "
        f"{row['scored']:,} of {row['cells']:,} cells are scored, the newest on {newest}.</p>"
    )
    parts = [
        part
        for variant in placed["variant"].unique()
        for part in _variant(frames.own(placed, variant), variant, row["pivot"])
    ]
    return "\n".join([heading, about, *parts])


def _variant(rows: pd.DataFrame, variant: str, pivot: str) -> Iterator[str]:
    for ability in rows["ability"].unique():
        own = rows[rows["ability"] == ability]
        name = ", ".join(filter(None, (ability, variant)))
        yield f"<h3>{html.escape(name)}</h3>"
        yield f"<p>{html.escape(_caption(own, pivot))}</p>"
        yield _ranking(own, pivot)
        yield heat_map(frames.long(own), list(frames.ranking(own, pivot).index))


def _caption(rows: pd.DataFrame, pivot: str) -> str:
    seeds = rows["seed"].nunique()
    spread = "standard deviation over seeds" if seeds > 1 else "standard error over a cell's items"
    return (
        f"Percent correct ± {spread}; n = {frames.sizes(rows['n'])} items a cell, "
        f"{counted(seeds, 'seed')}. targets is the mean over the languages other than {pivot}, "
        "blank while a cell of the row is missing; Δ is in points. Click a heading to sort."
    )


def _ranking(rows: pd.DataFrame, pivot: str) -> str:
    table, spread = frames.ranking(rows, pivot), frames.spread(rows)
    columns = [column for column in table.columns if column != "deviation"]
    titles = rows.drop_duplicates("method").set_index("method")["title"]
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in ("method", *columns))
    lines = []
    for method, values in table.iterrows():
        cells = [f'<th title="{html.escape(titles[method])}">{html.escape(str(method))}</th>']
        for column in columns:
            error = values["deviation"] if column == "targets" else None
            error = spread.loc[method, column] if column in spread else error
            cells.append(field(values[column], error, sign=column.startswith("Δ")))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = "".join(lines)
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _reported() -> Iterator[str]:
    """What others reported, a table a task, in no matrix's ranking."""
    found = reported.load()
    if found.empty:
        return
    yield f"<h2>Reported by others</h2>\n<p>{html.escape(NOTE)}</p>"
    for (task, metric), part in found.groupby(["task", "metric"], sort=False):
        yield f"<h3>{html.escape(task)}</h3>\n<p>{html.escape(metric)} in percent.</p>"
        languages = list(part["language"].unique())
        table = wide(part, languages)
        columns = ["system", "setting", *languages, "n", "source", "url"]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        lines = []
        for row in table.to_dict("records"):
            cells = [
                field(row[name]) if name in languages else _text(row[name]) for name in columns[1:]
            ]
            lines.append(f"<tr><th>{html.escape(row['system'])}</th>{''.join(cells)}</tr>")
        yield (
            f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>"
        )


def _text(value: object) -> str:
    return f"<td>{'' if pd.isna(value) else html.escape(str(value))}</td>"


def main() -> int:
    """Write the page; 0 when it is written, 2 with one line where there is nothing to write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET, help="default: %(default)s")
    parser.add_argument("--source", type=Path, help="default: the snapshot in MAEC_HOME")
    given = parser.parse_args()
    try:
        text = page(given.source or snapshot_path())
    except InputError as error:
        print(f"leaderboard: {error}", file=sys.stderr)
        return 2
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text, encoding="utf-8")
    print(f"{given.out}: {len(text.encode()) / 1e3:,.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

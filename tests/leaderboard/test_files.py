"""What is written for others: LaTeX tables, the static page, citations and commands."""

import io
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness.spec import load_matrix
from harness.store import view
from leaderboard import downloads, frames, rerun, static
from leaderboard.marks import BEST, NOT_WORSE, UNTESTED
from leaderboard.remaining import time_left, words
from maec.errors import InputError
from tests.leaderboard.synthetic import Size, fill
from tests.leaderboard.test_frames import FULL, placed

NAME = "a_b & 50% <script>alert(1)</script>"


def latex(rows: pd.DataFrame) -> str:
    table, spread = frames.ranking(rows, "en"), frames.spread(rows)
    kinds = dict(zip(table.index, (BEST, NOT_WORSE, UNTESTED), strict=False))
    marks = pd.DataFrame({"mark": pd.Series(kinds), "error": 1.0})
    return downloads.latex(table, spread, marks, "50 % of a_b").decode()


def test_a_latex_table_has_booktabs_rules_and_every_number() -> None:
    text = latex(placed(FULL))
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{table}"):
        assert rule in text
    rows = [line for line in text.splitlines() if line.startswith("maec ")]
    assert len(rows) == 1
    assert r"60.0 $\pm$ 4.0" in rows[0] and r"\textbf{70.0 $\pm$ 1.0}" in rows[0]
    assert "$+60.0$" in rows[0]
    assert r"\caption{50 \% of a\_b}" in text


def test_a_latex_table_escapes_names_and_dashes_what_is_missing() -> None:
    scores = {(NAME if m == "maec" else m, lang, seed): s for (m, lang, seed), s in FULL.items()}
    text = latex(placed({**scores, (NAME, "te", 0): None}))
    assert r"a\_b \& 50\%" in text and "--" in text
    assert len(re.findall(r"(?<!\\)&", text)) % len(re.findall(r"\\\\", text)) == 0


def test_a_csv_file_holds_no_formula_and_a_latex_row_no_option() -> None:
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "plain-1", "[x]"]
    rows = placed({(name, "te", 0): 0.5 for name in formulas})
    kept = pd.DataFrame(dict.fromkeys(downloads.COLUMNS, "x"), index=range(len(rows)))
    kept = kept.assign(method=rows["method"].to_list(), score=-0.5)
    read = pd.read_csv(io.BytesIO(downloads.csv(kept)))
    assert read["method"].to_list() == [*(f"'{name}" for name in formulas[:5]), "plain-1", "[x]"]
    assert (read["score"] == -0.5).all()
    exact = pd.read_parquet(io.BytesIO(downloads.parquet(kept)))
    assert exact["method"].to_list() == formulas
    assert "{[}x]" in latex(rows)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]


def test_the_static_page_needs_no_network_and_escapes_names(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(Size(methods=("base", NAME), items=12), missing=[(NAME, "math", "te", 0)])
    monkeypatch.setattr("sys.argv", ["static", "--out", str(tmp_path / "made" / "x.html")])
    assert static.main() == 0
    text = (tmp_path / "made" / "x.html").read_text(encoding="utf-8")
    tags = Tags(text)
    assert tags.found.count("script") == 1 and tags.addresses == []
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "a_b &amp; 50% &lt;script&gt;" in text
    assert tags.found.count("table") == 2 * (1 + 3)


def test_the_static_page_shows_the_stores_scores(snapshot: Path) -> None:
    text = static.page(snapshot)
    rows = frames.own(view.placed(snapshot, "synthetic"), "")
    table = frames.ranking(frames.chosen(rows, abilities=["science"]), "en")
    for value in table["targets"]:
        assert f'data-value="{value:.6g}"' in text
    assert "n = 24 items" in text and "± standard deviation over seeds" in text


def test_without_scores_there_is_no_static_page(home: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["static"])
    assert static.main() == 2
    assert "make matrix" in capsys.readouterr().err
    with pytest.raises(InputError):
        static.page(home / "none")


def test_commands_survive_odd_paths(snapshot: Path) -> None:
    cell = view.provenance(snapshot, "maec-math-es-0")
    command = rerun.ask_again({**cell, "task_path": "/a b/$(x)"}, "/m o")
    parts = shlex.split(command.replace("\\\n", ""))
    assert "/a b/$(x)" in parts and "pretrained=/m o,dtype=float32" in parts
    assert "--apply_chat_template" not in parts
    assert "--apply_chat_template" in rerun.ask_again(cell, "/m", chat_template=True).split()


def test_the_matrix_file_of_a_run_can_be_read_again(tmp_path: Path) -> None:
    matrix = load_matrix(Path("harness/matrices/nano.yaml"))
    written = rerun.matrix_yaml({"matrix_file": matrix.model_dump(mode="json")})
    (tmp_path / "nano.yaml").write_text(written, encoding="utf-8")
    again = load_matrix(tmp_path / "nano.yaml")
    assert again.model_dump(mode="json") == matrix.model_dump(mode="json")
    assert yaml.safe_load(written)["name"] == "nano"


def test_time_left_goes_on_at_the_pace_so_far() -> None:
    start = pd.Timestamp("2026-01-01")
    minute = pd.Timedelta(minutes=1)
    left = time_left(start, start + 10 * minute, start + 11 * minute, done=20, left=40)
    assert words(left) == "19 min 0 s"
    assert time_left(start, None, start + minute, done=0, left=40) is None
    assert words(time_left(start, start + minute, start + 90 * minute, 1, 1)) == "0 s"
    assert words(pd.Timedelta(hours=2, minutes=5)) == "2 h 5 min"

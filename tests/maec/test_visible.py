"""Text of others steers no terminal: not in tables, not in bars, not in errors."""

import io
import json
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from maec.console import Console
from maec.visible import one_line, visible

PLANTED = "a\x1b[2J\x07\x9b31mb\u202ec\u2066d\r\x00"


def steers(text: str) -> bool:
    return any(
        (ord(character) < 32 and character not in "\n\t") or 127 <= ord(character) < 160
        or character in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        for character in text
    )  # fmt: skip


@given(st.text(st.characters(codec=None)) | st.just(PLANTED))
def test_nothing_that_steers_is_left_and_json_says_the_same(text: str) -> None:
    assert not steers(visible(text))
    assert "\n" not in one_line(text)
    visible(text).encode()  # can be written
    assert json.loads(visible(json.dumps({text: [text]}, ensure_ascii=False))) == {text: [text]}


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cf"])))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_marks_that_scripts_need_stay() -> None:
    for text in ("క్‌ష", "ক্‍", "\u200eא\u200f"):
        assert visible(text) == text


def test_a_console_shows_control_characters_wherever_they_stand() -> None:
    target = io.StringIO()
    console = Console(file=target, width=400)
    table = Table(PLANTED, title=PLANTED)
    table.add_row(PLANTED)
    console.print(PLANTED, table, Text(PLANTED))
    with Progress(console=console) as progress:
        progress.add_task(PLANTED)
        progress.console.print(PLANTED)
    assert not steers(target.getvalue())
    assert target.getvalue().count(r"\u001b[2J") >= 6


def test_its_own_colours_stay() -> None:
    target = io.StringIO()
    Console(file=target, force_terminal=True, color_system="standard").print("[red]x[/red]")
    assert "\x1b[31mx" in target.getvalue()


def test_both_commands_refuse_in_one_line_that_steers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    known = "name: x\nlanguages: [es]\nabilities: [math]\nmethods: [base]\n"
    path.write_text('"\\e[2J\\n\\u202enew": 1\n' + known, encoding="utf-8")
    for command in (["harness.cli", "plan", path], ["maec.cli", "merge", path, tmp_path / "out"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, errors="strict"
        )
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert r"\u001b[2J \u202enew" in line and not steers(line)

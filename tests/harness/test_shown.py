"""Names that people or files give are text in what the commands print."""

import io

import pytest

from harness.price_table import table
from maec.command import start
from maec.console import Console


def test_a_label_is_no_markup() -> None:
    nothing = {"known": 0, "unknown": False}
    figures = {"count": 1, **dict.fromkeys(
        ("download", "disk", "gpu_memory", "flops", "gpu_hours"), nothing
    )}  # fmt: skip
    target = io.StringIO()
    found = {"groups": {"[/red] [link=x]": figures}, "total": figures}
    Console(file=target, width=200).print(table("nano", found))
    assert "[/red] [link=x]" in target.getvalue()


def test_what_fails_underway_is_one_line_too(capsys: pytest.CaptureFixture) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "a\x1b[2J\nb")

    with pytest.raises(SystemExit) as caught:
        start(full, "harness")
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("harness: ") and "No space left" in line and "\x1b" not in line

"""Names from data stay what they are in Markdown, and numbers say what they are."""

import pytest
from streamlit.string_util import clean_text

from leaderboard.text import counted, listed, number, plain
from maec.visible import visible
from tests.leaderboard.synthetic import PLANTED


@pytest.mark.parametrize("planted", PLANTED)
def test_taking_the_escapes_away_gives_the_text(planted: str) -> None:
    shown = plain(planted)
    assert shown.replace("\\", "").replace("\u2060", "") == visible(planted).replace("\\", "")
    assert clean_text(shown) == shown


@pytest.mark.parametrize("character", list("\\`*_{}[]()<>#+-.!|$~^=&"))
def test_every_character_that_markdown_reads_is_escaped(character: str) -> None:
    assert plain(f"a{character}b") == f"a\\{character}b"


def test_shortcodes_are_broken() -> None:
    for word in (":red[x]", ":smile:", ":material/home:"):
        assert ":\u2060" in plain(word)


def test_lines_become_one() -> None:
    assert plain("a\n\n# b") == "a \\# b"


def test_counts_and_numbers() -> None:
    assert (counted(1, "seed"), counted(1200, "item")) == ("1 seed", "1,200 items")
    assert (number(None), number(float("nan")), number(-0.04)) == ("–", "–", "0.0")
    assert (number(2.25, 1, sign=True), number(-1234.5)) == ("+2.2", "−1,234.5")
    assert listed(["a", "b_c"]) == "a, b\\_c"

"""Text from models, data sets and released files, made safe for where it is shown.

Model outputs go to widgets that show text (``st.text``, ``st.code``, data frames), through
:func:`maec.visible.visible`, which writes out what turns the direction of text. Streamlit reads
Markdown in labels, captions, titles and options of some widgets: what goes there goes through
:func:`plain` first.
"""

import re
from collections.abc import Sequence

from maec.visible import one_line

_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|$~^=&\"'@/])")
_SHORTCODE = re.compile(r":(?=\S)")
_WORD_JOINER = "\u2060"


def plain(value: object) -> str:
    """``value`` as Markdown that shows exactly its characters, on one line.

    A backslash keeps Markdown, HTML and formulas from being read. Emoji shortcodes and colours
    (``:red[…]``) are read after backslashes are gone: an invisible word joiner breaks them.
    """
    escaped = _MARKUP.sub(r"\\\1", " ".join(one_line(value).split()))
    return _SHORTCODE.sub(rf"\\:{_WORD_JOINER}", escaped)


def listed(values: Sequence[object]) -> str:
    """The values as words with commas, each of them :func:`plain`."""
    return ", ".join(plain(value) for value in values)


def counted(count: int, word: str) -> str:
    """'1 seed', '2 seeds', '1,200 items'."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def number(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """Rounded, without a minus before zero; '–' for what is missing."""
    if value is None or value != value:
        return "–"
    shown = f"{round(value, digits) + 0.0:{'+' if sign else ''},.{digits}f}"
    return shown.replace("-", "−")

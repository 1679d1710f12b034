"""Text of others, made safe for a terminal: what would steer it is shown instead of done."""

from __future__ import annotations

import re

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, other ends of lines, what turns the direction of text (which can make it
read as something else), and halves of surrogate pairs, which cannot be written at all."""


def visible(text: object) -> str:
    r"""``text`` with what would steer a terminal written out, as in ``\u001b``; lines stay.

    JSON that goes through it still says the same.
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def one_line(text: object) -> str:
    """``text`` as :func:`visible` has it, on one line."""
    return visible(text).replace("\n", " ")

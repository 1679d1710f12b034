"""Code that a model brings along, which nothing here runs unless its user says so.

transformers and vLLM import it where a config names it, in ``auto_map`` or as a kernel on a hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maec.errors import InputError
from maec.reading import read_json

_IMPLEMENTATIONS = ("attn_implementation", "_attn_implementation", "experts_implementation")


def require_allowed(folder: Path, trusted: bool, how: str) -> None:
    """Refuse a model whose configs name code to be run with it, unless it is ``trusted``.

    Code in another repository than the model's is refused in any case: it may be another one
    tomorrow.  ``how``, in errors, says what to set to trust it.

    Raises:
        InputError: the config, what it names, and what to do.
    """
    for file in sorted(folder.glob("*config.json")):
        for key, code in _named(read_json(file)):
            elsewhere = "--" in code or "/" in code
            if elsewhere:
                raise InputError(
                    f"{file}: {key}: {code!r} is code in another repository, which is never run; "
                    "copy it beside the weights"
                )
            if not trusted:
                raise InputError(
                    f"{file}: {key}: {code!r} is code that comes with the model, and is not run; "
                    f"{how}, or delete {key} if transformers has such a model of its own"
                )


def _named(value: Any) -> Iterator[tuple[str, str]]:
    """The code that a config names at any depth, with the key that names it."""
    if isinstance(value, list):
        for part in value:
            yield from _named(part)
    if not isinstance(value, dict):
        return
    for key, part in value.items():
        if key == "auto_map":
            yield from ((key, code) for code in _texts(part))
        elif key in _IMPLEMENTATIONS:
            yield from ((key, code) for code in _texts(part) if "/" in code)
        else:
            yield from _named(part)


def _texts(value: Any) -> Iterator[str]:
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(parts, str):
        yield parts
    elif isinstance(value, dict | list):
        for part in parts:
            yield from _texts(part)

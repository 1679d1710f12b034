"""Sizes of memory as people write them."""

from __future__ import annotations

from pydantic import ByteSize, TypeAdapter, ValidationError

from maec.errors import InputError

MEMORY = "2GB"
"""What a merge or an extraction uses at most, where nothing else is said."""


def as_bytes(text: str) -> int:
    """Bytes from ``"800MB"``, ``"4GB"`` or ``"4GiB"``.

    Raises:
        InputError: it is no size.
    """
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError as error:
        raise InputError(f"--memory: {text!r} is no size; give one such as 800MB or 4GB") from error

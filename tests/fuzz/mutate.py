"""Bytes as choices: valid files with something in them that nobody expects."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, 1e308, float("inf"), float("nan"), 2**63, -(2**63)),
    *(10**40, [], {}, [[]], {"": {}}, "", " ", "a", "x" * 5000, "a/b", "../..", "/", "a/b@c"),
    *("~", "~nobody-here", "\n", "\x1b[2J", "\u202e", "[/red]", "{", "{language}", "{a.b}"),
    *("*", "es", "maec", "base", "embedded", "F32", "model.safetensors", "items-1.parquet"),
)
"""Values that stand where others are expected."""


class Choices:
    """Decisions read from bytes; the first of all once there are none left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def number(self, below: int) -> int:
        """A number in [0, ``below``)."""
        if self._place >= len(self._data):
            return 0
        width = 1 if below <= 256 else 2
        found = int.from_bytes(self._data[self._place : self._place + width], "little")
        self._place += width
        return found % below

    def one(self, of: Sequence[T]) -> T:
        return of[self.number(len(of))]

    def text(self) -> str:
        """What is left of the bytes."""
        rest, self._place = self._data[self._place :], len(self._data)
        return rest.decode("utf-8", "replace")

    @property
    def left(self) -> bool:
        return self._place < len(self._data)


def mutated(valid: Any, choices: Choices) -> Any:
    """A copy of ``valid`` with up to four changes: values replaced, removed, moved, renamed."""
    found = [copy.deepcopy(valid)]
    for _ in range(1 + choices.number(4)):
        _change(found, choices)
    return found[0]


def _change(root: list[Any], choices: Choices) -> None:
    held: Any = root
    while True:
        keys = list(held) if isinstance(held, dict) else list(range(len(held)))
        key = choices.one(keys)
        part = held[key]
        if not isinstance(part, dict | list) or not part or choices.number(4) == 0:
            break
        held = part
    _CHANGES[choices.number(len(_CHANGES))](held, key, choices)


def _replace(held: Any, key: Any, choices: Choices) -> None:
    held[key] = copy.deepcopy(choices.one(ODD))


def _write(held: Any, key: Any, choices: Choices) -> None:
    held[key] = choices.text()


def _remove(held: Any, key: Any, choices: Choices) -> None:
    if isinstance(held, dict):
        del held[key]
    else:
        held[key] = None


def _rename(held: Any, key: Any, choices: Choices) -> None:
    if isinstance(held, dict):
        name = choices.one(ODD)
        held[name if isinstance(name, str | int | float | None) else str(name)] = held.pop(key)


def _repeat(held: Any, key: Any, choices: Choices) -> None:
    if isinstance(held, list):
        held.append(copy.deepcopy(held[key]))
    else:
        held[key] = [held[key]]


def _wrap(held: Any, key: Any, choices: Choices) -> None:
    held[key] = {"name": held[key]}


_CHANGES: tuple[Callable[[Any, Any, Choices], None], ...] = (
    *(_replace, _replace, _replace, _write, _remove, _rename, _repeat, _wrap),
)

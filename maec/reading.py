"""YAML and JSON of files that anybody may have written: read within limits, refused in one line.

YAML is data and nothing else: no tags, no key twice, and aliases that do not grow without end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from maec.errors import InputError

YAML_BYTES = 10**6
JSON_BYTES = 64 * 2**20  # the tokenizers of large models take half of it

DEPTH = 64
"""How deep values may lie in one another."""

VALUES = 10**5
"""How many values a YAML file may have, with every alias written out."""

DIGITS = 100
"""How long a number in YAML may be."""

_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, six times as fast


def read_yaml(path: Path) -> Any:
    """What the YAML file ``path`` says; InputError if it cannot be read or is not YAML as here."""
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, where: object) -> Any:
    """What ``text`` says; ``where``, in errors, is what holds it.

    Raises:
        InputError: it is not YAML, or it has tags, a key twice, too many or too deep values.
    """
    try:
        _require_plain(text)
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: this is not YAML: {_mistake(error)}") from None
    except (ValueError, OverflowError) as error:  # dates that are none
        raise InputError(f"{where}: this is not YAML: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; InputError if it is missing or is no JSON object."""
    return parse_json(read_text(path, JSON_BYTES), path)


def parse_json(text: str, where: object, *, unique: bool = False) -> dict[str, Any]:
    """The JSON object that ``text`` holds; ``where``, in errors, is what holds it.

    ``unique`` refuses a key that stands twice in an object, of which others may read another one.

    Raises:
        InputError: it is not JSON, no object, too deep, or has text that is no Unicode.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique if unique else None)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # fails for half of a pair
        _require_shallow(value)
    except RecursionError:
        raise InputError(f"{where}: not valid JSON: {_DEEP}") from None
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: not a JSON object")
    return value


def read_text(path: Path, limit: int = YAML_BYTES) -> str:
    """The text in ``path``, of ``limit`` bytes at most; InputError if it is not to be had."""
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; name one that is there") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; name another") from None
    if len(content) > limit:
        raise InputError(f"{path}: larger than {limit:,} bytes, which no such file needs")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}: this is not UTF-8 text") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands there twice")
    return found


def _require_shallow(value: Any) -> None:
    level = [[value]]
    for _ in range(DEPTH + 1):
        level = [part for held in level for part in _parts(held)]
        if not level:
            return
    raise ValueError(_DEEP)


def _parts(value: Any) -> Iterator[Any]:
    """The lists and objects in a list or an object."""
    held = value.values() if isinstance(value, dict) else value
    return (part for part in held if isinstance(part, list | dict))


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_DEEP = f"values lie more than {DEPTH} deep in one another"


class _Refused(yaml.MarkedYAMLError):
    """YAML, but not as it is read here."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(_Parser):
    """Refuses numbers that take minutes to be read: in base 60, YAML has some of a megabyte."""

    def construct_scalar(self, node: Any) -> Any:
        if len(node.value) > DIGITS and node.tag.endswith((":int", ":float")):
            raise _Refused(f"a number of more than {DIGITS} digits", node.start_mark)
        return super().construct_scalar(node)


def _require_plain(text: str) -> None:
    """Refuse, before anything is built of it, what is more than data of a reasonable size."""
    sizes: dict[str, int] = {}  # of what has an anchor
    open_ = [_Collection()]
    for event in yaml.parse(text, _Parser):
        if isinstance(event, yaml.CollectionEndEvent):
            closed = open_.pop()
            open_[-1].size += closed.size
            if closed.anchor:
                sizes[closed.anchor] = closed.size
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        mark, within = event.start_mark, open_[-1]
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _Refused(f"*{event.anchor} is no whole value before this one", mark)
            within.add(sizes[event.anchor])
        elif event.tag not in (None, "!"):
            raise _Refused(f"the tag {event.tag}; values are written plainly", mark)
        elif isinstance(event, yaml.ScalarEvent):
            if "\0" in event.value:
                raise _Refused("a NUL character", mark)
            if within.has(event.value):
                raise _Refused(f"the key {event.value!r} stands there twice", mark)
            within.add(1, event.value)
            if event.anchor:
                sizes[event.anchor] = 1
        else:
            within.add(0)
            sizes.pop(event.anchor, None)
            open_.append(_Collection(isinstance(event, yaml.MappingStartEvent), event.anchor))
        if len(open_) > DEPTH:
            raise _Refused(_DEEP, mark)
        if sum(held.size for held in open_) > VALUES:
            raise _Refused(f"more than {VALUES:,} values, aliases written out", mark)


@dataclass
class _Collection:
    """A list or a mapping that is being read: how many values it has, in all and at its level."""

    mapping: bool = False
    anchor: str | None = None
    size: int = 1
    parts: int = 0
    keys: set[str] = field(default_factory=set)

    def has(self, key: str) -> bool:
        """Whether a value that comes next would be a key again."""
        return self.mapping and self.parts % 2 == 0 and key in self.keys

    def add(self, size: int, text: str | None = None) -> None:
        if self.mapping and self.parts % 2 == 0 and text is not None:
            self.keys.add(text)
        self.size += size
        self.parts += 1


def _mistake(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}: {' '.join(problem.split())}"

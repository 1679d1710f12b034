"""What a home holds in the end: scores by item, artifacts by byte, and what was left over."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from blake3 import blake3

from tests.faults.command import NotSurvived

LEFTOVERS = (".partial-*", "*.partial", "store.duckdb.wal", "*.lock", "*.tmp", "training/*")

_PLACED = """
    SELECT p.* EXCLUDE (cell), c.* EXCLUDE (seconds, run_id, created)
    FROM placements p LEFT JOIN cells c ON c.key = p.cell ORDER BY p.row
"""
_ITEMS = "SELECT * FROM items WHERE cell IN (SELECT cell FROM placements) ORDER BY cell, item"
_COUNTS = "SELECT (SELECT count(*) FROM cells), (SELECT count(*) FROM items)"


@dataclass(frozen=True)
class Truth:
    """All that is decided by a matrix, and by nothing that happened on the way."""

    placed: list[tuple]
    items: list[tuple]
    counts: tuple[int, int]
    artifacts: dict[str, str]


def read(home: Path) -> Truth:
    """What is in ``home``.

    Raises:
        NotSurvived: the store and its snapshot cannot be read, or differ.
    """
    store, snapshot = (_tables(home / name) for name in ("store.duckdb", "snapshot.duckdb"))
    if store != snapshot:
        raise NotSurvived("the snapshot is not what the store holds")
    return Truth(*store, dict(_artifacts(home / "artifacts")))


def require_same(expected: Truth, found: Truth, *, exact: bool) -> None:
    """Compare a home with that of an undisturbed run.

    Not ``exact``, more may be in it, of another run, and artifacts that nobody needs any more may
    be gone; what there is must be the same all the same.

    Raises:
        NotSurvived: they differ.
    """
    for what in ("placed", "items", *(("counts",) if exact else ())):
        if getattr(expected, what) != getattr(found, what):
            raise NotSurvived(f"{what}: {_first(getattr(expected, what), getattr(found, what))}")
    missing = expected.artifacts.keys() - found.artifacts.keys()
    if exact and missing:
        raise NotSurvived(f"{len(missing)} files are missing, such as {min(missing)}")
    for name in sorted(expected.artifacts.keys() & found.artifacts.keys()):
        if expected.artifacts[name] != found.artifacts[name]:
            raise NotSurvived(f"{name} is not what an undisturbed run makes")


def require_clean(home: Path) -> None:
    """Raise NotSurvived where scratch or a lock was left."""
    found = (path for name in LEFTOVERS for path in home.rglob(name))
    # the file of a lock stays; who has the lock stands in it
    left = [str(p.relative_to(home)) for p in found if p.suffix != ".lock" or p.stat().st_size]
    if left:
        raise NotSurvived(f"left over: {', '.join(sorted(left)[:5])}")


def _tables(path: Path) -> tuple[list[tuple], list[tuple], tuple[int, int]]:
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            placed, items, counts = (
                connection.execute(query).fetchall() for query in (_PLACED, _ITEMS, _COUNTS)
            )
    except duckdb.Error as error:
        raise NotSurvived(f"{path.name}: {' '.join(str(error).split())[:200]}") from None
    return placed, items, counts[0]


def _artifacts(folder: Path) -> Iterator[tuple[str, str]]:
    """Digests of all files of all artifacts, but of what says when and how long it took."""
    # what is hidden was put aside
    for path in folder.glob("*/[!.]*/**/*"):
        # mergekit's card lists models in the order of a set, which is another one every time
        if not path.is_file() or (path.name == "README.md" and path.match("mergekit/*/*")):
            continue
        content = path.read_bytes()
        if path.name == "manifest.json":
            with suppress(ValueError):  # damaged, and compared as it is
                content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
        yield str(path.relative_to(folder)), blake3(content).hexdigest()


def _timeless(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    passing = {"seconds", "training_seconds", "created", "peak_memory", "bytes", "digests", "seal"}
    return {key: _timeless(one) for key, one in value.items() if key not in passing}


def _first(expected: Any, found: Any) -> str:
    """The first difference of two lists of rows."""
    if len(expected) != len(found):
        return f"{len(found)} instead of {len(expected)}"
    one, other = next((a, b) for a, b in zip(expected, found, strict=True) if a != b)
    if not isinstance(one, tuple):
        return f"{other} instead of {one}"
    return next(
        f"{b} instead of {a} in {one[:3]}" for a, b in zip(one, other, strict=True) if a != b
    )

"""Where scores can be read from: the live store, and the sets that were released."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import home
from harness.store.release import MANIFEST
from maec.errors import InputError, nearest


@dataclass(frozen=True)
class Source:
    """Something that :func:`harness.store.reader` and what builds on it take as ``path``."""

    name: str
    path: Path
    kind: Literal["store", "release"]


def sources() -> list[Source]:
    """The live snapshot, if there is one, then released sets by name; opens none of them."""
    live = home.snapshot_path()
    found = [Source("this store", live, "store")] if live.is_file() else []
    sets = sorted(path.parent for path in home.results().glob(f"*/{MANIFEST}"))
    return [*found, *(Source(path.name, path, "release") for path in sets)]


def find_release(name: str) -> Path:
    """The set in ``results`` that is called ``name``, else the one in the folder ``name``.

    Raises:
        InputError: there is neither.
    """
    sets = {source.name: source.path for source in sources() if source.kind == "release"}
    if name in sets:
        return sets[name]
    if (Path(name) / MANIFEST).is_file():
        return Path(name).resolve()
    raise InputError(
        f"'{name}' is no released set in {home.results()}, and no folder with one"
        f"{nearest(name, sets)} (there are: {', '.join(sets) or 'none'})"
    )

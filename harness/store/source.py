"""Where scores can be read from: the live store, and the sets that were released."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.home import CHECKOUT, snapshot_path
from harness.store.release import MANIFEST

RESULTS = CHECKOUT / "results"
"""Where released sets lie, a folder each."""


@dataclass(frozen=True)
class Source:
    """Something that :func:`harness.store.reader` and what builds on it take as ``path``."""

    name: str
    path: Path
    kind: Literal["store", "release"]


def sources(results: Path | None = None) -> list[Source]:
    """The live snapshot, if there is one, then the sets in ``results`` by name; opens none."""
    live = snapshot_path()
    found = [Source("this store", live, "store")] if live.is_file() else []
    sets = sorted(path.parent for path in (results or RESULTS).glob(f"*/{MANIFEST}"))
    return [*found, *(Source(path.name, path, "release") for path in sets)]

"""What killed runs left in MAEC_HOME: scratch that nobody will finish."""

import shutil
from pathlib import Path

from harness.home import home

_PATTERNS = (
    ".partial-*",
    "artifacts/*/.partial-*",
    "questions/.partial-*",
    "records/*/.partial-*",
    "remote/*/.partial-*",
    "tasks/.partial-*",
    "*.partial",
)


def leftovers() -> list[Path]:
    """All of it; none is in use where no other process holds the store."""
    return sorted(path for pattern in _PATTERNS for path in home().glob(pattern))


def remove_leftovers() -> None:
    """Delete it; for the process that holds the store."""
    for path in leftovers():
        shutil.rmtree(path) if path.is_dir() else path.unlink()

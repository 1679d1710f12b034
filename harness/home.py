"""Where artifacts, tasks and the store live: ``MAEC_HOME``, else ``.maec`` in the checkout.

Released sets lie elsewhere: they outlive all of it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maec.errors import InputError

CHECKOUT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """The folder for everything that is made; it need not exist yet."""
    return _folder("MAEC_HOME", CHECKOUT / ".maec")


@contextmanager
def living_in(folder: Path) -> Iterator[None]:
    """Let ``folder`` be MAEC_HOME until the block ends, here and in processes started there."""
    before = os.environ.get("MAEC_HOME")
    os.environ["MAEC_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MAEC_HOME"]
        else:
            os.environ["MAEC_HOME"] = before


def results() -> Path:
    """Where released sets lie, a folder each: ``MAEC_RESULTS``, else ``results`` here."""
    return _folder("MAEC_RESULTS", CHECKOUT / "results")


def _folder(variable: str, default: Path) -> Path:
    named = os.environ.get(variable)
    if not named:
        return default
    path = Path(named).expanduser().resolve()
    for part in (path, *path.parents):
        if part.is_file():
            raise InputError(f"{variable}: {part} is a file; name a folder, or unset it")
    return path


def store_path() -> Path:
    return home() / "store.duckdb"


def snapshot_path() -> Path:
    """A complete copy of the store, replaced atomically; what readers open during a run."""
    return home() / "snapshot.duckdb"


def artifact_path(kind: str, key: str) -> Path:
    return home() / "artifacts" / kind / key


def pointer_path(kind: str, key: str) -> Path:
    """What is remembered of an artifact that lies in an object store."""
    return home() / "remote" / kind / f"{key}.json"


def tasks_path(key: str) -> Path:
    return home() / "tasks" / key


def questions_path(key: str) -> Path:
    """Questions as lm-eval prepared them, before anything of a matrix is said about them."""
    return home() / "questions" / key

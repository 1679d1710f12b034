"""What is remembered of artifacts that lie in an object store: where, and their manifest.

A pointer is a small file in MAEC_HOME. An artifact that has one counts as made, and is fetched when
its files are needed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.home import home, pointer_path
from harness.manifests import SEAL, as_text, intact
from harness.steps import Step
from maec.errors import Damaged, InputError
from maec.folder import write_synced
from maec.reading import read_json


@dataclass(frozen=True)
class Pointer:
    """One making of an artifact, with its sealed manifest, in the object store at ``url``."""

    url: str
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the folder with its files, below the store's URL; it never holds other files."""
        made = self.manifest
        return f"artifacts/{made['kind']}/{made['key']}.{made[SEAL]}"

    def __str__(self) -> str:
        return f"{self.url}/{self.name}"


def read(step: Step) -> Pointer | None:
    """What is remembered of a step's artifact, if anything is.

    Raises:
        Damaged: the file is no longer what was written.
    """
    path = pointer_path(step.kind, step.key)
    return load(path) if path.is_file() else None


def load(path: Path) -> Pointer:
    """The pointer in a file; Damaged if it is no longer what was written."""
    advice = "`harness doctor --repair`, then run again"
    try:
        found = read_json(path)
    except InputError as error:
        raise Damaged(f"{error}; {advice}") from None
    if found.keys() != {"url", "manifest"} or not intact(found["manifest"]):
        raise Damaged(f"{path}: this is not as it was written; {advice}")
    return Pointer(**found)


def write(pointer: Pointer) -> None:
    """Remember it, in place of what was remembered of the same artifact."""
    path = pointer_path(pointer.manifest["kind"], pointer.manifest["key"])
    write_synced(path, as_text(asdict(pointer)).encode())


def drop(step: Step) -> None:
    """Forget where a step's artifact lies."""
    pointer_path(step.kind, step.key).unlink(missing_ok=True)


def every() -> list[Path]:
    """The files of all pointers here, by kind and key."""
    # scratch, and what was set aside, starts with a dot
    return sorted(home().glob("remote/*/[!.]*.json"))

"""Artifacts are used as they were written: their files are held against their manifest's digests.

An artifact that was damaged is set aside, so that the next run makes it again; it is never deleted.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from harness.home import home
from harness.identity import digest
from harness.steps import Step
from harness.world import States, require_as_planned
from maec.checkpoint import fingerprint, open_checkpoint
from maec.errors import Damaged, InputError
from maec.folder import SCRATCH, digest_of, digests, files_in
from maec.tensors import read_json

MANIFEST = "manifest.json"
SEAL = "seal"
ASIDE = ".damaged-"
"""How the names of artifacts and files start that were set aside."""


def sealed(manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A manifest with the digests of all files in ``folder``, and one of itself."""
    whole = {**manifest, "digests": digests(folder, but=MANIFEST)}
    return {**whole, SEAL: digest(whole)}


def require_sound(step: Step) -> None:
    """Refuse a step's artifact that is not what was written, and set it aside.

    Its files are read once in a process, and again when they were touched.

    Raises:
        Damaged: it is not; run again to have it made again.
    """
    if step.path is not None:
        return require_as_planned(step)
    if not (step.folder / MANIFEST).is_file():
        raise Damaged(f"{step.folder}: {step.label} is gone; run again to have it made again")
    if found := damage(step.folder):
        aside = set_aside(step.folder)
        raise Damaged(
            f"{step.folder}: {step.label} was damaged after it was made ({found}); it lies in "
            f"{aside.name} now: run again to have it made again"
        )


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an artifact; Damaged if it cannot be read."""
    try:
        return read_json(folder / MANIFEST)
    except InputError as error:
        raise Damaged(f"{error}; `harness doctor --repair`, then run again") from None


def damage(folder: Path) -> str | None:
    """What is wrong with an artifact or with fetched questions, in words; None if nothing is."""
    try:
        return _damage(folder, _states(folder))
    except OSError as error:
        return f"{error.filename}: {error.strerror}"


def _states(folder: Path) -> States:
    found = ((file, file.stat()) for file in files_in(folder))
    return frozenset((file, state.st_size, state.st_mtime_ns) for file, state in found)


@cache
def _damage(folder: Path, states: States) -> str | None:
    """:func:`damage` of an artifact whose files are in these states."""
    try:
        made = read_json(folder / MANIFEST)
        seal = made.pop(SEAL, None)
        if seal is not None or "digests" in made:
            if seal != digest(made):
                return f"{MANIFEST} is not as it was written"
            return _difference(made["digests"], digests(folder, but=MANIFEST))
        # before manifests had digests they had the fingerprint of a checkpoint's weights
        known = made.get("fingerprint")
        if known is not None and fingerprint(open_checkpoint(folder)) != known:
            return "its weights are not those of its manifest"
    except InputError as error:
        return str(error)
    return None


def _difference(written: dict[str, str], found: dict[str, str]) -> str | None:
    for name, wanted in written.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != wanted:
            return f"{name} has BLAKE3 {found[name][:12]}… where {wanted[:12]}… was written"
    return None


def set_aside(folder: Path) -> Path:
    """Rename a damaged artifact or set of questions, and damaged files that it links to."""
    with suppress(InputError):
        for name, wanted in read_json(folder / MANIFEST).get("digests", {}).items():
            target = (folder / name).resolve()
            # or fetching it again would find the same file in the hub's cache
            if (folder / name).is_symlink() and target.exists() and digest_of(target) != wanted:
                target.rename(_beside(target))
    aside = _beside(folder)
    with suppress(FileNotFoundError):  # another process was first
        folder.rename(aside)
    return aside


def before(folder: Path) -> Iterator[dict[str, Any]]:
    """Manifests that can be read: the artifact's and, where it was set aside, those it had."""
    for path in (folder, *sorted(folder.parent.glob(f"{ASIDE}{folder.name}-*"))):
        with suppress(InputError):
            yield read_json(path / MANIFEST)


def every() -> list[Path]:
    """The folders of all artifacts here, by kind and key.

    One with links to what is gone from the hub's cache is none: it is fetched again when needed.
    """
    return [
        path for path in _kept("artifacts/*/*") if all(file.exists() for file in path.iterdir())
    ]


def questions() -> list[Path]:
    """The folders of all questions that were fetched."""
    return _kept("questions/*")


def _kept(pattern: str) -> list[Path]:
    found = sorted(path for path in home().glob(pattern) if path.is_dir())
    return [path for path in found if not path.name.startswith((SCRATCH, ASIDE))]


def _beside(path: Path) -> Path:
    return path.with_name(f"{ASIDE}{path.name}-{secrets.token_hex(4)}")

"""Artifacts are used as they were written: their files are held against their manifest's digests.

An artifact that was damaged is set aside, so that the next run makes it again; it is never deleted.
One that is known to lie in an object store is fetched when its files are needed.
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from harness import object_store, pointers
from harness.alone import alone
from harness.home import artifact_path, home
from harness.manifests import MANIFEST, SEAL, as_text, difference, intact
from harness.steps import Step
from harness.world import States, require_as_planned
from maec.checkpoint import fingerprint, open_checkpoint
from maec.errors import Damaged, InputError
from maec.folder import SCRATCH, digest_of, files_in, new_folder, require_space
from maec.tensors import read_json

ASIDE = ".damaged-"
"""How the names of artifacts and files start that were set aside."""


def require_sound(step: Step) -> None:
    """Have a step's artifact on this machine; refuse one that is not what was written.

    One that lies in an object store is fetched. Files here are read once in a process, and again
    when they were touched.

    Raises:
        Damaged: it is not, and was set aside; run again to have it made again.
        NoSpace: there is no room for what would be fetched.
        OSError: fetching it failed underway.
    """
    if step.path is not None:
        return require_as_planned(step)
    if not step.here:
        return _fetch(step)
    if found := damage(step.folder):
        aside = set_aside(step.folder)
        raise Damaged(
            f"{step.folder}: {step.label} was damaged after it was made ({found}); it lies in "
            f"{aside.name} now: run again to have it made again"
        )


def _fetch(step: Step) -> None:
    """Copy an artifact from where it is known to lie, unless another process just did."""
    with alone(step):
        if step.here:
            return
        pointer = pointers.read(step)
        if pointer is None:
            raise _gone(step)
        require_space(step.folder, pointer.manifest["bytes"])
        shutil.rmtree(step.folder, ignore_errors=True)  # links to what left the hub's cache
        with new_folder(step.folder) as folder:
            try:
                object_store.download(pointer, folder)
                found = difference(pointer.manifest, folder)
            except FileNotFoundError:
                found = "files are missing"
            if found:
                raise _withdrawn(step, pointer, found)
            (folder / MANIFEST).write_text(as_text(pointer.manifest), encoding="utf-8")


def _withdrawn(step: Step, pointer: pointers.Pointer, found: str) -> Damaged:
    """See to it that nothing takes a damaged copy again; returns what to raise."""
    pointers.drop(step)
    told = f"{pointer}: this copy of {step.label} is damaged ({found})"
    try:
        object_store.withdraw(pointer)
    except OSError as error:
        return Damaged(f"{told}, and still in use: {error}; remove it there, then run again")
    return Damaged(f"{told}, and not used any more: run again to have it made again")


def _gone(step: Step) -> Damaged:
    return Damaged(f"{step.folder}: {step.label} is gone; run again to have it made again")


def manifest_of(step: Step) -> dict[str, Any]:
    """The manifest of a step that was made, wherever its files lie; Damaged if unreadable."""
    if step.here:
        return manifest(step.folder)
    pointer = pointers.read(step)
    if pointer is None:
        raise _gone(step)
    return dict(pointer.manifest)


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
        if SEAL in made or "digests" in made:
            if not intact(made):
                return f"{MANIFEST} is not as it was written"
            return difference(made, folder)
        # before manifests had digests they had the fingerprint of a checkpoint's weights
        known = made.get("fingerprint")
        if known is not None and fingerprint(open_checkpoint(folder)) != known:
            return "its weights are not those of its manifest"
    except InputError as error:
        return str(error)
    return None


def set_aside(folder: Path) -> Path:
    """Rename a damaged artifact, set of questions or pointer, and damaged files linked to."""
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
    """The folders of all artifacts whose files are here, by kind and key.

    One with links to what is gone from the hub's cache is none: it is fetched again when needed.
    """
    return [
        path for path in _kept("artifacts/*/*") if all(file.exists() for file in path.iterdir())
    ]


def manifests() -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder and the manifest of every artifact, wherever its files lie, that can be read."""
    here = set(every())
    for folder in sorted(here):
        with suppress(Damaged):
            yield folder, manifest(folder)
    for path in pointers.every():
        folder = artifact_path(path.parent.name, path.stem)
        if folder not in here:
            with suppress(Damaged):
                yield folder, dict(pointers.load(path).manifest)


def questions() -> list[Path]:
    """The folders of all questions that were fetched."""
    return _kept("questions/*")


def _kept(pattern: str) -> list[Path]:
    found = sorted(path for path in home().glob(pattern) if path.is_dir())
    return [path for path in found if not path.name.startswith((SCRATCH, ASIDE))]


def _beside(path: Path) -> Path:
    return path.with_name(f"{ASIDE}{path.name}-{secrets.token_hex(4)}")

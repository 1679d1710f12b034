"""Whether a MAEC_HOME is sound: the store against itself, its records and the artifacts' files.

Every finding says what is wrong, where, and what to do. A repair restores what can be restored, and
sets aside what is damaged, so that the next run makes and scores it again; it deletes nothing but
scratch.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import duckdb

from harness import artifacts, pointers
from harness.home import home, snapshot_path, store_path
from harness.leftovers import leftovers, remove_leftovers
from harness.manifests import MANIFEST, SEAL
from harness.store import records
from harness.store.check import contradictions, copy_of, version_at
from harness.store.importing import require_consistent
from harness.store.lock import alone
from harness.store.read import reader
from harness.store.rebuild import rebuild
from harness.store.release import read_manifest
from harness.store.schema import MIGRATIONS
from harness.store.source import sources
from harness.store.write import opened
from maec.errors import Damaged, InputError
from maec.folder import SCRATCH
from maec.progress import Track, silent

REPAIR = "`harness doctor --repair`"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: where, what, and what to do about it."""

    kind: Literal["leftover", "store", "record", "snapshot", "artifact", "release"]
    where: Path
    what: str
    advice: str = f"{REPAIR} restores it"

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.advice}"


@dataclass(frozen=True)
class Examined:
    """What an examination found, and how much it looked at.

    ``gone`` are artifacts that were made here and are no longer, nor known to lie in an object
    store: no damage, since what needs them makes them again.
    """

    findings: list[Finding]
    cells: int = 0
    artifacts: int = 0
    gone: int = 0


def examine(*, quick: bool = False, track: Track = silent) -> Examined:
    """Look at everything and change nothing; ``quick`` reads neither artifacts nor records.

    Raises:
        InputError: nothing was run here, another process writes, or the store is of a newer
            version.
    """
    _require_home()
    with alone():
        return _examine(quick, track)


def repair(*, quick: bool = False, track: Track = silent) -> tuple[Examined, Examined]:
    """Restore what can be restored; returns what was found, and what is left.

    Raises:
        InputError: as :func:`examine`.
    """
    _require_home()
    with alone():
        found = _examine(quick, track)
        if not found.findings:
            return found, found
        _repair(found.findings)
        return found, _examine(quick, track)


def _require_home() -> None:
    if not (store_path().is_file() or _was_written() or (home() / "questions").exists()):
        raise InputError(f"{home()}: nothing was run here yet; `make matrix` starts")


def _was_written() -> bool:
    """Whether there was a store, after what lies beside it."""
    beside = (snapshot_path(), home() / records.FOLDER, home() / "artifacts")
    return any(path.exists() for path in beside)


def _examine(quick: bool, track: Track) -> Examined:
    findings = [
        Finding("leftover", path, "a killed run left it", f"{REPAIR} removes it")
        for path in leftovers()
    ]
    folders = artifacts.every()
    damaged = dict(_damaged([*folders, *artifacts.questions()], quick, track))
    sound = [folder for folder in folders if folder not in damaged]
    unreadable = dict(_unreadable())
    cells, made = 0, {}
    if store_path().is_file():
        try:
            with _scratch() as scratch, copy_of(store_path(), scratch) as connection:
                (cells,) = connection.execute("SELECT count(*) FROM cells").fetchone()
                made = _artifacts(connection)
                findings += _of_store(connection)
                findings += _of_manifests(made, sound)
                findings += _of_records(connection, quick, track)
                findings += _of_snapshot(cells)
        except Damaged as error:
            findings.append(Finding("store", store_path(), *_told(store_path(), error)))
    elif _was_written():
        findings.append(Finding("store", store_path(), "it is gone"))
    findings += [_to_make_again(path, what) for path, what in (damaged | unreadable).items()]
    findings += _of_releases()
    remote = {path.stem for path in pointers.every() if path not in unreadable}
    gone = len(made.keys() - remote - {folder.name for folder in folders})
    return Examined(findings, cells, len(folders), gone)


@contextmanager
def _scratch() -> Iterator[Path]:
    with TemporaryDirectory(prefix=SCRATCH, dir=home()) as folder:
        yield Path(folder)


def _damaged(folders: Sequence[Path], quick: bool, track: Track) -> Iterator[tuple[Path, str]]:
    for name in track([str(folder) for folder in folders], "reading artifacts"):
        folder = Path(name)
        if quick and (folder / MANIFEST).is_file():
            continue
        if what := artifacts.damage(folder):
            yield folder, what


def _unreadable() -> Iterator[tuple[Path, str]]:
    """What is remembered of artifacts in an object store, and is damaged."""
    for path in pointers.every():
        try:
            pointers.load(path)
        except Damaged as error:
            yield path, _told(path, error)[0]


def _artifacts(connection: duckdb.DuckDBPyConnection) -> dict[str, dict]:
    rows = connection.execute("SELECT key, manifest FROM artifacts").fetchall()
    return {key: json.loads(manifest) for key, manifest in rows}


def _of_store(connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    if (version := version_at(store_path())) < len(MIGRATIONS):
        what = f"has schema version {version}, today's is {len(MIGRATIONS)}"
        yield Finding("store", store_path(), what, f"{REPAIR} or the next run brings it to that")
    for what, cells in contradictions(connection).items():
        for cell in sorted(cells):
            advice = f"{REPAIR} restores it, or has the next run score it again"
            yield Finding("store", store_path(), f"cell {cell}: {what}", advice)


def _of_manifests(made: Mapping[str, dict], folders: Sequence[Path]) -> Iterator[Finding]:
    for folder in folders:
        recorded, found = made.get(folder.name), artifacts.manifest(folder)
        if recorded is None or (recorded != found and SEAL in found):
            what = "its manifest is not in the store: a run was killed when it had made it"
            yield Finding("store", folder, what)
        elif recorded != found:
            yield _to_make_again(folder, "its manifest is not the one in the store")


def _to_make_again(folder: Path, what: str) -> Finding:
    advice = f"{REPAIR} sets it aside, and the next run that needs it makes it again"
    return Finding("artifact", folder, what, advice)


def _of_records(
    connection: duckdb.DuckDBPyConnection, quick: bool, track: Track
) -> Iterator[Finding]:
    folder = home() / records.FOLDER
    for kind in records.KINDS:
        stored, recorded = records.counts(connection, kind), records.names(kind)
        if lost := recorded - stored.keys():
            what = f"{len(lost)} {kind} were recorded and are not in the store, such as {min(lost)}"
            yield Finding("store", folder / kind, what)
        if bare := stored.keys() - recorded:
            what = f"{len(bare)} {kind} in the store have no record, such as {min(bare)}"
            yield Finding("record", folder / kind, what, f"{REPAIR} writes it")
        both = [] if quick else sorted(recorded & stored.keys())
        for name in track(both, f"reading records of {kind}"):
            path = records.path_of(kind, name)
            try:
                if records.sizes(records.read(path)) != stored[name]:
                    yield Finding("store", path, "has other rows than the store")
            except Damaged as error:
                advice = f"{REPAIR} writes it again from the store"
                yield Finding("record", path, _told(path, error)[0], advice)


def _of_snapshot(cells: int) -> Iterator[Finding]:
    path, advice = snapshot_path(), f"{REPAIR} or the next run replaces it"
    try:
        version = version_at(path)
        with _scratch() as scratch, copy_of(path, scratch) as connection:
            (seen,) = connection.execute("SELECT count(*) FROM cells").fetchone()
    except Damaged as error:
        yield Finding("snapshot", path, _told(path, error)[0], advice)
        return
    if version < len(MIGRATIONS):
        what = f"has schema version {version}, today's is {len(MIGRATIONS)}"
        yield Finding("snapshot", path, what, advice)
    if seen != cells:
        yield Finding("snapshot", path, f"has {seen} cells, the store has {cells}", advice)


def _of_releases() -> Iterator[Finding]:
    for path in (source.path for source in sources() if source.kind == "release"):
        try:
            with reader(path) as connection:
                require_consistent(path, read_manifest(path), connection)
        except InputError as error:
            yield Finding("release", path, *_told(path, error))


def _told(path: Path, error: InputError) -> tuple[str, str]:
    """What an error about ``path`` says is wrong, and what to do."""
    what, _, advice = str(error).removeprefix(str(path)).lstrip("/: ").rpartition("; ")
    return what, advice


def _repair(findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.kind == "artifact":
            artifacts.set_aside(finding.where)
    remove_leftovers()
    if any(finding.kind == "store" for finding in findings):
        rebuild()
    with opened() as store:
        store.renew_records()
        store.snapshot(now=True)

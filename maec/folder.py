"""Folders and files that appear complete or not at all.

What is written goes to a scratch folder beside the target.  Only when all of it lies safely on the
disk does one rename put it in place, so a folder that exists is a folder that is whole.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3
from rich.filesize import decimal

from maec.errors import InputError, NoSpace

SCRATCH = ".partial-"
"""How the names of scratch folders start."""


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty scratch folder that becomes `path` when the block ends without an exception.

    The scratch folder lies beside `path` and its name starts with ``SCRATCH``.  On any exception,
    an interrupt included, it is removed and `path` stays as it was.  What a process that was killed
    leaves of it is for :func:`remove_abandoned`.

    Raises:
        InputError: `path` exists already (an empty folder may), or cannot be made.
    """
    path = Path(path)
    require_new(path)
    scratch, held = _locked_scratch(path)
    try:
        yield scratch
        _sync(scratch)
        _rename(scratch, path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    finally:
        os.close(held)
    _sync_entry(path.parent)


def remove_abandoned(path: Path) -> None:
    """Remove the scratch folders of `path` that nobody will finish: their processes were killed.

    Those in use are locked, and stay; so do all on a file system that knows no locks.
    """
    scratch = re.compile(re.escape(f"{SCRATCH}{path.name}-") + "[0-9a-f]{8}")
    for found in list(path.parent.iterdir()) if path.parent.is_dir() else ():
        if scratch.fullmatch(found.name):
            with suppress(OSError):
                held = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(found, ignore_errors=True)
                finally:
                    os.close(held)


def _locked_scratch(path: Path) -> tuple[Path, int]:
    """A new scratch folder, and the descriptor that says, while it is open, that it is in use."""
    while True:
        scratch = path.parent / f"{SCRATCH}{path.name}-{secrets.token_hex(4)}"
        try:
            scratch.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be made here: {error.strerror}") from error
        with suppress(FileNotFoundError):
            held = os.open(scratch, os.O_RDONLY)
            with suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_EX)
            if scratch.is_dir():
                return scratch, held
            os.close(held)  # it was taken for abandoned before it was locked


def write_file(path: Path, text: str, option: str) -> None:
    """Write `text` to `path`, which is then the new file or what it was before.

    Raises:
        InputError: it cannot be written; `option` is what names another file.
    """
    try:
        write_synced(path, text.encode())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path}: cannot be written: {reason}; name another file with {option}"
        ) from None


def write_synced(path: Path, content: bytes) -> None:
    """Write `content` to `path`: safely on the disk when this returns, else what was there before.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{SCRATCH}{path.name}-{secrets.token_hex(4)}")
    try:
        scratch.write_bytes(content)
        _sync_entry(scratch)
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    _sync_entry(path.parent)


def files_in(folder: Path) -> list[Path]:
    """Every file and link below `folder`, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def digests(folder: Path, but: str | None = None) -> dict[str, str]:
    """BLAKE3, in hex, of every file below `folder` by its path there, `but` for one of them."""
    names = {file.relative_to(folder).as_posix(): file for file in files_in(folder)}
    return {name: digest_of(file) for name, file in names.items() if name != but}


def digest_of(file: Path) -> str:
    """BLAKE3 of a file, in hex."""
    return blake3(max_threads=blake3.AUTO).update_mmap(file).hexdigest()


def require_new(path: Path) -> None:
    """Raise InputError unless `path` is free to be written: absent, or an empty folder."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: exists already; name a new folder, or remove this one first")


def require_space(path: Path, nbytes: int) -> None:
    """Raise NoSpace if the disk that will hold `path` has less than `nbytes` bytes free."""
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(existing).free
    if free < nbytes:
        raise NoSpace(
            f"{path}: no space: {decimal(nbytes)} will be written and {decimal(free)} are free on "
            f"its disk; free some, or name a folder on another disk"
        )


def _rename(scratch: Path, path: Path) -> None:
    """Put the finished folder in place; POSIX lets a rename replace an empty folder only."""
    try:
        os.rename(scratch, path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise InputError(f"{path}: was made by something else in the meantime") from error
        raise


def _sync(folder: Path) -> None:
    """Flush every file and folder below `folder`, and itself, to the disk."""
    for root, _, files in os.walk(folder):
        for name in files:
            _sync_entry(Path(root, name))
        _sync_entry(Path(root))


def _sync_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A folder of artifacts that several machines share, wherever fsspec reaches: a disk, S3, GCS, ….

Beside URL/artifacts/<kind>/<key>.<seal>/ with the files of an artifact lies its manifest, as
<key>.<seal>.json. That is written last, so what has one is whole; and since the seal stands for the
content of all files, what lies under one name never changes.

Logins are the affair of fsspec and of the provider's own library: their variables and files count.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.manifests import SEAL, as_text, intact
from harness.pointers import Pointer
from maec.errors import InputError
from maec.folder import SCRATCH

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def require_reachable(url: str) -> None:
    """Refuse a URL that artifacts cannot be written to and read from, by doing both.

    Raises:
        InputError: there is no such protocol or place, a package is not installed, or the login or
            the rights do not suffice.
    """
    if "://" not in url:
        raise InputError(
            f"{url}: this is no URL; name one such as file:///shared/maec or s3://bucket/folder"
        )
    if urlsplit(url).password is not None:
        raise InputError(
            f"{url.partition('://')[0]}://…: a URL is written to files, and may hold no password; "
            "give that by the provider's variables or configuration"
        )
    try:
        files, root = _opened(url)
    except (ValueError, ImportError) as error:
        raise InputError(f"{url}: {_line(error)}") from None
    probe = f"{root}/artifacts/{SCRATCH}{secrets.token_hex(4)}"
    try:
        files.makedirs(f"{root}/artifacts", exist_ok=True)
        files.pipe_file(probe, b"MAEC")
        read = files.cat_file(probe)
        files.rm_file(probe)
    except Exception as error:  # each file system has errors of its own
        raise InputError(
            f"{url}: artifacts cannot be kept there: {_line(error)}; check the URL, the login and "
            "the right to list, read, write and delete"
        ) from None
    if read != b"MAEC":
        raise InputError(f"{url}: what is written there is not what is read; name another URL")


def upload(pointer: Pointer, folder: Path) -> None:
    """Put the files of ``folder`` where ``pointer`` says, links as what they lead to.

    Raises:
        OSError: it failed underway; until it is done again, there is no such artifact.
    """
    names = list(pointer.manifest["digests"])
    with _trouble(pointer.url, "uploading to it"):
        files, root = _opened(pointer.url)
        targets = [f"{root}/{pointer.name}/{name}" for name in names]
        # also where it has no files, for the manifest's sake
        for parent in {f"{root}/{pointer.name}", *(path.rpartition("/")[0] for path in targets)}:
            files.makedirs(parent, exist_ok=True)
        files.put([str(folder / name) for name in names], targets)
        files.pipe_file(_manifest(root, pointer.name), as_text(pointer.manifest).encode())


def download(pointer: Pointer, folder: Path) -> None:
    """Copy an artifact's files into ``folder``, as they are.

    Raises:
        FileNotFoundError: it is not there, or not all of it.
        OSError: it failed underway.
    """
    names = list(pointer.manifest["digests"])
    targets = [folder / name for name in names]
    for parent in {path.parent for path in targets}:
        parent.mkdir(parents=True, exist_ok=True)
    with _trouble(pointer.url, "downloading from it"):
        files, root = _opened(pointer.url)
        sources = [f"{root}/{pointer.name}/{name}" for name in names]
        files.get(sources, [str(path) for path in targets])


def holds(pointer: Pointer) -> bool:
    """Whether it lies there whole, as far as its manifest can tell.

    Raises:
        OSError: the store could not be asked.
    """
    with _trouble(pointer.url, "reading from it"):
        files, root = _opened(pointer.url)
        files.invalidate_cache()
        try:
            text = files.cat_file(_manifest(root, pointer.name))
        except FileNotFoundError:
            return False
    return _parsed(text) == pointer.manifest


def withdraw(pointer: Pointer) -> None:
    """Have an artifact be taken for one no longer; its files stay, for people to look at.

    Raises:
        OSError: the store could not do it.
    """
    with _trouble(pointer.url, "writing to it"):
        files, root = _opened(pointer.url)
        with suppress(FileNotFoundError):  # another machine was first
            files.mv(_manifest(root, pointer.name), f"{root}/{pointer.name}.damaged")


def listing(url: str, kind: str) -> dict[str, list[str]]:
    """The seals of all makings of artifacts of a kind, by key: one request, or few.

    Raises:
        OSError: the store could not be asked.
    """
    with _trouble(url, "listing it"):
        files, root = _opened(url)
        files.invalidate_cache()
        try:
            paths = files.ls(f"{root}/artifacts/{kind}", detail=False)
        except FileNotFoundError:
            return {}
    found: dict[str, list[str]] = {}
    for name in sorted(path.rstrip("/").rpartition("/")[2] for path in paths):
        match name.split("."):
            case [key, seal, "json"]:
                found.setdefault(key, []).append(seal)
    return found


def pointers(url: str, kind: str, makings: Sequence[tuple[str, str]]) -> list[Pointer]:
    """What there is of these keys and seals, all asked for at once; no manifest that is torn.

    Raises:
        OSError: the store could not be asked.
    """
    if not makings:
        return []
    with _trouble(url, "reading from it"):
        files, root = _opened(url)
        paths = [f"{root}/artifacts/{kind}/{key}.{seal}.json" for key, seal in makings]
        found = files.cat(paths, on_error="return")
        for error in found.values():
            if isinstance(error, Exception) and not isinstance(error, FileNotFoundError):
                raise error
    manifests = [_parsed(text) for text in found.values() if isinstance(text, bytes)]
    wanted = set(makings)
    return [
        Pointer(url, made)
        for made in manifests
        if made and made.get("kind") == kind and (made.get("key"), made[SEAL]) in wanted
    ]


def _opened(url: str) -> tuple["AbstractFileSystem", str]:
    """The file system of a URL, and the path there."""
    from fsspec.core import url_to_fs

    files, root = url_to_fs(url)
    return files, root.rstrip("/")


def _manifest(root: str, name: str) -> str:
    return f"{root}/{name}.json"


def _parsed(text: bytes) -> Mapping[str, Any] | None:
    """A manifest; None if it is not as it was written."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and intact(found) else None


@contextmanager
def _trouble(url: str, doing: str) -> Iterator[None]:
    """Have what fails inside be an OSError: each file system has errors of its own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{url}: {doing} failed: {type(error).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

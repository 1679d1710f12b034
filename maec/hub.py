"""Models by hub id: ``org/name`` or ``org/name@revision`` stands for a folder in the hub's cache.

What is on this machine wins, and nothing is asked of a hub before it is needed.  huggingface_hub
does the fetching: its cache, its login and its HF_* variables count here too, and a download that
broke off is taken up again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maec.checkpoint import COMPANIONS
from maec.errors import InputError
from maec.progress import Progress

Source = Path | str
"""Where a model lies: a folder, as a Path, or a hub id, as a str."""

MANIFESTS = ("manifest.json", "maec.json", "pack.json", "mask.json")
"""What says how something was made, in the folder of a model, a merged model, a pack, a mask."""

FETCHED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "adapter_config.json",
    *COMPANIONS,
    *MANIFESTS,
)
NOT_FETCHED = ("*/*", "consolidated*")  # other formats and copies of the same weights

_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)
_CACHED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([^/]+)/?$")


def as_source(given: Path | str, folder: Path = Path()) -> Source:
    """What ``given`` names: a path, relative ones counting from ``folder``, or else a hub id.

    A path that exists wins; so does a Path, and text that cannot be a hub id.

    Raises:
        InputError: text that no path can be, such as one of many thousand characters.
    """
    try:
        path = folder / Path(given).expanduser()
        is_path = isinstance(given, Path) or path.exists() or not _ID.fullmatch(given)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(given)[:80]!r} is no path: {reason}") from None
    return path if is_path else str(given)


def local_folder(
    source: Source, patterns: Sequence[str] = FETCHED, progress: Progress | None = None
) -> Path:
    """The folder of ``source`` on this machine; a hub id is fetched first, where that is needed.

    Weights are fetched as safetensors only, never as pickles. ``progress`` is told bytes, of the
    files that were begun; without it huggingface_hub shows its own bars.

    Raises:
        InputError: the hub has no such model or revision, does not let this user have it, or
            cannot be reached and the cache does not hold it whole.
        OSError: fetching it failed underway.
    """
    if isinstance(source, Path):
        return source
    repo, revision = repo_and_revision(source)
    from huggingface_hub import constants, errors, snapshot_download

    with one_line_errors(source, "fetched from the hub", hint=f"; {_ALLOWED}"):
        try:
            folder = snapshot_download(
                repo,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=NOT_FETCHED,
                tqdm_class=_told(progress) if progress else None,
            )
        except errors.LocalEntryNotFoundError as error:
            why = (
                "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
            )
            raise InputError(
                f"{source}: no such folder here, {why}, and the cache does not hold it whole; "
                f"fetch it where there is a network, or give a folder"
            ) from error
    return Path(folder)


def _told(progress: Progress) -> type:
    """A bar for huggingface_hub that shows nothing, and tells ``progress`` instead."""
    from huggingface_hub.utils import tqdm

    class Told(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # of its bars the one that counts bytes as they reach the disk
            self._counts = kwargs.get("name") == "huggingface_hub.snapshot_download"
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if self._counts and n:
                with self.get_lock():  # files come side by side
                    self.n += n
                    progress(int(self.n), int(max(self.total or 0, self.n)))

    return Told


def repo_and_revision(source: str) -> tuple[str, str | None]:
    """The two parts of a hub id, ``org/name`` and ``revision``; InputError for any other text."""
    match = _ID.fullmatch(source)
    if match is None:
        raise InputError(f"{source}: neither a folder here nor a hub id; {_ALLOWED}")
    return match["repo"], match["revision"]


@contextmanager
def one_line_errors(
    source: str, done: str, *, hint: str = "", what: str = "model"
) -> Iterator[None]:
    """Say in one line what huggingface_hub could not do with ``source`` inside the block.

    ``done`` says what was to be done, as in "fetched from the hub"; ``hint`` is added where there
    is no such thing; ``what`` says what kind of thing it is.

    Raises:
        InputError: what the user can mend: the id, the revision, the login, the rights.
        OSError: what failed underway: the network, or the hub itself.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError as error:
        repo = source.partition("@")[0]
        raise InputError(f"{source}: {repo} is on the hub, but not this revision") from error
    except errors.GatedRepoError as error:
        raise InputError(
            f"{source}: gated on the hub; ask for access on its page, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{source}: no such {what} on the hub that you may see (a private one needs "
            f"`hf auth login`){hint}"
        ) from error
    except (errors.HTTPError, OSError, ValueError, RuntimeError) as error:
        # an upload in a thread puts what happened in the cause of its RuntimeError
        told = error.__cause__ or error if isinstance(error, RuntimeError) else error
        reason = " ".join(str(told).split()) or type(told).__name__
        message = f"{source}: cannot be {done}: {reason}"
        status = getattr(getattr(told, "response", None), "status_code", None)
        if status in _MENDABLE:
            raise InputError(f"{message}; {_MENDABLE[status]}") from error
        if isinstance(told, errors.HFValidationError):
            raise InputError(message) from error
        raise OSError(message) from error


def local_config(source: Source) -> Path:
    """A folder that holds the config of ``source``, and its weights only if they are here already.

    Raises:
        InputError: as ``local_folder``.
    """
    if isinstance(source, Path):
        return source
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repo, revision = repo_and_revision(source)
    try:
        cached = snapshot_download(
            repo, revision=revision, allow_patterns=FETCHED, local_files_only=True
        )
        return Path(cached)
    except LocalEntryNotFoundError:
        return local_folder(source, ("*.json",))


def hub_id(folder: str | Path) -> tuple[str, str] | None:
    """Hub id and commit of what lies in ``folder``, if that is a snapshot in a hub cache."""
    cached = _CACHED.search(str(folder))
    return (f"{cached[1]}/{cached[2]}", cached[3]) if cached else None


def pinned(source: Source, folder: Path) -> Source:
    """``source``, found in ``folder``, so that it will name the same weights for ever."""
    found = hub_id(folder) if isinstance(source, str) else None
    return "@".join(found) if found else source


_ALLOWED = "give a folder that exists, or a hub id: org/name or org/name@revision"

_MENDABLE = {
    400: "mend what it names",
    401: "log in with `hf auth login`",
    403: "log in as someone who may (`hf auth login`)",
}
"""Status codes of a hub that ask something of the user, and what."""

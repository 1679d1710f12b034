"""Models by hub id: ``org/name`` or ``org/name@revision`` stands for a folder in the hub's cache.

What is on this machine wins, and nothing is asked of a hub before it is needed.  huggingface_hub
does the fetching: its cache, its login and its HF_* variables count here too, and a download that
broke off is taken up again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from maec.checkpoint import COMPANIONS
from maec.errors import InputError

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
    """
    path = folder / Path(given).expanduser()
    is_path = isinstance(given, Path) or path.exists() or not _ID.fullmatch(given)
    return path if is_path else str(given)


def local_folder(source: Source, patterns: Sequence[str] = FETCHED) -> Path:
    """The folder of ``source`` on this machine; a hub id is fetched first, where that is needed.

    Weights are fetched as safetensors only, never as pickles.

    Raises:
        InputError: the hub has no such model or revision, does not let this user have it, or
            cannot be reached and the cache does not hold it whole.
    """
    if isinstance(source, Path):
        return source
    match = _ID.fullmatch(source)
    if match is None:
        raise InputError(f"{source}: neither a folder here nor a hub id; {_ALLOWED}")
    from huggingface_hub import constants, errors, snapshot_download

    repo, revision = match["repo"], match["revision"]
    try:
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=patterns, ignore_patterns=NOT_FETCHED
        )
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{source}: {repo} is on the hub, but not this revision") from error
    except errors.GatedRepoError as error:
        raise InputError(
            f"{source}: gated on the hub; ask for access on its page, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{source}: no such folder here, and no such model on the hub that you may see; "
            f"{_ALLOWED} (a private one needs `hf auth login`)"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise InputError(
            f"{source}: no such folder here, {why}, and the cache does not hold it whole; "
            f"fetch it where there is a network, or give a folder"
        ) from error
    except (errors.HTTPError, errors.HFValidationError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{source}: cannot be fetched from the hub: {reason}") from error
    return Path(folder)


def local_config(source: Source) -> Path:
    """A folder that holds the config of ``source``, and its weights only if they are here already.

    Raises:
        InputError: as ``local_folder``.
    """
    if isinstance(source, Path):
        return source
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    match = _ID.fullmatch(source)
    try:
        repo, revision = (match["repo"], match["revision"]) if match else (source, None)
        return Path(
            snapshot_download(
                repo, revision=revision, allow_patterns=FETCHED, local_files_only=True
            )
        )
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

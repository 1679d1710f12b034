"""Packs, masks and merged models on a model hub: ``maec push`` and ``maec pull``.

What is pushed and what is pulled are the same files: weights as safetensors, the manifest, the card
and what belongs to a checkpoint.  A repository then holds these and, of such files, no others.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from maec.checkpoint import open_checkpoint
from maec.errors import InputError
from maec.folder import SCRATCH, new_folder, require_new
from maec.hub import FETCHED, NOT_FETCHED, one_line_errors, repo_and_revision
from maec.inspect import MANIFESTS
from maec.reading import read_json

SHARED = (*FETCHED, "README.md")
"""Files that are pushed and pulled, none of them a pickle; ``NOT_FETCHED`` are not among them."""

_HARMLESS = (".gitattributes", ".gitignore", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
"""What a repository may hold that nothing has been pushed to."""


def push(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Upload the pack, mask or merged model in ``folder`` to ``repo`` (``org/name``) on the hub.

    The repository and its branch ``revision`` are made where they are missing; what an earlier push
    left there and this one has not goes away, in the same commit.  Returns the commit's address.

    Raises:
        InputError: nothing whole that MAEC made is in ``folder``, ``repo`` is no hub id, nobody is
            logged in, or may not write there; ``repo`` holds something else, or is public and
            ``private`` was asked for; HF_HUB_OFFLINE is set.
        OSError: the upload failed underway; pushing again takes it up.
    """
    folder = Path(folder)
    if repo_and_revision(repo)[1] is not None:
        raise InputError(f"{repo}: the branch goes to --revision; give org/name")
    require_made_by_maec(folder)
    _require_online(repo)
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import filter_repo_objects

    if get_token() is None:
        raise InputError(f"{repo}: nobody is logged in; `hf auth login` first, or set HF_TOKEN")
    api = HfApi()
    with one_line_errors(repo, "pushed to the hub"):
        api.create_repo(repo, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        there = api.model_info(repo, revision=revision or "main")
        names = [file.rfilename for file in there.siblings or []]
        _require_room(repo, names)
        if private and not there.private:
            raise InputError(f"{repo}: is public already; make it private on its page first")
        earlier = filter_repo_objects(names, allow_patterns=SHARED, ignore_patterns=NOT_FETCHED)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            revision=revision,
            commit_message=message or f"maec push: {folder.resolve().name}",
            allow_patterns=list(SHARED),
            ignore_patterns=list(NOT_FETCHED),
            delete_patterns=list(earlier) or None,
        )
    return str(commit.commit_url)


def pull(source: str, out: Path) -> None:
    """Fetch the pack, mask or merged model ``source`` (``org/name[@revision]``) into ``out``.

    ``out`` is a new folder; it appears when all of it has come, or not at all.

    Raises:
        InputError: ``out`` is taken, there is no such repository or revision that this user may
            see, MAEC made nothing of it or it is not whole, HF_HUB_OFFLINE is set.
        OSError: fetching failed underway.
    """
    repo, revision = repo_and_revision(source)
    out = Path(out)
    require_new(out)
    _require_online(source)
    from huggingface_hub import HfApi, snapshot_download

    with one_line_errors(source, "fetched from the hub"):
        there = HfApi().model_info(repo, revision=revision or "main")
    if not _manifests(file.rfilename for file in there.siblings or []):
        raise InputError(f"{source}: {_NOT_OURS}")
    with new_folder(out) as folder:
        with one_line_errors(source, "fetched from the hub"):
            snapshot_download(
                repo,
                revision=there.sha,  # what was looked at, though the branch may move meanwhile
                local_dir=folder,
                allow_patterns=list(SHARED),
                ignore_patterns=list(NOT_FETCHED),
            )
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the download's own notes
        try:
            require_made_by_maec(folder, finished=False)
        except InputError as error:
            raise InputError(str(error).replace(str(folder), source)) from error


def require_made_by_maec(folder: Path, *, finished: bool = True) -> None:
    """Raise InputError unless a whole pack, mask or merged model lies in ``folder``.

    Reads manifests and headers only.  Scratch folders that a command left behind when it was
    killed are refused too, but with ``finished`` False.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one made by MAEC")
    if finished and folder.resolve().name.startswith(SCRATCH):
        raise InputError(f"{folder}: unfinished, a command was stopped here; make it again")
    manifests = _manifests(file.name for file in folder.iterdir())
    if not manifests:
        raise InputError(f"{folder}: {_NOT_OURS}")
    try:
        _open(folder, manifests[0])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{folder}: {manifests[0]} is not as MAEC writes it") from error


def _open(folder: Path, manifest: str) -> None:
    """Open what ``manifest`` says lies in ``folder``, which checks that it is whole."""
    if manifest == "maec.json":
        if read_json(folder / manifest).get("kind") != "merged-model":
            raise ValueError("not the manifest of a merged model")
        open_checkpoint(folder)
    elif manifest == "pack.json":
        from maec.pack import open_pack

        open_pack(folder)
    else:
        from maec.neurons import open_mask

        open_mask(folder)


def _manifests(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that say how MAEC made something."""
    found = set(names)
    return [name for name in MANIFESTS if name in found]


def _require_room(repo: str, names: list[str]) -> None:
    """Raise InputError if ``repo`` holds files, and they are not an earlier push."""
    others = [name for name in names if name not in _HARMLESS]
    if others and not _manifests(names):
        raise InputError(
            f"{repo}: holds something else on the hub ({others[0]}), which a push would replace; "
            f"name another repository"
        )


def _require_online(source: str) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{source}: HF_HUB_OFFLINE is set; unset it to reach the hub")


_NOT_OURS = (
    f"none of {', '.join(MANIFESTS)} is there; give an ability pack, a mask or a model made by "
    f"`maec merge`"
)

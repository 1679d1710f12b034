"""Where weights come from: what a manifest says about the checkpoints something was made of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maec.checkpoint import Checkpoint, fingerprint
from maec.hub import MANIFESTS, hub_id
from maec.tensors import read_json


def source(checkpoint: Checkpoint) -> dict[str, str]:
    """Path and fingerprint of a checkpoint, and hub id and commit of one that came from a hub.

    Raises:
        InputError: a number in it is not finite.
    """
    path, weights = checkpoint.path.resolve(), fingerprint(checkpoint, finite_only=True)
    found = hub_id(path)
    hub = {"hub": found[0], "commit": found[1]} if found else {}
    return {"path": str(path), **hub, "fingerprint": weights}


def name_of(path: str) -> str:
    """What to call the model at ``path``: its hub id if it lies in a hub cache, else its folder."""
    found = hub_id(path)
    return found[0] if found else Path(path).name


def known_corpora(folders: Iterable[Path]) -> list[Any]:
    """What the manifests in ``folders`` list under ``corpora``, each once, in the order met.

    A checkpoint without a manifest, as most found on a hub are, adds nothing.
    """
    found: list[Any] = []
    for folder in folders:
        for name in MANIFESTS:
            if (folder / name).is_file():
                corpora = read_json(folder / name).get("corpora", [])
                found += [corpus for corpus in corpora if corpus not in found]
    return found

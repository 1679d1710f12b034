"""Where weights come from: what a manifest says about the checkpoints something was made of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maec.checkpoint import Checkpoint, fingerprint
from maec.tensors import read_json

MANIFESTS = ("manifest.json", "maec.json", "pack.json", "mask.json")


def source(checkpoint: Checkpoint) -> dict[str, str]:
    """Path and fingerprint of a checkpoint; InputError if a number in it is not finite."""
    weights = fingerprint(checkpoint, finite_only=True)
    return {"path": str(checkpoint.path.resolve()), "fingerprint": weights}


def name_of(path: str) -> str:
    """What to call the model at ``path``: its hub id if it lies in a hub cache, else its folder."""
    cached = re.search(r"models--([^/]+?)--([^/]+)/snapshots/[^/]+/?$", path)
    return "/".join(cached.groups()) if cached else Path(path).name


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

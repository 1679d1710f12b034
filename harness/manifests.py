"""Manifests of artifacts: a seal says that they, and by their digests all files, are as written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.identity import digest
from maec.folder import digests

MANIFEST = "manifest.json"
SEAL = "seal"


def sealed(manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A manifest with the digests of all files in ``folder``, and one of itself."""
    whole = {**manifest, "digests": digests(folder, but=MANIFEST)}
    return {**whole, SEAL: digest(whole)}


def intact(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest has a seal and is as it was sealed."""
    rest = {name: value for name, value in manifest.items() if name != SEAL}
    return SEAL in manifest and "digests" in manifest and manifest[SEAL] == digest(rest)


def difference(manifest: Mapping[str, Any], folder: Path) -> str | None:
    """How the files in ``folder`` differ from those of a sealed manifest, in words; None: not."""
    found = digests(folder, but=MANIFEST)
    for name, wanted in manifest["digests"].items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != wanted:
            return f"{name} has BLAKE3 {found[name][:12]}… where {wanted[:12]}… was written"
    return None


def as_text(manifest: Mapping[str, Any]) -> str:
    """A manifest as its file holds it: the same manifest, the same bytes."""
    return json.dumps(manifest, indent=1, ensure_ascii=False)

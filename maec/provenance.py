"""Where weights come from: what a manifest says about the checkpoints something was made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maec.checkpoint import Checkpoint, Fingerprint, Weights, digests, not_finite
from maec.hub import MANIFESTS, hub_id
from maec.reading import read_json

if TYPE_CHECKING:
    from maec.window import Window


class Sources:
    """Fingerprints of everything that is read, taken while it is read.

    ``stored`` are the checkpoints as they lie on the disk, by path; ``seen`` those of them that a
    pass reads just as they are stored, in chunks of ``HASHED`` entries.  The others are read here.
    """

    def __init__(self, stored: Mapping[Path, Checkpoint], seen: Mapping[Path, Weights]) -> None:
        self._stored = stored
        self._seen = seen
        self._fed: set[Path] = set()
        self._fingerprints = {p: Fingerprint(c, finite_only=True) for p, c in stored.items()}
        self._pool = ThreadPoolExecutor(1)
        self._others = {
            p: self._pool.submit(self._fingerprints[p].hexdigest) for p in stored if p not in seen
        }
        self._found: dict[Path, str] = {}

    def digested(self, window: Window) -> dict[Path, bytes]:
        """The digests of what a pass has read for the first time; threads may ask at a time.

        Raises:
            InputError: a number is not finite.
        """
        from maec.arithmetic import is_finite, raw  # with torch, which whoever has a window has

        found = {}
        for path, model in self._seen.items():
            if path not in self._found and window.holds(model):
                entries, info = window.read(model), self._stored[path].tensors[window.chunk.name]
                if not is_finite(entries):
                    raise not_finite(self._stored[path], window.chunk.name)
                found[path] = digests(raw(entries), info.dtype)
        return found

    def feed(self, name: str, found: Mapping[Path, bytes]) -> None:
        """Take in what ``digested`` gave for a chunk of tensor ``name``: all of them, in order."""
        for path, of_model in found.items():
            self._fingerprints[path].feed(name, of_model)
            self._fed.add(path)

    def settle(self) -> None:
        """A pass has ended: what was fed is known now, and not asked for again."""
        self._found |= {
            p: self._fingerprints[p].hexdigest() for p in self._fed - self._found.keys()
        }

    def finish(self) -> dict[Path, dict[str, str]]:
        """By path: path and fingerprint, and hub id and commit of what came from a hub.

        Raises:
            InputError: a number is not finite.
        """
        self._fed |= self._seen.keys()
        self.settle()
        with self._pool:
            self._found |= {path: future.result() for path, future in self._others.items()}
        return {path: described(path, self._found[path]) for path in self._stored}


def described(path: Path, fingerprint: str) -> dict[str, str]:
    """What a manifest says about the checkpoint in ``path``."""
    path = path.resolve()
    found = hub_id(path)
    hub = {"hub": found[0], "commit": found[1]} if found else {}
    return {"path": str(path), **hub, "fingerprint": fingerprint}


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
                said = read_json(folder / name).get("corpora")
                corpora = said if isinstance(said, list) else []
                found += [corpus for corpus in corpora if corpus not in found]
    return found

"""Where weights come from: what a manifest says about the checkpoints something was made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maec.checkpoint import Checkpoint, Fingerprint, Weights
from maec.hub import MANIFESTS, hub_id
from maec.tensors import read_json

if TYPE_CHECKING:
    from maec.window import Window


class Sources:
    """Fingerprints of everything that is read, taken while it is read, each on a thread of its own.

    ``stored`` are the checkpoints as they lie on the disk, by path; ``seen`` those of them that a
    pass reads just as they are stored.  The others are read here.
    """

    def __init__(self, stored: Mapping[Path, Checkpoint], seen: Mapping[Path, Weights]) -> None:
        self._seen = seen
        self._digests = {p: Fingerprint(c, finite_only=True) for p, c in stored.items()}
        self._threads = ExitStack()
        # what is hashed follows one order, so a checkpoint cannot use more than one thread
        self._lanes = {p: self._threads.enter_context(ThreadPoolExecutor(1)) for p in stored}
        self._waiting: deque[Future[None]] = deque()
        self._found = {p: self._digest(p) for p in stored if p not in seen}

    def feed(self, window: Window) -> None:
        """Take in what a pass has read, in its order; waits where it is far ahead.

        Raises:
            InputError: a number is not finite.
        """
        import torch

        for path, model in self._seen.items():
            entries = memoryview(window.of(model).view(torch.uint8).numpy())
            feed = self._digests[path].feed
            self._waiting.append(self._lanes[path].submit(feed, window.chunk.name, entries))
        while len(self._waiting) > 2 * len(self._seen):
            self._waiting.popleft().result()

    def finish(self) -> dict[Path, dict[str, str]]:
        """By path: path and fingerprint, and hub id and commit of what came from a hub.

        Nothing can be fed any more; asked again, it gives the same.

        Raises:
            InputError: a number is not finite.
        """
        with self._threads:
            for path in self._lanes.keys() - self._found.keys():
                self._found[path] = self._digest(path)
            while self._waiting:
                self._waiting.popleft().result()
            return {path: described(path, self._found[path].result()) for path in self._lanes}

    def _digest(self, path: Path) -> Future[str]:
        return self._lanes[path].submit(self._digests[path].hexdigest)


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
                corpora = read_json(folder / name).get("corpora", [])
                found += [corpus for corpus in corpora if corpus not in found]
    return found

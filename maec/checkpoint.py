"""Checkpoints: folders of safetensors with a config and a tokenizer, as transformers writes them.

Opening reads headers only.  Everything but ``Checkpoint.read`` works without torch, so paths,
shapes, tokenizers and numbers can be checked, and fingerprints taken, before anything is loaded.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blake3 import blake3

from maec.errors import InputError
from maec.reading import read_json
from maec.tensors import (
    BYTES,
    TensorInfo,
    all_finite,
    open_tensors,
    write_json,
    write_tensors,
)
from maec.tokenizer import TOKENIZER_FILES

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Checkpoint",
    "TensorInfo",
    "Weights",
    "copy_companions",
    "embeddings",
    "fingerprint",
    "open_checkpoint",
    "require_finite",
    "write_tensors",
]

OUTPUT_LAYER = "lm_head.weight"
"""The output layer's tensor; a model whose embeddings are tied to it need not store it."""

HASHED = 2**20
"""Entries of a tensor that are hashed by themselves, so that many can be at a time."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")

COMPANIONS = (
    *TOKENIZER_FILES,
    "generation_config.json",
    "*.py",  # the model's own code, without which a config with auto_map does not load
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)
"""What belongs to a checkpoint beside its weights and its config."""


class Weights(Protocol):
    """What tensors are read from by name: a checkpoint, or what is seen as one."""

    def read(self, name: str) -> Tensor:
        """The tensor called ``name``, in memory of its own."""
        ...

    def read_entries(self, name: str, begin: int, end: int) -> Tensor:
        """Its entries ``begin`` to ``end``, in row-major order, flat, to be used at once."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: its folder, its tensors sorted by name, its config as stored."""

    path: Path
    tensors: dict[str, TensorInfo]
    config: dict[str, Any]

    def read(self, name: str) -> Tensor:
        """The tensor called ``name`` in its stored dtype, in memory of its own."""
        return self.tensors[name].read()

    def read_entries(self, name: str, begin: int, end: int) -> Tensor:
        """Entries ``begin`` to ``end`` of the tensor called ``name``, row-major and flat."""
        return self.tensors[name].read_entries(begin, end)

    def numel(self) -> int:
        """Number of entries of all tensors; a tied tensor counts once, as stored."""
        return sum(info.numel for info in self.tensors.values())

    def nbytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(info.nbytes for info in self.tensors.values())

    def float_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the floating-point tensors, the ones the method works on, sorted by name."""
        return {name: info.shape for name, info in self.tensors.items() if info.is_float}


def embeddings(checkpoint: Checkpoint) -> set[str]:
    """Names of the tensors with one row for each token: input embeddings and output layer."""
    shapes = checkpoint.float_shapes()
    rows = checkpoint.config.get("vocab_size")
    return {name for name, shape in shapes.items() if len(shape) == 2 and shape[0] == rows}


def open_checkpoint(path: Path) -> Checkpoint:
    """Open the checkpoint in the folder ``path``, reading its headers and its config.

    Raises:
        InputError: no such folder, no config, no safetensors (pickled weights are refused), or
            files that do not fit together.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(
            f"{path}: no such folder; give one that holds a checkpoint, or a hub id: "
            f"org/name or org/name@revision"
        )
    if not any((path / name).is_file() for name in _WEIGHTS):
        raise InputError(f"{path}: {_why_no_weights(path)}")
    if (path / "adapter_config.json").is_file():
        # transformers would load what that names as its base, from wherever it is
        raise InputError(
            f"{path}: an adapter_config.json beside whole weights; move one of them away"
        )
    if not (path / "config.json").is_file():
        raise InputError(f"{path}: no config.json; give a checkpoint as save_pretrained writes it")
    return Checkpoint(path, open_tensors(path, "model"), read_json(path / "config.json"))


def require_finite(checkpoint: Checkpoint) -> None:
    """Raise InputError naming the first tensor, by name, that holds a NaN or an infinite number."""
    for name, info in checkpoint.tensors.items():
        if not info.is_finite():
            raise not_finite(checkpoint, name)


def fingerprint(checkpoint: Checkpoint, *, finite_only: bool = False) -> str:
    """BLAKE3, in hex, of the weights alone: independent of sharding, paths, config and metadata.

    Over the tensors in name order: the JSON list ``[name, dtype, shape]`` and a line feed, then
    the ``digests`` of the tensor.  With ``finite_only`` the same reading does the work of
    ``require_finite``.
    """
    return Fingerprint(checkpoint, finite_only=finite_only).hexdigest()


def digests(entries: memoryview, dtype: str) -> bytes:
    """The BLAKE3 digests (32 bytes each) of every ``HASHED`` entries, of raw entries in order."""
    piece = HASHED * BYTES[dtype]
    starts = range(0, len(entries), piece)
    return b"".join(blake3(entries[start : start + piece]).digest() for start in starts)


class Fingerprint:
    """``fingerprint`` while a checkpoint is read for something else: what was read is fed to it.

    It reads by itself what nobody feeds.
    """

    def __init__(self, checkpoint: Checkpoint, *, finite_only: bool = False) -> None:
        self._checkpoint = checkpoint
        self._finite_only = finite_only
        self._digest = blake3()
        self._left = iter(checkpoint.tensors.items())
        self._fed = ""

    def feed(self, name: str, found: bytes) -> None:
        """Take in the next ``digests`` of tensor ``name``: tensors in name order, from its start.

        Raises:
            InputError: a number of a tensor that is read here is not finite.
        """
        if name != self._fed:
            self._read_until(name)
            self._fed = name
        self._digest.update(found)

    def hexdigest(self) -> str:
        """The digest, once what is left has been read; InputError as ``feed``."""
        self._read_until(None)
        return self._digest.hexdigest()

    def _read_until(self, wanted: str | None) -> None:
        for name, info in self._left:
            described = json.dumps([name, info.dtype, list(info.shape)])
            self._digest.update(described.encode() + b"\n")
            if name == wanted:
                return
            for piece in info.chunks(HASHED * BYTES[info.dtype]):
                if self._finite_only and not all_finite(piece, info.dtype):
                    raise not_finite(self._checkpoint, name)
                self._digest.update(digests(piece, info.dtype))


def copy_companions(
    base: Checkpoint,
    folder: Path,
    *,
    dtype: str,
    tokenizer: Path | None = None,
    rows: int | None = None,
) -> None:
    """Give the weights in ``folder`` the config, tokenizer, code and licence files of ``base``.

    ``dtype`` (``"float32"``, ``"bfloat16"``, …) replaces the config's, under the key it uses.
    ``tokenizer`` is a folder to take the tokenizer from instead, ``rows`` the ``vocab_size`` then.
    """
    keys = [key for key in ("dtype", "torch_dtype") if key in base.config] or ["dtype"]
    changed = dict.fromkeys(keys, dtype) | ({"vocab_size": rows} if rows is not None else {})
    write_json(folder / "config.json", base.config | changed)
    for pattern in COMPANIONS:
        origin = tokenizer if tokenizer and pattern in TOKENIZER_FILES else base.path
        for file in sorted(origin.glob(pattern)):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)


_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def _why_no_weights(path: Path) -> str:
    if (path / "adapter_config.json").is_file():
        return "an adapter, where a whole checkpoint is needed; give what it was trained on"
    if pickles := sorted(file.name for pattern in PICKLES for file in path.glob(pattern)):
        return (
            f"only pickled weights ({pickles[0]}), which can run code when they are opened; "
            f"convert them to safetensors (save_pretrained does)"
        )
    return "no model.safetensors and no model.safetensors.index.json; give a checkpoint folder"


def not_finite(checkpoint: Checkpoint, name: str) -> InputError:
    """What to raise for a tensor with NaN or infinite numbers."""
    return InputError(
        f"{checkpoint.tensors[name].file}: tensor {name!r} holds NaN or infinite numbers; "
        f"the checkpoint is damaged or its training diverged, give another"
    )

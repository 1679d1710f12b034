"""Checkpoints: folders of safetensors with a config and a tokenizer, as transformers writes them.

Opening reads headers only.  Everything but ``Checkpoint.read`` works without torch, so paths,
shapes, tokenizers and numbers can be checked, and fingerprints taken, before anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maec.errors import InputError
from maec.tensors import (
    TensorInfo,
    all_finite,
    open_tensors,
    read_json,
    write_json,
    write_tensors,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Checkpoint",
    "TensorInfo",
    "copy_companions",
    "fingerprint",
    "open_checkpoint",
    "require_compatible",
    "require_finite",
    "write_tensors",
]

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")

COMPANIONS = (
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "*.py",  # the model's own code, without which a config with auto_map does not load
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)
"""What belongs to a checkpoint beside its weights and its config."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: its folder, its tensors sorted by name, its config as stored."""

    path: Path
    tensors: dict[str, TensorInfo]
    config: dict[str, Any]

    def read(self, name: str) -> Tensor:
        """The tensor called ``name`` in its stored dtype, in memory of its own."""
        return self.tensors[name].read()

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
    if not (path / "config.json").is_file():
        raise InputError(f"{path}: no config.json; give a checkpoint as save_pretrained writes it")
    return Checkpoint(path, open_tensors(path, "model"), read_json(path / "config.json"))


def require_compatible(base: Checkpoint, other: Checkpoint) -> None:
    """Raise InputError unless ``other`` can be ``base`` trained further.

    The tensors must have the same names and shapes, the tokenizers the same tokens, and neither
    may be quantised.
    """
    for checkpoint in (base, other):
        if "quantization_config" in checkpoint.config:
            raise InputError(
                f"{checkpoint.path}/config.json: quantization_config: quantised weights cannot be "
                f"added up; give the checkpoint as it was before quantisation"
            )
    kinds = [c.config.get("model_type") for c in (base, other)]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{other.path}/config.json: model_type: {kinds[1]!r}, but {base.path} is "
            f"{kinds[0]!r}; give models trained from one base"
        )
    for name in sorted(base.tensors.keys() | other.tensors.keys()):
        found, wanted = (_describe(c.tensors.get(name)) for c in (other, base))
        if found != wanted:
            raise InputError(
                f"{other.path}: tensor {name!r}: {found}, but {wanted} in {base.path}; "
                f"give models trained from one base"
            )
    difference = _tokenizer_difference(base.path, other.path)
    if difference:
        raise InputError(
            f"{other.path}: tokenizer differs from that of {base.path}: {difference}; "
            f"give models trained from one base with its tokenizer"
        )


def require_finite(checkpoint: Checkpoint) -> None:
    """Raise InputError naming the first tensor, by name, that holds a NaN or an infinite number."""
    for name, info in checkpoint.tensors.items():
        if not info.is_finite():
            raise _not_finite(checkpoint, name)


def fingerprint(checkpoint: Checkpoint, *, finite_only: bool = False) -> str:
    """SHA-256, in hex, of the weights alone: independent of sharding, paths, config and metadata.

    Over the tensors in name order: the JSON list ``[name, dtype, shape]`` and a line feed, then
    the raw bytes.  With ``finite_only`` the same reading does the work of ``require_finite``.
    """
    digest = hashlib.sha256()
    for name, info in checkpoint.tensors.items():
        digest.update(json.dumps([name, info.dtype, list(info.shape)]).encode() + b"\n")
        for piece in info.chunks():
            if finite_only and not all_finite(piece, info.dtype):
                raise _not_finite(checkpoint, name)
            digest.update(piece)
    return digest.hexdigest()


def copy_companions(base: Checkpoint, folder: Path, *, dtype: str) -> None:
    """Give the weights in ``folder`` the config, tokenizer, code and licence files of ``base``.

    ``dtype`` (``"float32"``, ``"bfloat16"``, …) replaces the config's, under the key it uses.
    """
    keys = [key for key in ("dtype", "torch_dtype") if key in base.config] or ["dtype"]
    write_json(folder / "config.json", base.config | dict.fromkeys(keys, dtype))
    for pattern in COMPANIONS:
        for file in sorted(base.path.glob(pattern)):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)


_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def _why_no_weights(path: Path) -> str:
    if (path / "adapter_config.json").is_file():
        return "a LoRA adapter; merge it into its base first (peft: merge_and_unload)"
    if pickles := sorted(file.name for pattern in PICKLES for file in path.glob(pattern)):
        return (
            f"only pickled weights ({pickles[0]}), which can run code when they are opened; "
            f"convert them to safetensors (save_pretrained does)"
        )
    return "no model.safetensors and no model.safetensors.index.json; give a checkpoint folder"


def _describe(info: TensorInfo | None) -> str:
    """What must agree about a tensor: its shape, and whether it holds floating-point numbers."""
    if info is None:
        return "missing"
    return f"shape {list(info.shape)}" + ("" if info.is_float else f" of {info.dtype}")


def _not_finite(checkpoint: Checkpoint, name: str) -> InputError:
    return InputError(
        f"{checkpoint.tensors[name].file}: tensor {name!r} holds NaN or infinite numbers; "
        f"the checkpoint is damaged or its training diverged, give another"
    )


def _tokenizer_difference(base: Path, other: Path) -> str:
    """The first difference between the tokenizers in two folders, or "".

    Fast tokenizers are compared by their tokens and merges, so that the same tokenizer saved by
    different versions of the library passes; others by their bytes.  A folder without a tokenizer
    has nothing to compare.
    """
    files = [path / "tokenizer.json" for path in (base, other)]
    if all(file.is_file() for file in files):
        ours, theirs = (_tokens(read_json(file)) for file in files)
        for key in ours:
            if ours[key] != theirs[key]:
                return _first_difference(key, ours[key], theirs[key])
        return ""
    files = [path / "tokenizer.model" for path in (base, other)]
    if all(file.is_file() for file in files) and len({file.read_bytes() for file in files}) > 1:
        return "tokenizer.model has other bytes"
    return ""


def _tokens(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """What decides which ids a text becomes: type, vocabulary, merges, added tokens."""
    model = tokenizer.get("model") or {}
    vocabulary = model.get("vocab") or {}
    if isinstance(vocabulary, list):  # Unigram: [piece, score] in id order
        vocabulary = {json.dumps(piece): number for number, piece in enumerate(vocabulary)}
    # older versions of the library write a merge as "a b", newer ones as ["a", "b"]
    merges = [m.split(" ") if isinstance(m, str) else m for m in model.get("merges") or []]
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or []}
    return {
        "model type": {"type": model.get("type")},
        "vocabulary": vocabulary,
        "merges": dict(enumerate(merges)),
        "added tokens": added,
    }


def _first_difference(key: str, ours: dict[Any, Any], theirs: dict[Any, Any]) -> str:
    name = next(n for n in sorted(ours.keys() | theirs.keys()) if ours.get(n) != theirs.get(n))
    return f"{key}: {name!r} is {theirs.get(name)!r}, not {ours.get(name)!r}"

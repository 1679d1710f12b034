"""Which models fit a base: what must agree, and how what may differ is seen in the base's shapes.

A buffer that is computed from the config, and the copy of tied embeddings that some libraries
store as an output layer, are no parameters: with or without them it is the same model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from maec import tokenizer
from maec.adapter import Adapted, is_adapter, open_adapter
from maec.checkpoint import OUTPUT_LAYER, Checkpoint, Weights, embeddings, open_checkpoint
from maec.errors import InputError
from maec.tensors import TensorInfo
from maec.vocabulary import Rows, common_rows

if TYPE_CHECKING:
    from torch import Tensor

OnVocabulary = Literal["refuse", "pad"]
COMPUTED = (".inv_freq",)
"""Endings of the names of buffers that every library computes from the config."""


@dataclass(frozen=True)
class Fitted:
    """A model as a base sees it: with the tensors of the base's names and shapes.

    ``stored`` is what lies on the disk: another checkpoint, or an adapter; ``seen`` what is read.
    ``rows`` says which rows of its embeddings are tokens that the base has not; None for a model
    without any.
    """

    stored: Checkpoint
    seen: Weights
    rows: Rows | None = None

    def read(self, name: str) -> Tensor:
        """The tensor called ``name``, in memory of its own."""
        return self.seen.read(name)

    def read_entries(self, name: str, begin: int, end: int) -> Tensor:
        """Its entries ``begin`` to ``end``, in row-major order, flat, to be used at once."""
        return self.seen.read_entries(name, begin, end)

    @property
    def is_as_stored(self) -> bool:
        """Whether the entries read are those that lie on the disk."""
        return isinstance(self.seen, Checkpoint) and not isinstance(self.seen, Adapted)

    @property
    def path(self) -> Path:
        """The folder it lies in."""
        return self.stored.path


def open_base(path: Path) -> Checkpoint:
    """The checkpoint in ``path`` as the base of others: whole, and without what is no parameter.

    Raises:
        InputError: as ``open_checkpoint``; quantised weights.
    """
    base = open_checkpoint(path)
    _require_unquantised(base)
    return _without(base, _computed(base) | _tied_copy(base))


def fitted(base: Checkpoint, path: Path, vocabulary: OnVocabulary = "refuse") -> Fitted:
    """The model in ``path``, a checkpoint or a LoRA adapter, as ``base`` sees it.

    ``base`` is what ``open_base`` gave.  With ``vocabulary`` ``pad`` its embeddings may have more
    rows or fewer: the rows of the base's tokens are read from the model, all others from the base.

    Raises:
        InputError: it cannot be ``base`` trained further.
    """
    model = open_adapter(path, base) if is_adapter(path) else open_checkpoint(path)
    stored = model.stored if isinstance(model, Adapted) else model
    model = _as_base_stores(base, model)
    if vocabulary == "refuse":
        require_compatible(base, model)
        return Fitted(stored, model)
    _require_same_kind(base, model)
    rows = common_rows(base, model)
    _require_same_tensors(base, model, ignore_rows=rows.names)
    return Fitted(stored, rows, rows if rows.new else None)


def require_compatible(base: Checkpoint, other: Checkpoint) -> None:
    """Raise InputError unless ``other`` can be ``base`` trained further.

    The tensors must have the same names and shapes, the tokenizers the same tokens, and neither
    may be quantised.  Buffers that are no floating-point numbers may be on one side only.
    """
    _require_same_kind(base, other)
    _require_same_tensors(base, other)
    difference = tokenizer.difference(base.path, other.path)
    if difference:
        raise InputError(
            f"{other.path}: tokenizer differs from that of {base.path}: {difference}; "
            f"give models trained from one base with its tokenizer{_PAD}"
        )


def _require_same_kind(base: Checkpoint, other: Checkpoint) -> None:
    for checkpoint in (base, other):
        _require_unquantised(checkpoint)
    kinds = [c.config.get("model_type") for c in (base, other)]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{other.path}/config.json: model_type: {kinds[1]!r}, but {base.path} is "
            f"{kinds[0]!r}; give models trained from one base"
        )


def _require_unquantised(checkpoint: Checkpoint) -> None:
    if "quantization_config" in checkpoint.config:
        raise InputError(
            f"{checkpoint.path}/config.json: quantization_config: quantised weights cannot be "
            f"added up; give the checkpoint as it was before quantisation"
        )


def _require_same_tensors(
    base: Checkpoint, other: Checkpoint, ignore_rows: frozenset[str] = frozenset()
) -> None:
    for name in sorted(base.tensors.keys() | other.tensors.keys()):
        infos = [c.tensors.get(name) for c in (other, base)]
        if None in infos and not any(info is not None and info.is_float for info in infos):
            continue  # a buffer: the base's is kept, another's is left out
        found, wanted = (_describe(info, name in ignore_rows) for info in infos)
        if found != wanted:
            advice = _PAD if name in embeddings(base) and None not in infos else ""
            raise InputError(
                f"{other.path}: tensor {name!r}: {found}, but {wanted} in {base.path}; "
                f"give models trained from one base{advice}"
            )


def _describe(info: TensorInfo | None, ignore_rows: bool) -> str:
    """What must agree about a tensor: its shape, and whether it holds floating-point numbers."""
    if info is None:
        return "missing"
    shape = list(info.shape[1:]) if ignore_rows else list(info.shape)
    kind = "a row of shape" if ignore_rows else "shape"
    return f"{kind} {shape}" + ("" if info.is_float else f" of {info.dtype}")


def _as_base_stores(base: Checkpoint, model: Checkpoint) -> Checkpoint:
    """``model`` without what is no parameter, seen from ``base``."""
    copy = set() if OUTPUT_LAYER in base.tensors else _copied_output_layer(model)
    return _without(model, _computed(model) | copy)


def _without(checkpoint: Checkpoint, names: set[str]) -> Checkpoint:
    kept = {name: info for name, info in checkpoint.tensors.items() if name not in names}
    return replace(checkpoint, tensors=kept)


def _computed(checkpoint: Checkpoint) -> set[str]:
    return {name for name in checkpoint.tensors if name.endswith(COMPUTED)}


def _tied_copy(checkpoint: Checkpoint) -> set[str]:
    """The output layer, where it is stored and yet tied to the input embeddings.

    transformers takes it for tied if the config says so (which it does by saying nothing) and both
    are equal; else what is stored counts.
    """
    tied = checkpoint.config.get("tie_word_embeddings", True)
    return _copied_output_layer(checkpoint) if tied else set()


def _copied_output_layer(checkpoint: Checkpoint) -> set[str]:
    """The output layer, if it is the input embeddings once more, bit for bit."""
    output = checkpoint.tensors.get(OUTPUT_LAYER)
    inputs = embeddings(checkpoint) - {OUTPUT_LAYER}
    if output is None or len(inputs) != 1:
        return set()
    return {OUTPUT_LAYER} if output.same_as(checkpoint.tensors[inputs.pop()]) else set()


_PAD = "; `vocabulary: pad` merges models whose tokenizer has more tokens"

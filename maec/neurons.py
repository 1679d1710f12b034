"""Key neurons N_A: the parameters that training on an ability moves most (Extraction 1).

N_A is the top k1 of all parameters of the checkpoint by importance, exactly, over the whole model
at once, without ever holding or sorting the whole model.  The bits of a non-negative float32, read
as an integer, are in the order of the numbers, so two passes that count 16 bits at a time find the
least importance that belongs to N_A.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from maec.checkpoint import Weights
from maec.errors import InputError
from maec.manifest import read_manifest
from maec.pieces import pieces
from maec.progress import Track, silent
from maec.tensors import TensorInfo, open_tensors, write_json, write_tensors

Importance = Callable[[str], Tensor]
"""From a tensor's name to the importance of its entries: its shape, any floating dtype, ≥ 0."""

Shapes = Mapping[str, tuple[int, ...]]
Granularity = Literal["parameter", "row"]

MASK_FILE = "mask.json"
GRADIENT_FILE = "gradient.safetensors"
_INFINITE = 0x7F800000  # the bits of infinity; those of NaN are above, all numbers below


def value_change(base: Weights, trained: Weights) -> Importance:
    """The importance |θ' − θ| in float32: how far training moved each parameter.

    It stands in for the accumulated gradient (METHOD.md, Extraction 1).
    """

    def change(name: str) -> Tensor:
        theta_o, theta = base.read(name), trained.read(name)
        result = torch.empty(theta_o.shape)
        for out, after, before in pieces(result, theta, theta_o):
            out.copy_(after.float() - before).abs_()
        return result

    return change


def gradient(trained: Path) -> Importance:
    """The importance Σ|∂L/∂θ| *(choice)* that a run recorded in the folder ``trained``, float32.

    Raises:
        InputError: the run recorded none, or, when asked for it, none for that tensor.
    """
    folder = Path(trained)
    if not (folder / GRADIENT_FILE).is_file():
        raise InputError(f"{folder}: no {GRADIENT_FILE}; train with record_gradient: true")
    recorded = open_tensors(folder, Path(GRADIENT_FILE).stem)

    def accumulated(name: str) -> Tensor:
        if name not in recorded:
            raise InputError(f"{folder / GRADIENT_FILE}: tensor {name!r} is missing")
        return recorded[name].read()

    return accumulated


def random(shapes: Shapes, seed: int) -> Importance:
    """Uniform numbers in [0, 1): a control that shows whether it matters *which* neurons are key.

    A tensor's numbers depend on ``seed`` and its name alone.
    """

    def drawn(name: str) -> Tensor:
        named = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(named[:8], "big", signed=True))
        return torch.rand(shapes[name], generator=generator)

    return drawn


@dataclass(frozen=True)
class KeyNeurons(Mapping[str, Tensor]):
    """N_A as a mapping from tensor names to bool tensors, each computed when it is asked for.

    An entry (or row) belongs to N_A if the bits of its score lie above ``threshold``, or are equal
    to it and the entry is among the first ``ties[name]`` (0 where absent) such entries of its
    tensor; where ``ties`` is None, all of them are.
    """

    importance: Importance
    shapes: Shapes
    granularity: Granularity
    threshold: int
    ties: Mapping[str, int] | None

    def __getitem__(self, name: str) -> Tensor:
        shape = self.shapes[name]
        scores = _scores(self.importance, name, shape, self.granularity)
        chosen = torch.empty(scores.shape, dtype=torch.bool)
        for out, piece in pieces(chosen, scores):
            torch.ge(_bits(piece), self.threshold, out=out)
        if self.ties is not None:
            tied = (_bits(scores) == self.threshold).nonzero()[:, 0]
            chosen[tied[self.ties.get(name, 0) :]] = False
        if self.granularity == "row":
            width = math.prod(shape) // max(len(chosen), 1)
            chosen = chosen[:, None].expand(-1, width).contiguous()
        return chosen.reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def locate(
    importance: Importance,
    shapes: Shapes,
    k1: float,
    granularity: Granularity = "parameter",
    *,
    track: Track = silent,
) -> KeyNeurons:
    """N_A: the ⌊k1·N + ½⌋ most important of the N entries (or rows) of the tensors in ``shapes``.

    Ties at the threshold go to the lower position: tensors by name, then row-major.  With
    granularity ``row`` *(choice)* a row of a weight matrix stands or falls as a whole, scored by
    its mean importance; a tensor with fewer than two dimensions is one row.  ``importance`` is
    called two or three times for each tensor, one tensor being in memory at a time.

    Raises:
        InputError: ``k1`` outside (0, 1], or a NaN, naming the tensor.
    """
    require_share("k1", k1)
    shapes = dict(sorted(shapes.items()))
    wanted = math.floor(k1 * sum(_units(shape, granularity) for shape in shapes.values()) + 0.5)
    if wanted == 0:
        return KeyNeurons(importance, shapes, granularity, _INFINITE + 1, {})

    def counted(digit: Callable[[np.ndarray], np.ndarray], work: str) -> np.ndarray:
        """How often each value of a 16-bit digit occurs among the scores of all tensors."""
        counts = np.zeros(2**16, dtype=np.int64)
        for name in track(shapes, work):
            for (piece,) in pieces(_scores(importance, name, shapes[name], granularity)):
                bits = _bits(piece).numpy()
                if bits.max(initial=0) > _INFINITE:
                    raise InputError(f"tensor {name!r}: its importance holds NaN")
                counts += np.bincount(digit(bits), minlength=2**16)
        return counts

    counts = counted(lambda bits: bits >> 16, "key neurons: first digit")
    high, above = _digit(counts, wanted)
    counts = counted(lambda bits: bits[bits >> 16 == high] & 0xFFFF, "key neurons: second digit")
    low, above_in_digit = _digit(counts, wanted - above)

    threshold = high << 16 | low
    tied = wanted - above - above_in_digit
    if tied == counts[low]:
        return KeyNeurons(importance, shapes, granularity, threshold, None)
    ties = {}
    for name in track(shapes, "key neurons: ties"):
        scores = _scores(importance, name, shapes[name], granularity)
        ties[name] = min(tied, int((_bits(scores) == threshold).count_nonzero()))
        tied -= ties[name]
        if tied == 0:
            break
    return KeyNeurons(importance, shapes, granularity, threshold, ties)


def key_neurons(
    importance: Importance,
    shapes: Shapes,
    k1: float,
    granularity: Granularity = "parameter",
) -> dict[str, Tensor]:
    """``locate``, with the bool tensors of the whole model in memory (one byte an entry)."""
    return dict(locate(importance, shapes, k1, granularity))


def require_share(key: str, value: float) -> None:
    """Raise InputError unless 0 < ``value`` ≤ 1."""
    if not 0 < value <= 1:
        raise InputError(f"{key}: {value} is outside (0, 1]; give the share to be kept")


def write_mask(folder: Path, mask: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
    """Write bool tensors, eight entries a byte, and ``manifest`` into the existing ``folder``.

    ``mask.safetensors`` holds the packed bits of each tensor, ``mask.json`` the manifest with
    ``tensors``: each one's shape and number of key neurons.  Tensors are taken one at a time.
    """
    tensors = {}

    def packed() -> Iterator[tuple[str, Tensor]]:
        for name in sorted(mask):
            entries = mask[name]
            tensors[name] = describe_mask(entries)
            yield name, pack_bits(entries)

    write_tensors(folder, packed(), stem="mask")
    write_json(folder / MASK_FILE, {**manifest, "tensors": tensors})


@dataclass(frozen=True)
class PackedMask(Mapping[str, Tensor]):
    """A mask on disk as a mapping from tensor names to bool tensors, unpacked when asked for."""

    path: Path
    manifest: dict[str, Any]
    files: dict[str, TensorInfo]

    def __getitem__(self, name: str) -> Tensor:
        return unpack_bits(self.files[name].read(), self.shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, sorted by name."""
        return {name: tuple(entry["shape"]) for name, entry in self.manifest["tensors"].items()}

    def read_entries(self, name: str, begin: int, end: int) -> np.ndarray:
        """Entries ``begin`` to ``end`` of a tensor, row-major and flat: which are key neurons."""
        first = begin // 8
        packed = self.files[name].read_entries(first, -(-end // 8)).numpy()
        return np.unpackbits(packed)[begin - 8 * first : end - 8 * first].view(np.bool_)


def open_mask(folder: Path) -> PackedMask:
    """The mask that ``write_mask`` left in ``folder``; InputError if it is not there, or whole."""
    folder = Path(folder)
    if not (folder / MASK_FILE).is_file():
        raise InputError(f"{folder}: no {MASK_FILE}; give a folder that holds a key-neuron mask")
    mask = PackedMask(folder, read_manifest(folder / MASK_FILE), open_tensors(folder, "mask"))
    for name, shape in mask.shapes.items():
        require_packed(folder, mask.files, name, -(-math.prod(shape) // 8), "U8")
    return mask


def read_mask(folder: Path) -> dict[str, Tensor]:
    """``open_mask``, with the bool tensors of the whole model in memory (one byte an entry)."""
    return dict(open_mask(folder))


def pack_bits(mask: Tensor) -> Tensor:
    """A bool tensor as uint8 [⌈n/8⌉]: eight entries a byte, row-major, the first in the top bit."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy()))


def unpack_bits(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The bool tensor of ``shape`` that ``pack_bits`` packed."""
    entries = np.unpackbits(packed.numpy(), count=math.prod(shape))
    return torch.from_numpy(entries.view(np.bool_)).reshape(shape)


def describe_mask(mask: Tensor) -> dict[str, Any]:
    """What a manifest says about one tensor of a mask."""
    return {"shape": list(mask.shape), "key_neurons": int(mask.count_nonzero())}


def require_packed(
    folder: Path, files: Mapping[str, TensorInfo], name: str, entries: int, dtype: str
) -> None:
    """Raise InputError unless ``files`` has ``name`` with so many ``entries`` of ``dtype``."""
    info = files.get(name)
    if info is None or (info.numel, info.dtype) != (entries, dtype):
        raise InputError(f"{folder}: {name!r} is missing or has another size; make it again")


def width_of(shape: tuple[int, ...], granularity: Granularity) -> int:
    """How many entries of a tensor stand or fall together: 1, or those of a row.

    A tensor with fewer than two dimensions is one row; a width is at least 1.
    """
    if granularity == "parameter" or math.prod(shape) == 0:
        return 1
    return math.prod(shape[1:] if len(shape) > 1 else shape)


def _units(shape: tuple[int, ...], granularity: Granularity) -> int:
    """How many entries, or rows, of a tensor compete for a place in N_A."""
    return math.prod(shape) // width_of(shape, granularity)


def _scores(
    importance: Importance, name: str, shape: tuple[int, ...], granularity: Granularity
) -> Tensor:
    """What the entries or rows of one tensor compete with: float32, flat."""
    values = importance(name).float().contiguous()
    if granularity == "parameter":
        return values.view(-1)
    # summed in float64: a float32 mean would depend on how a machine splits the sum
    rows = _units(shape, granularity)
    values = values.view(rows, math.prod(shape) // max(rows, 1)).abs()
    return values.mean(dim=1, dtype=torch.float64).float()


def _bits(scores: Tensor) -> Tensor:
    """The bits of float32 magnitudes as int32, which are in the order of the magnitudes."""
    return scores.abs().view(torch.int32)


def _digit(counts: np.ndarray, wanted: int) -> tuple[int, int]:
    """The digit of the ``wanted``-th largest number, and how many numbers have a larger one."""
    at_least = counts[::-1].cumsum()
    place = int(np.searchsorted(at_least, wanted))
    above = int(at_least[place - 1]) if place else 0
    return len(counts) - 1 - place, above

"""Ability packs: the ability weights R(A) on disk, as sparse as they are.

A pack is a folder with ``pack.safetensors`` (shards, if large) and ``pack.json``, which says how
and from what it was made.  A tensor is cut into blocks that can be read by themselves.  For each
tensor ``NAME`` there are

- ``NAME.gaps``: how many entries lie between a key neuron and the one before, a byte each; a byte
  of 255 stands for 255 entries without a key neuron, and the next byte goes on from there;
- ``NAME.values``: the entries of R(A) inside N_A, row-major;
- ``NAME.blocks`` (int64, [blocks + 1, 3]): where each block begins in the tensor, in the gaps and
  in the values; the last row is the end of the last block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maec.arithmetic import Sparse
from maec.chunks import Chunk, Shapes
from maec.errors import InputError
from maec.kernels import gaps_to_places
from maec.manifest import read_manifest
from maec.tensors import TensorInfo, open_tensors, write_json, write_tensors

if TYPE_CHECKING:
    from maec.checkpoint import Weights
    from maec.window import Piece

PACK_FILE = "pack.json"
FORMAT = 3
"""Number of the layout above; 1 marked key neurons by a bit for each parameter, 2 named its base by
another fingerprint."""

FULL = 255
"""A byte of gaps without a key neuron."""

SHARD_BYTES = 256 * 2**20
"""Bytes of a pack's file: as many are in memory while one is written."""


@dataclass(frozen=True)
class Block:
    """A chunk's key neurons as they are stored."""

    chunk: Chunk
    gaps: Tensor
    values: Tensor


def block(chunk: Chunk, weights: Sequence[Sparse], dtype: torch.dtype) -> Block:
    """The block of a chunk from R(A) in its pieces, whose places count from the chunk's begin.

    Raises:
        InputError: a number that ``dtype`` cannot hold.
    """
    places = torch.cat([part.places for part in weights]).cpu().numpy()
    values = torch.cat([part.values for part in weights]).cpu().to(dtype)
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            f"tensor {chunk.name!r}: its ability weights overflow {str(dtype).split('.')[-1]}; "
            f"give another dtype"
        )
    return Block(chunk, torch.from_numpy(_gaps(places)), values)


def _gaps(places: np.ndarray) -> np.ndarray:
    """``places`` (int64, ascending) as bytes."""
    between = np.diff(places, prepend=-1) - 1
    full, rest = np.divmod(between, FULL)
    gaps = np.full(len(places) + int(full.sum()), FULL, dtype=np.uint8)
    gaps[np.cumsum(full + 1) - 1] = rest
    return gaps


def _places(gaps: np.ndarray, count: int) -> np.ndarray | None:
    """What ``_gaps`` was given; None unless it was ``count`` places."""
    places = np.empty(count, dtype=np.int64)
    return places if gaps_to_places(gaps, np.uint8(FULL), places) == count else None


def write_pack(
    folder: Path, shapes: Shapes, blocks: Iterable[Block], manifest: Mapping[str, Any]
) -> None:
    """Write a pack into the existing ``folder`` from its blocks, in name order and ascending.

    ``manifest`` goes to ``pack.json`` with ``format``, ``N``, ``key_neurons`` (|N_A|) and
    ``tensors`` (shape and number of key neurons of each) added.
    """
    counts: dict[str, int] = {}

    def stored() -> Iterator[tuple[str, Tensor]]:
        by_tensor = groupby(blocks, key=lambda block: block.chunk.name)
        current = next(by_tensor, None)
        for name in sorted(shapes):
            of_tensor: list[Block] = []
            if current is not None and current[0] == name:
                of_tensor = list(current[1])
                current = next(by_tensor, None)
            counts[name] = sum(len(entry.values) for entry in of_tensor)
            lengths = [(b.chunk.end, len(b.gaps), len(b.values)) for b in of_tensor]
            ends = np.array([(0, 0, 0), *lengths], dtype=np.int64)
            ends[:, 1:] = ends[:, 1:].cumsum(axis=0)
            yield f"{name}.blocks", torch.from_numpy(ends)
            yield f"{name}.gaps", _joined([b.gaps for b in of_tensor], torch.uint8)
            yield f"{name}.values", _joined([b.values for b in of_tensor], torch.float32)

    write_tensors(folder, stored(), stem="pack", shard_bytes=SHARD_BYTES)
    write_json(
        folder / PACK_FILE,
        {
            **manifest,
            "format": FORMAT,
            "N": sum(math.prod(shape) for shape in shapes.values()),
            "key_neurons": sum(counts.values()),
            "tensors": {
                name: {"shape": list(shapes[name]), "key_neurons": counts[name]} for name in counts
            },
        },
    )


def _joined(parts: list[Tensor], otherwise: torch.dtype) -> Tensor:
    return torch.cat(parts) if parts else torch.empty(0, dtype=otherwise)


@dataclass(frozen=True)
class Pack:
    """An opened ability pack; tensors are read when they are asked for."""

    path: Path
    manifest: dict[str, Any]
    files: dict[str, TensorInfo]
    blocks: dict[str, np.ndarray]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, by name."""
        return {name: tuple(entry["shape"]) for name, entry in self.manifest["tensors"].items()}

    @property
    def names(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self.manifest["tensors"])

    @property
    def models(self) -> Sequence[Weights]:
        """The models that a window must hold: none."""
        return ()

    def over(self, chunk: Chunk) -> Callable[[Piece], Sparse]:
        """The entries of R(A) inside N_A for each piece of ``chunk``."""
        weights = self.read_entries(chunk.name, chunk.begin, chunk.end)
        places = weights.places.numpy()

        def entries(piece: Piece) -> Sparse:
            first, last = np.searchsorted(places, [piece.begin, piece.end])
            device = piece.origin.device
            own = weights.places[first:last] - piece.begin
            return Sparse(own.to(device), weights.values[first:last].to(device))

        return entries

    def read_entries(self, name: str, begin: int, end: int) -> Sparse:
        """R(A) inside N_A from entry ``begin`` to ``end`` of a tensor; places from ``begin``."""
        ends = self.blocks[name]
        first = max(int(np.searchsorted(ends[:, 0], begin, side="right")) - 1, 0)
        last = int(np.searchsorted(ends[:, 0], end))
        found = []
        for number in range(first, min(last, len(ends) - 1)):
            start, gaps, values = ends[number]
            _, gaps_end, values_end = ends[number + 1]
            packed = self.files[f"{name}.gaps"].read_entries(gaps, gaps_end).numpy()
            places = _places(packed, values_end - values)
            if places is None:
                raise InputError(f"{self.path}: tensor {name!r} is damaged; fetch or make it again")
            places += start - begin
            a, b = np.searchsorted(places, [0, end - begin])
            kept = self.files[f"{name}.values"].read_entries(values + a, values + b)
            found.append(Sparse(torch.from_numpy(places[a:b]), kept.float()))
        if not found:
            return Sparse(torch.empty(0, dtype=torch.int64), torch.empty(0))
        if len(found) == 1:
            return found[0]
        return Sparse(torch.cat([f.places for f in found]), torch.cat([f.values for f in found]))

    def mask(self, name: str) -> Tensor:
        """N_A in this tensor, bool."""
        return self._dense(name)[0]

    def delta(self, name: str) -> Tensor:
        """R(A) of this tensor, dense float32, zero outside N_A."""
        return self._dense(name)[1]

    def _dense(self, name: str) -> tuple[Tensor, Tensor]:
        shape = self.shapes[name]
        places, values = self.read_entries(name, 0, math.prod(shape))
        mask, delta = torch.zeros(math.prod(shape), dtype=torch.bool), torch.zeros(math.prod(shape))
        mask[places], delta[places] = True, values
        return mask.view(shape), delta.view(shape)


def open_pack(path: Path) -> Pack:
    """Open the pack in the folder ``path``; InputError if there is none, or it is not whole."""
    path = Path(path)
    if not (path / PACK_FILE).is_file():
        raise InputError(f"{path}: no {PACK_FILE}; give an ability pack made by `maec extract`")
    manifest = read_manifest(path / PACK_FILE)
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"{path / PACK_FILE}: format: {manifest.get('format')!r}, but {FORMAT} is read here "
            f"(made by maec {manifest.get('maec')}); extract it again"
        )
    files = open_tensors(path, "pack")
    blocks = {}
    for name, entry in manifest["tensors"].items():
        parts = [files.get(f"{name}.{part}") for part in ("blocks", "gaps", "values")]
        if None in parts or parts[0].dtype != "I64" or parts[1].dtype != "U8":
            raise InputError(f"{path}: {name!r} is missing or has another dtype; make it again")
        blocks[name] = parts[0].read().numpy()
        ends = [math.prod(entry["shape"]), parts[1].numel, parts[2].numel]
        if not _lead_to(ends, blocks[name]) or ends[2] != entry["key_neurons"]:
            raise InputError(f"{path}: {name!r} is not whole; fetch or make it again")
    return Pack(path, manifest, files, blocks)


def _lead_to(ends: list[int], blocks: np.ndarray) -> bool:
    """Whether ``blocks`` lie one after the other, from the beginning to ``ends``."""
    if blocks.ndim != 2 or blocks.shape[1] != len(ends) or not len(blocks):
        return False
    ascending = bool((np.diff(blocks, axis=0) >= 0).all())
    return ascending and not blocks[0].any() and blocks[-1].tolist() == ends

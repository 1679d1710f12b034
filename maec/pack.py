"""Ability packs: the ability weights R(A) on disk, as sparse as they are.

A pack is a folder with ``pack.safetensors`` (shards, if large) and ``pack.json``.  For each tensor
``NAME`` the first holds ``NAME.mask``, N_A as packed bits, and ``NAME.values``, the float32 entries
of R(A) inside N_A in row-major order.  The second says how and from what the pack was made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maec.errors import InputError
from maec.neurons import describe_mask, pack_bits, require_packed, unpack_bits
from maec.tensors import TensorInfo, open_tensors, read_json, write_json, write_tensors

PACK_FILE = "pack.json"


def write_pack(
    folder: Path, deltas: Iterable[tuple[str, Tensor, Tensor]], manifest: Mapping[str, Any]
) -> None:
    """Write a pack into the existing ``folder`` from (name, bool mask, dense float32 R(A)[name]).

    ``manifest`` goes to ``pack.json`` with ``N``, ``key_neurons`` (|N_A|) and ``tensors`` (shape
    and number of key neurons of each) added.  Entries outside the masks are dropped.
    """
    tensors: dict[str, dict[str, Any]] = {}

    def stored() -> Iterator[tuple[str, Tensor]]:
        for name, mask, delta in deltas:
            tensors[name] = describe_mask(mask)
            yield f"{name}.mask", pack_bits(mask)
            yield f"{name}.values", delta[mask].float()

    write_tensors(folder, stored(), stem="pack")
    counts = {
        "N": sum(math.prod(entry["shape"]) for entry in tensors.values()),
        "key_neurons": sum(entry["key_neurons"] for entry in tensors.values()),
    }
    write_json(folder / PACK_FILE, {**manifest, **counts, "tensors": tensors})


@dataclass(frozen=True)
class Pack:
    """An opened ability pack; tensors are read when they are asked for."""

    path: Path
    manifest: dict[str, Any]
    files: dict[str, TensorInfo]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, by name."""
        return {name: tuple(entry["shape"]) for name, entry in self.manifest["tensors"].items()}

    @property
    def names(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self.manifest["tensors"])

    def mask(self, name: str) -> Tensor:
        """N_A in this tensor, bool."""
        return unpack_bits(self.files[f"{name}.mask"].read(), self.shapes[name])

    def delta(self, name: str) -> Tensor:
        """R(A) of this tensor, dense float32, zero outside N_A."""
        return self.entries(name)[1]

    def entries(self, name: str) -> tuple[Tensor, Tensor]:
        """``mask`` and ``delta`` of this tensor."""
        mask = self.mask(name)
        values = self.files[f"{name}.values"].read()
        return mask, torch.zeros(mask.shape).masked_scatter_(mask, values)


def open_pack(path: Path) -> Pack:
    """Open the pack in the folder ``path``; InputError if there is none, or it is not whole."""
    path = Path(path)
    if not (path / PACK_FILE).is_file():
        raise InputError(f"{path}: no {PACK_FILE}; give an ability pack made by `maec extract`")
    pack = Pack(path, read_json(path / PACK_FILE), open_tensors(path, "pack"))
    for name, entry in pack.manifest["tensors"].items():
        entries = math.prod(entry["shape"])
        require_packed(path, pack.files, f"{name}.mask", -(-entries // 8), "U8")
        require_packed(path, pack.files, f"{name}.values", entry["key_neurons"], "F32")
    return pack

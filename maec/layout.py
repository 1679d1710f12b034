"""Safetensors files whose tensors are written in any order, a piece at a time.

The safetensors library writes a file from tensors that are all in memory.  Here the files are laid
out first, from names, dtypes and shapes alone, so that a model of any size can be filled in by
several threads, and a disk that is too small is found out before the work.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from maec.errors import NoSpace
from maec.tensors import BYTES, SHARD_BYTES, write_json

if TYPE_CHECKING:
    from torch import Tensor

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Stored dtype (``"BF16"``, …) and shape of each tensor, by name."""


@dataclass(frozen=True)
class _Place:
    descriptor: int
    begin: int
    itemsize: int


class Writer:
    """Writes into files that are laid out; threads may share it, as long as pieces do not."""

    def __init__(self, places: Mapping[str, _Place]) -> None:
        self._places = places

    def write(self, name: str, begin: int, entries: Tensor) -> None:
        """Put flat ``entries``, of the tensor's dtype, where its entry ``begin`` lies."""
        import torch

        place = self._places[name]
        view = memoryview(entries.contiguous().view(torch.uint8).numpy())
        offset = place.begin + begin * place.itemsize
        begin = offset
        while view:
            count = os.pwrite(place.descriptor, view, offset)
            view, offset = view[count:], offset + count
        _start_writing(place.descriptor, begin, offset)


@contextmanager
def laid_out(
    folder: Path, layout: Layout, *, shard_bytes: int = SHARD_BYTES, stem: str = "model"
) -> Iterator[Writer]:
    """Make the files for ``layout`` in ``folder``, to be filled while the block runs.

    Names and bytes are those that ``write_tensors`` gives the same tensors.  What is not written
    stays zero.

    Raises:
        NoSpace: the disk is too small.
    """
    files = list(shards(layout, shard_bytes))
    places: dict[str, _Place] = {}
    with ExitStack() as opened:
        for number, shard in enumerate(files, start=1):
            file = folder / _file_name(stem, number, len(files))
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            opened.callback(os.close, descriptor)
            header, offsets = _header(shard)
            size = len(header) + sum(nbytes(entry) for entry in shard.values())
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise NoSpace(
                        f"{folder}: no space for {file.name} ({size} bytes); free some, or name "
                        f"a folder on another disk"
                    ) from error
                raise
            os.pwrite(descriptor, header, 0)
            for name, offset in offsets.items():
                itemsize = BYTES[shard[name][0]]
                places[name] = _Place(descriptor, len(header) + offset, itemsize)
        yield Writer(places)
    if len(files) > 1:
        weight_map = {
            name: _file_name(stem, number, len(files))
            for number, shard in enumerate(files, start=1)
            for name in shard
        }
        total = sum(map(nbytes, layout.values()))
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_json(folder / f"{stem}.safetensors.index.json", index)


def _start_writing(descriptor: int, begin: int, end: int) -> None:
    """Have the disk begin with these bytes, so that little is left to wait for at the end."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, begin, end - begin, os.POSIX_FADV_DONTNEED)


def shards(
    layout: Layout, shard_bytes: int = SHARD_BYTES
) -> Iterator[dict[str, tuple[str, tuple[int, ...]]]]:
    """Tensors in their order, as many to a file as fit; one that is larger has its own."""
    shard: dict[str, tuple[str, tuple[int, ...]]] = {}
    held = 0
    for name, entry in layout.items():
        if shard and held + nbytes(entry) > shard_bytes:
            yield shard
            shard, held = {}, 0
        shard[name] = entry
        held += nbytes(entry)
    yield shard


def _header(shard: Layout) -> tuple[bytes, dict[str, int]]:
    """The file's header, its length included, and where each tensor's data lies after it.

    Tensors lie in the order of the safetensors library: larger dtypes first, then by name.
    """
    offsets: dict[str, int] = {}
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name in sorted(shard, key=lambda name: (-_rank(shard[name][0]), name)):
        dtype, shape = shard[name]
        end = place + nbytes(shard[name])
        offsets[name] = place
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offsets


_LIBRARY_ORDER = ("BOOL", "U8", "I8", "I16", "F16", "BF16", "I32", "F32", "F64", "I64")


def _rank(dtype: str) -> int:
    return _LIBRARY_ORDER.index(dtype)


def nbytes(entry: tuple[str, tuple[int, ...]]) -> int:
    """Bytes of a tensor's data, from its stored dtype and shape."""
    dtype, shape = entry
    return prod(shape) * BYTES[dtype]


def _file_name(stem: str, number: int, count: int) -> str:
    return f"{stem}-{number:05d}-of-{count:05d}.safetensors" if count > 1 else f"{stem}.safetensors"

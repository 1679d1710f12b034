"""Named tensors in safetensors files: one file, or shards with an index; read and written singly.

Headers are read here rather than by the safetensors library because the checks, fingerprints and
plans built on them need each tensor's place in its file, and must run without importing torch.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maec.errors import InputError
from maec.reading import parse_json, read_json

if TYPE_CHECKING:
    from torch import Tensor

BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1},
}
"""Bytes of one entry, for every stored dtype that is read here."""

EXPONENT = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
"""The floating-point dtypes: their bits as an integer dtype, and the bits of the exponent."""

TORCH_NAME = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8"},
    **{"U8": "uint8", "BOOL": "bool"},
}

STORED_NAME = {name: stored for stored, name in TORCH_NAME.items()}

CHUNK_BYTES = 16 * 2**20
HEADER_BYTES_LIMIT = 100 * 10**6  # the format's own limit
DIMENSIONS_LIMIT = 32
ENTRIES_LIMIT = 2**59  # their bytes can be counted in 64 bits
NAME_LIMIT = 200
"""Characters of a shard's name at most; file systems take 255 bytes."""

SHARD_BYTES = 4 * 2**30


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: bytes ``begin`` to ``end`` (absolute) of ``file``, row-major."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    end: int

    @property
    def numel(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of stored bytes."""
        return self.end - self.begin

    @property
    def is_float(self) -> bool:
        """Whether the entries are floating-point numbers, which alone the method works on."""
        return self.dtype in EXPONENT

    def read(self) -> Tensor:
        """The tensor in its stored dtype, in memory of its own."""
        return self.read_entries(0, self.numel).clone().view(self.shape)

    def read_entries(self, begin: int, end: int) -> Tensor:
        """Entries ``begin`` to ``end``, in row-major order, flat, as the file holds them now.

        They are mapped, not copied: to be used at once.  What is written to them stays in memory.
        """
        import torch

        dtype, itemsize = getattr(torch, TORCH_NAME[self.dtype]), BYTES[self.dtype]
        if begin == end:
            return torch.empty(0, dtype=dtype)
        offset = self.begin + begin * itemsize
        page = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        length = offset - page + (end - begin) * itemsize
        # no Python file object: it costs more than a small read
        descriptor = os.open(self.file, os.O_RDONLY)
        try:
            mapped = mmap.mmap(descriptor, length, access=mmap.ACCESS_COPY, offset=page)
        except ValueError as error:
            message = f"{self.file}: became shorter while it was read; fetch it again"
            raise InputError(message) from error
        finally:
            os.close(descriptor)
        if hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_WILLNEED)  # from a disk: all of it at once
        if offset % itemsize:
            return torch.frombuffer(bytearray(mapped[offset - page :]), dtype=dtype)
        return torch.frombuffer(mapped, dtype=dtype, offset=offset - page)

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[memoryview]:
        """The stored bytes in order, in pieces of at most ``size`` bytes (of whole entries)."""
        buffer = memoryview(bytearray(min(size, self.nbytes)))
        with self.file.open("rb", buffering=0) as stream:
            stream.seek(self.begin)
            for start in range(0, self.nbytes, size):
                piece = buffer[: min(size, self.nbytes - start)]
                _read_into(stream, piece, self.file)
                yield piece

    def same_as(self, other: TensorInfo) -> bool:
        """Whether both hold the same entries, bit for bit, in the same dtype and shape."""
        if (self.dtype, self.shape) != (other.dtype, other.shape):
            return False
        return all(x == y for x, y in zip(self.chunks(), other.chunks(), strict=True))

    def is_finite(self) -> bool:
        """Whether no entry is NaN or infinite: such a number has all exponent bits set."""
        return all(all_finite(piece, self.dtype) for piece in self.chunks())


def is_float(dtype: str) -> bool:
    """Whether a stored dtype is one of floating-point numbers."""
    return dtype in EXPONENT


def all_finite(piece: memoryview, dtype: str) -> bool:
    """Whether ``piece``, raw entries of the stored dtype ``dtype``, holds no NaN and no Inf."""
    if dtype not in EXPONENT:
        return True
    bits, exponent = EXPONENT[dtype]
    entries = np.frombuffer(piece, dtype=bits)
    return not bool(((entries & entries.dtype.type(exponent)) == exponent).any())


def open_tensors(folder: Path, stem: str) -> dict[str, TensorInfo]:
    """The tensors of ``STEM.safetensors``, or of the shards that its index names, sorted by name.

    An index names files in its own folder. Links are followed wherever they lead, as the caches of
    hubs need: what is there is read as safetensors or not at all.

    Raises:
        InputError: a missing file, a shard or tensor that the index names and that is not there,
            or a header that does not fit its file.
    """
    single = folder / f"{stem}.safetensors"
    if single.is_file():
        return dict(sorted(read_header(single).items()))
    index = folder / f"{stem}.safetensors.index.json"
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise InputError(f"{index}: weight_map: missing; an index maps tensor names to shard files")
    shards: dict[str, dict[str, TensorInfo]] = {}
    tensors = {}
    for name, shard in sorted(weight_map.items()):
        if not isinstance(shard, str) or not _is_shard(shard):
            raise InputError(
                f"{index}: weight_map: {name!r} names {shard!r}, not a .safetensors file beside it"
            )
        if shard not in shards:
            if not (folder / shard).is_file():
                raise InputError(f"{index}: names the shard {shard}, which is not there; fetch it")
            shards[shard] = read_header(folder / shard)
        if name not in shards[shard]:
            raise InputError(f"{index}: tensor {name!r} is not in {shard}, which it should be in")
        tensors[name] = shards[shard][name]
    return tensors


def _is_shard(name: str) -> bool:
    own = Path(name).name == name and len(name) <= NAME_LIMIT
    return own and name.endswith(".safetensors")


def read_header(file: Path) -> dict[str, TensorInfo]:
    """The tensors of one safetensors file, as its header gives them, in stored order.

    Raises:
        InputError: lengths, dtypes or offsets that do not fit each other or the file.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if length > min(size - 8, HEADER_BYTES_LIMIT):
            raise InputError(f"{file}: not a whole safetensors file ({size} bytes); fetch it again")
        text = stream.read(length)
    try:
        # other readers may take another one of two entries with one name
        header = parse_json(text.decode(), f"{file}: its header", unique=True)
        _require_text(header.pop("__metadata__", None) or {})
        entries = {k: _entry(file, v, 8 + length) for k, v in header.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file}: not a safetensors file: its header cannot be read") from error
    place = 8 + length
    for name, info in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != place or info.nbytes != info.numel * BYTES[info.dtype]:
            raise InputError(
                f"{file}: tensor {name!r}: {info.dtype} {list(info.shape)} does not fit bytes "
                f"{info.begin} to {info.end}; the file is damaged, fetch it again"
            )
        place = info.end
    if place != size:
        raise InputError(
            f"{file}: holds {size} bytes where its header says {place}; fetch it again"
        )
    return entries


def write_tensors(
    folder: Path,
    tensors: Iterable[tuple[str, Tensor]],
    *,
    shard_bytes: int = SHARD_BYTES,
    stem: str = "model",
) -> None:
    """Write ``tensors`` into ``folder`` as they come, holding one shard in memory at most.

    One shard becomes ``STEM.safetensors``, several ``STEM-00001-of-0000N.safetensors`` with
    ``STEM.safetensors.index.json``, the layout that transformers and vLLM read.  A tensor larger
    than ``shard_bytes`` gets a shard of its own.  The same tensors give the same bytes.
    """
    from safetensors.torch import save_file

    parts: list[tuple[Path, list[str]]] = []
    shard: dict[str, Tensor] = {}
    storages: set[int] = set()
    held = total = 0

    def close_shard() -> None:
        part = folder / f"{stem}-{len(parts) + 1:05d}.part"
        save_file(shard, part, metadata={"format": "pt"})
        parts.append((part, list(shard)))
        shard.clear()
        storages.clear()

    for name, tensor in tensors:
        tensor = tensor.detach().cpu().contiguous()
        if shard and held + tensor.nbytes > shard_bytes:
            close_shard()
            held = 0
        # two names for one storage (tied weights) are written twice, as the caller asked
        storage = tensor.untyped_storage().data_ptr()
        shard[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
        held += tensor.nbytes
        total += tensor.nbytes
    if shard or not parts:
        close_shard()
    _name_shards(folder, stem, parts, total)


def write_json(file: Path, value: dict[str, Any]) -> None:
    """Write ``value`` to ``file`` as readable JSON; the same value gives the same bytes."""
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _entry(file: Path, entry: dict[str, Any], data: int) -> TensorInfo:
    """One header entry, its types checked; offsets count from ``data``, the header's end."""
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not all(type(n) is int and 0 <= n < ENTRIES_LIMIT for n in (*shape, begin, end)):
        raise ValueError("a shape or an offset is no natural number, or too large")
    # what is empty may have any shape otherwise
    if len(shape) > DIMENSIONS_LIMIT or math.prod(n or 1 for n in shape) >= ENTRIES_LIMIT:
        raise ValueError("a shape that no tensor has")
    if dtype not in BYTES:
        raise InputError(
            f"{file}: dtype {dtype} is not read here ({', '.join(BYTES)} are); "
            f"give the checkpoint as it was before quantisation"
        )
    return TensorInfo(dtype, tuple(shape), file, data + begin, data + end)


def _require_text(metadata: dict[str, str]) -> None:
    """Raise ValueError unless ``metadata`` maps text to text, without which nothing else reads."""
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__ maps text to text")


def _read_into(stream: Any, buffer: Any, file: Path) -> None:
    """Fill ``buffer`` from ``stream``: one read may return less than was asked for."""
    view = memoryview(buffer)
    while len(view):
        count = stream.readinto(view)
        if not count:
            raise InputError(f"{file}: became shorter while it was read; fetch it again")
        view = view[count:]


def _name_shards(folder: Path, stem: str, parts: list[tuple[Path, list[str]]], total: int) -> None:
    """Give the finished shards their final names, which say how many there are, and an index."""
    if len(parts) == 1:
        os.rename(parts[0][0], folder / f"{stem}.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, (part, names) in enumerate(parts, start=1):
        file = f"{stem}-{number:05d}-of-{len(parts):05d}.safetensors"
        os.rename(part, folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / f"{stem}.safetensors.index.json", index)

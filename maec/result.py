"""The second pass: Θ_F chunk by chunk, rounded once to the dtype of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from maec.ability import AbilityWeights
from maec.arithmetic import round_sum, rounded
from maec.checkpoint import Checkpoint
from maec.chunks import Chunk, in_order, tracked
from maec.combine import combined
from maec.errors import InputError
from maec.layout import Layout, Writer
from maec.neurons import width_of
from maec.progress import Track
from maec.survey import Models
from maec.tensors import STORED_NAME
from maec.vocabulary import Extension


@dataclass(frozen=True)
class Addend:
    """One ability's part in the sum: R(A), γ_A, and the names in T(A)."""

    weights: AbilityWeights
    gamma: float
    selected: Set[str]


@dataclass(frozen=True)
class Result:
    """Θ_F[τ] = Θ_o[τ] + λ·R_lang[τ] + Σ_{A : τ ∈ T(A)} γ_A·R(A)[τ] for every τ of ``base``.

    Tensors that are not floating-point are the base's, unchanged *(choice)*.  With an
    ``extension`` the embeddings have its rows.
    """

    base: Checkpoint
    models: Models
    addends: Sequence[Addend]
    lam: float
    dtype: torch.dtype
    extension: Extension | None

    def layout(self) -> Layout:
        """Stored dtype and shape of every tensor, by name."""
        stored = STORED_NAME[str(self.dtype).removeprefix("torch.")]
        return {
            name: (stored, self._shape(name)) if info.is_float else (info.dtype, info.shape)
            for name, info in self.base.tensors.items()
        }

    def write(self, writer: Writer, track: Track) -> Lost:
        """Fill the files that are laid out for ``layout``; what rounding took."""
        for name, info in self.base.tensors.items():
            if not info.is_float:
                writer.write(name, 0, self.base.read(name).flatten())
        lost = Lost.none(len(self.addends))

        def write(chunk: Chunk, merged: Tensor) -> None:
            # a vocabulary can be smaller than the base's, whose rows are then more than tokens
            kept = max(self._entries(chunk.name) - chunk.begin, 0)
            writer.write(chunk.name, chunk.begin, merged[:kept])

        results = self._chunks(write)
        for _, (_, of_chunk) in tracked(results, self.models.shapes, track, "writing"):
            lost.add(of_chunk)
        for name in sorted(self.extension.names) if self.extension else ():
            width = self._shape(name)[1]
            for row, entries in zip(*self._new_rows(name), strict=True):
                writer.write(name, int(row) * width, entries)
        return lost

    def tensors(self, track: Track) -> Iterator[tuple[str, Tensor]]:
        """Every tensor, in the base's order, as ``write`` writes it."""
        by_tensor = groupby(self._chunks(), key=lambda result: result[0].name)
        current = next(by_tensor, None)
        for name in track(self.base.tensors, "writing"):
            info = self.base.tensors[name]
            if not info.is_float:
                yield name, self.base.read(name)
                continue
            entries = torch.empty(0, dtype=self.dtype)
            if current is not None and current[0] == name:
                entries = torch.cat([merged for _, (merged, _) in current[1]])
                current = next(by_tensor, None)
            yield name, self._extended(name, entries).view(self._shape(name))

    def _chunks(
        self, write: Callable[[Chunk, Tensor], None] | None = None
    ) -> Iterator[tuple[Chunk, tuple[Tensor, Lost]]]:
        """Each chunk of Θ_F, and what rounding took; empty where it was handed to ``write``."""

        def work(chunk: Chunk) -> tuple[Tensor, Lost]:
            merged, lost = self._chunk(chunk)
            if write is None:
                return merged, lost
            write(chunk, merged)
            return merged[:0].clone(), lost

        return in_order(work, self.models.chunks(), self.models.threads)

    def _chunk(self, chunk: Chunk) -> tuple[Tensor, Lost]:
        parts = [
            (number, addend, addend.weights.over(chunk))
            for number, addend in enumerate(self.addends)
            if chunk.name in addend.selected
        ]
        window = self.models.window(chunk, [addend.weights for _, addend, _ in parts])
        merged = torch.empty(chunk.end - chunk.begin, dtype=self.dtype, device=self.models.device)
        all_finite = True
        lost = Lost.none(len(self.addends))
        width = width_of(self.models.shapes[chunk.name], self.models.granularity)
        for piece in window.pieces(width):
            weights = [(entries(piece), addend.gamma) for _, addend, entries in parts]
            change = combined(self.models.language(piece), weights, self.lam)
            stored = merged[piece.begin : piece.end]
            finite, *sums = round_sum(piece.origin, change, stored)
            all_finite &= finite
            if self.dtype != torch.float32:
                lost.of_model += sums
                for (number, _, _), (part, gamma) in zip(parts, weights, strict=True):
                    of_part = rounded(piece.origin, change, stored, part, gamma)
                    lost.of_ability[number] += of_part
        self._require_finite(chunk.name, all_finite)
        return merged.cpu(), lost

    def _require_finite(self, name: str, is_finite: bool) -> None:
        dtype = str(self.dtype).removeprefix("torch.")
        if not is_finite:
            raise InputError(
                f"tensor {name!r}: the result overflows {dtype}; "
                f"give another dtype, or smaller weights"
            )

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self.base.tensors[name].shape
        if self.extension is None or name not in self.extension.names:
            return shape
        return self.extension.largest.size, *shape[1:]

    def _entries(self, name: str) -> int:
        return int(np.prod(self._shape(name), dtype=np.int64))

    def _new_rows(self, name: str) -> tuple[Tensor, Tensor]:
        assert self.extension is not None, "only an extension has rows of its own"
        ids, rows = self.extension.new_rows(name, self.base.tensors[name].shape[0])
        stored = rows.to(self.dtype)
        self._require_finite(name, bool(torch.isfinite(stored).all()))
        return ids, stored

    def _extended(self, name: str, entries: Tensor) -> Tensor:
        if self.extension is None or name not in self.extension.names:
            return entries
        width = self._shape(name)[1]
        result = torch.empty(self._shape(name), dtype=self.dtype)
        present = entries.view(-1, width)[: len(result)]
        result[: len(present)] = present
        ids, rows = self._new_rows(name)
        result[ids] = rows
        return result


@dataclass
class Lost:
    """What rounding took: the sums that ``rounding`` describes, of the model and by addend."""

    of_model: np.ndarray
    of_ability: np.ndarray

    @classmethod
    def none(cls, abilities: int) -> Lost:
        """Nothing yet."""
        return cls(np.zeros(2), np.zeros((abilities, 4)))

    def add(self, other: Lost) -> None:
        """Take in what rounding took elsewhere."""
        self.of_model += other.of_model
        self.of_ability += other.of_ability

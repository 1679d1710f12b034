"""The pass that writes: Θ_F chunk by chunk, rounded once to the dtype of the result.

Similarities are measured meanwhile: they say what is selected, so that it is guessed until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maec.ability import AbilityWeights
from maec.arithmetic import Merged, Part
from maec.checkpoint import Checkpoint
from maec.chunks import Chunk, in_order, tracked
from maec.combine import cosine, merged
from maec.errors import InputError
from maec.layout import Layout, Writer
from maec.neurons import width_of
from maec.progress import Track
from maec.provenance import Sources
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

    def write(
        self,
        writer: Writer,
        track: Track,
        *,
        sources: Sources | None = None,
        only: Set[str] | None = None,
    ) -> dict[str, OfTensor]:
        """Fill the files that are laid out for ``layout``, and say of each tensor what was seen.

        ``sources`` are told of every window, in order; ``only`` names the tensors to be written.
        """
        if only is None:
            for name, info in self.base.tensors.items():
                if not info.is_float:
                    writer.write(name, 0, self.base.read(name).flatten())

        def write(chunk: Chunk, merged: Tensor) -> None:
            # a vocabulary can be smaller than the base's, whose rows are then more than tokens
            kept = max(self._entries(chunk.name) - chunk.begin, 0)
            writer.write(chunk.name, chunk.begin, merged[:kept])

        seen = self._pass(write, "writing", track, sources, only)
        for name in sorted(self.extension.names & seen.keys()) if self.extension else ():
            width = self._shape(name)[1]
            for row, entries in zip(*self._new_rows(name), strict=True):
                writer.write(name, int(row) * width, entries)
        return seen

    def measure(self, track: Track, sources: Sources) -> dict[str, OfTensor]:
        """What ``write`` says of each tensor, without writing."""
        return self._pass(lambda chunk, merged: None, "reading", track, sources)

    def differs(self, other: Result) -> set[str]:
        """The tensors to which another ability is added in ``other``."""
        pairs = zip(self.addends, other.addends, strict=True)
        return {name for one, two in pairs for name in one.selected ^ two.selected}

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

    def require_finite(self, seen: Mapping[str, OfTensor]) -> None:
        """Raise InputError for the first tensor whose result overflows the dtype."""
        for name, of_tensor in seen.items():
            self._require_finite(name, of_tensor.is_finite)

    def _pass(
        self,
        put: Callable[[Chunk, Tensor], None],
        doing: str,
        track: Track,
        sources: Sources | None,
        only: Set[str] | None = None,
    ) -> dict[str, OfTensor]:
        """Make every chunk, have workers ``put`` it somewhere, and say what was seen by tensor."""
        shapes = self.models.shapes
        if only is not None:
            shapes = {name: shape for name, shape in shapes.items() if name in only}
        seen = {name: OfTensor.nothing(len(self.addends)) for name in shapes}

        def work(chunk: Chunk) -> tuple[OfTensor, dict[Path, bytes]]:
            entries, of_chunk, digests = self._chunk(chunk, sources)
            put(chunk, entries)
            return of_chunk, digests

        chunks = replace(self.models, shapes=shapes).chunks()
        results = in_order(work, chunks, self.models.threads)
        for chunk, (of_chunk, digests) in tracked(results, shapes, track, doing):
            if sources:
                sources.feed(chunk.name, digests)
            seen[chunk.name].add(of_chunk)
        return seen

    def _chunks(self) -> Iterator[tuple[Chunk, tuple[Tensor, OfTensor]]]:
        """Each chunk of Θ_F, and what was seen of it."""

        def work(chunk: Chunk) -> tuple[Tensor, OfTensor]:
            merged, of_chunk, _ = self._chunk(chunk)
            self._require_finite(chunk.name, of_chunk.is_finite)
            return merged, of_chunk

        return in_order(work, self.models.chunks(), self.models.threads)

    def _chunk(
        self, chunk: Chunk, sources: Sources | None = None
    ) -> tuple[Tensor, OfTensor, dict[Path, bytes]]:
        """A chunk of Θ_F, what was seen of it, and, for ``sources``, its digests."""
        abilities = [
            (number, addend, addend.weights.over(chunk))
            for number, addend in enumerate(self.addends)
            if sources or chunk.name in addend.selected
        ]
        window = self.models.window(chunk, [addend.weights for _, addend, _ in abilities])
        digests = sources.digested(window) if sources else {}
        out = torch.empty(chunk.end - chunk.begin, dtype=self.dtype, device=self.models.device)
        seen = OfTensor.nothing(len(self.addends))
        numbers = [number for number, *_ in abilities]
        width = width_of(self.models.shapes[chunk.name], self.models.granularity)
        for piece in window.pieces(width):
            languages = [(piece.of(model), mu) for model, mu in self.models.languages]
            parts = [
                Part(entries(piece), addend.gamma, chunk.name in addend.selected)
                for _, addend, entries in abilities
            ]
            stored = out[piece.begin : piece.end]
            seen.take(merged(piece.origin, languages, parts, self.lam, stored), numbers)
        return out.cpu(), seen, digests

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
class OfTensor:
    """What is seen of a tensor, or of a chunk of one, while it is merged: see ``Merged``."""

    is_finite: bool
    sums: np.ndarray
    abilities: np.ndarray

    @classmethod
    def nothing(cls, abilities: int) -> OfTensor:
        """Nothing yet."""
        return cls(True, np.zeros(3), np.zeros((abilities, 7)))

    def take(self, piece: Merged, numbers: Sequence[int]) -> None:
        """Take in what was seen of a piece, in which the abilities have these numbers."""
        self.is_finite &= piece.is_finite
        self.sums += piece.sums
        self.abilities[numbers] += piece.of_abilities

    def similarity(self, ability: int) -> float:
        """The cosine of R(A) and R_lang."""
        _, product, square, *_ = self.abilities[ability]
        return cosine(float(product), float(square), float(self.sums[0]))

    def add(self, other: OfTensor) -> None:
        """Take in what was seen elsewhere."""
        self.is_finite &= other.is_finite
        self.sums += other.sums
        self.abilities += other.abilities

"""Models with more tokens than their base: ``vocabulary: pad`` *(choice)*.

A language continuation may have extended the tokenizer: the base's tokens keep their ids and rows,
new ones follow.  The method works on the rows both have.  A row of a new token has no Θ_o to be a
difference from, so it is taken as it is: from the language model that has it, or where several do,
as their mean weighted by μ.  λ, similarity and abilities leave it alone, and new tokens of ability
models are left out.  Rows that are no token at all, by which libraries round a vocabulary up, are
the base's where it has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from maec import tokenizer
from maec.checkpoint import Checkpoint, embeddings
from maec.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The embeddings of ``model`` beside those of ``base``.

    ``names`` are the tensors with a row for each token.  The first ``common`` rows are the same
    tokens in both; ``new`` are the ids of the tokens that only the model has, in order.
    """

    base: Checkpoint
    model: Checkpoint
    names: frozenset[str]
    common: int
    new: tuple[int, ...]

    @property
    def size(self) -> int:
        """Rows of the model's embeddings."""
        return min(self.model.tensors[name].shape[0] for name in self.names)

    def read(self, name: str) -> Tensor:
        """The model's tensor in the base's shape; rows that are not common are the base's."""
        info = self.base.tensors[name]
        return self.read_entries(name, 0, info.numel).clone().view(info.shape)

    def read_entries(self, name: str, begin: int, end: int) -> Tensor:
        """Entries ``begin`` to ``end`` of ``read``, row-major and flat."""
        import torch

        if name not in self.names:
            return self.model.read_entries(name, begin, end)
        width = self.base.tensors[name].shape[1]
        cut = min(max(self.common * width, begin), end)
        parts = [(self.model, begin, cut), (self.base, cut, end)]
        return torch.cat([part.read_entries(name, a, b) for part, a, b in parts if a < b])


def common_rows(base: Checkpoint, model: Checkpoint) -> Rows:
    """Which rows of the embeddings of ``model`` are tokens of ``base``, and which are new.

    Raises:
        InputError: a token of the base has another id or no row, or there is no tokenizer to tell.
    """
    names = frozenset(name for name in embeddings(base) if name in model.tensors)
    sizes = [checkpoint.tensors[name].shape[0] for checkpoint in (base, model) for name in names]
    fewest = min(sizes, default=0)
    same = not tokenizer.difference(base.path, model.path)
    if same and len(set(sizes)) <= 1:
        return Rows(base, model, names, fewest, ())
    if not names:
        raise InputError(
            f"{base.path}: no tensor with config.json's vocab_size rows, so there is nothing to "
            f"pad; leave out vocabulary: pad"
        )
    tokenizer.require_extension(base.path, model.path)
    tokens = max(tokenizer.token_ids(base.path), default=-1) + 1
    if fewest < min(tokens, base.config["vocab_size"]):
        raise InputError(
            f"{model.path}: its embeddings have {fewest} rows for the {tokens} tokens of "
            f"{base.path}; give models trained from one base"
        )
    if same:
        return Rows(base, model, names, fewest, ())
    size = min(model.tensors[name].shape[0] for name in names)
    new = tuple(i for i in sorted(tokenizer.token_ids(model.path)) if tokens <= i < size)
    return Rows(base, model, names, min(tokens, fewest), new)


@dataclass(frozen=True)
class Extension:
    """The new rows of a merged model: the language models that have them, fewest tokens first."""

    models: Sequence[tuple[Rows, float]]

    @property
    def largest(self) -> Rows:
        """The model with most tokens, whose tokenizer and number of rows the result takes."""
        return self.models[-1][0]

    @property
    def names(self) -> frozenset[str]:
        """The tensors that get new rows."""
        return self.largest.names

    @property
    def folder(self) -> Path:
        """Where the result's tokenizer lies."""
        return self.largest.model.path

    def new_rows(self, name: str, present: int) -> tuple[Tensor, Tensor]:
        """Ids (int64) and float32 rows of the tokens that the first ``present`` rows lack.

        A new token's row is Σ_j μ_j·Θ_Lj / Σ_j μ_j over the language models j that have it; a row
        that is no token is that of the largest model.
        """
        import torch

        ids = torch.tensor(sorted({*self.largest.new, *range(present, self.largest.size)}))
        if not len(ids):
            return ids.long(), torch.empty(0, self._width(name))
        first = int(ids[0])
        result = self._rows(self.largest, name, first)
        total = torch.zeros(len(result), dtype=torch.float64)
        for rows, mu in self.models:
            total[torch.tensor(rows.new) - first] += mu
        result[torch.tensor(self.largest.new) - first] = 0
        for rows, mu in self.models:
            new = torch.tensor(rows.new) - first
            share = (mu / total[new]).float()[:, None]
            result[new] += share * self._rows(rows, name, first)[new]
        return ids, result[ids - first]

    def _rows(self, rows: Rows, name: str, first: int) -> Tensor:
        """The rows of a model's embeddings from ``first`` on, float32."""
        width = self._width(name)
        entries = rows.model.read_entries(name, first * width, rows.size * width)
        return entries.float().view(-1, width)

    def _width(self, name: str) -> int:
        return self.largest.model.tensors[name].shape[1]


def extension(languages: Sequence[tuple[Rows | None, float]]) -> Extension | None:
    """What the language models add to the base's vocabulary, from their rows and μ; or None.

    Raises:
        InputError: two of them disagree about a new token, or one has no positive μ.
    """
    models = [(rows, mu) for rows, mu in languages if rows is not None]
    for rows, mu in models:
        if mu <= 0:
            raise InputError(
                f"{rows.model.path}: mu: {mu} for a model with tokens of its own, whose rows are "
                f"weighted by it; give one above 0"
            )
    models.sort(key=lambda entry: len(entry[0].new))
    for (smaller, _), (larger, _) in pairwise(models):
        tokenizer.require_extension(smaller.model.path, larger.model.path)
    return Extension(models) if models else None

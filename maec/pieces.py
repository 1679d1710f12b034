"""Arithmetic on large tensors piece by piece, so that intermediate results stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

PIECE = 2**17
"""Entries of a piece: half a MiB of float32."""


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Aligned flat pieces of contiguous tensors of one shape, as views: writing to one is lasting.

    An operation on whole tensors allocates each intermediate result anew, which costs more than
    the arithmetic; on pieces that memory is small and used again.
    """
    return zip(*(tensor.view(-1).split(PIECE) for tensor in tensors), strict=True)

"""Do workers together serve a checkpoint? Against products of whole matrices, without an engine."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from harness.served import Piece, Rows, StreamedProducts, _probe, differences
from maec.checkpoint import open_checkpoint
from tests.maec.checkpoints import llama, write

WIDTH, HEAD = 16, 4
EXACT, ROUNDED, QUANTISED = 1e-4, 1e-2, 0.1
Q, K, DOWN = "model.layers.0.q.weight", "model.layers.0.k.weight", "model.layers.0.down.weight"
EMBED, NORM = "model.embed.weight", "model.norm.weight"

Model = dict[str, torch.Tensor]


def model(seed: int, width: int = WIDTH) -> Model:
    random = torch.Generator().manual_seed(seed)
    shapes = {Q: (16, width), K: (8, width), DOWN: (12, width), EMBED: (21, width), NORM: (width,)}
    return {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


@pytest.fixture
def expected(tmp_path) -> Callable[[Model], dict[str, Rows]]:
    write(tmp_path / "base", llama(np.random.default_rng(0)))
    base = open_checkpoint(tmp_path / "base")

    def products(tensors: Model) -> dict[str, Rows]:
        passed = StreamedProducts(base, torch.float32)
        assert dict(passed.watch(tensors.items())).keys() == tensors.keys()
        return passed.products()

    return products


def by_hand(matrix: torch.Tensor, columns: slice = slice(None)) -> Rows:
    """With numpy in float64, of some columns of the whole matrix."""
    width = matrix.shape[-1]
    if matrix.dim() == 1:
        return Rows(1, matrix)
    probe = _probe(width).numpy().astype(np.float64)[columns]
    found = matrix.numpy().astype(np.float64)[:, columns] @ probe
    return Rows(width, torch.from_numpy(found).float())


def workers(tensors: Model, size: int, of_worker: dict[int, Model] | None = None) -> list:
    """What ``size`` workers answer: rows of q, heads of k (copies, where workers are more than the
    two heads), columns of down, words of the vocabulary, and the whole norm.

    ``of_worker`` has tensors of which one worker has others.
    """
    answers = []
    for rank in range(size):
        own = tensors | (of_worker or {}).get(rank, {})
        replicas = max(1, size // 2)
        keys = own[K].chunk(size // replicas)[rank // replicas]
        step = WIDTH // size
        words = own[EMBED][rank * 24 // size : (rank + 1) * 24 // size]
        answers.append(
            [
                Piece(Q, (0, rank), by_hand(own[Q].chunk(size)[rank])),
                Piece(K, (1, rank // replicas), by_hand(keys)),
                Piece(
                    DOWN,
                    (0, 0),
                    by_hand(own[DOWN], slice(rank * step, (rank + 1) * step)),
                    partial=True,
                ),
                Piece(EMBED, (0, rank), by_hand(words)),
                Piece(NORM, (0, 0), by_hand(own[NORM])),
            ]
        )
    return answers


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_parts_of_workers_make_up_the_whole(expected, size: int) -> None:
    tensors = model(0)
    assert differences(workers(tensors, size), expected(tensors), EXACT) == []
    # in whatever order they answer
    assert differences(workers(tensors, size)[::-1], expected(tensors), EXACT) == []


@pytest.mark.parametrize("tolerance", [EXACT, ROUNDED, QUANTISED])
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", [Q, K, DOWN, EMBED, NORM])
def test_one_stale_part_on_one_worker_is_found_and_named(
    expected, size: int, name: str, tolerance: float
) -> None:
    tensors, stale = model(0), model(1)
    answers = workers(tensors, size, {size - 1: {name: stale[name]}})
    found = differences(answers, expected(tensors), tolerance)
    assert found and found[0].startswith(name) and all(name in one for one in found)


def test_a_part_that_no_worker_has_is_found(expected) -> None:
    tensors = model(0)
    for number, name in enumerate([Q, K, DOWN, EMBED]):
        answers = workers(tensors, 2)
        del answers[1][number]
        assert differences(answers, expected(tensors), EXACT) == [f"{name} differs"]
    without = {other: tensor for other, tensor in tensors.items() if other != NORM}
    found = differences(workers(tensors, 2), expected(without), EXACT)
    assert found == [f"{NORM} is on one side only"]


def test_stages_have_layers_of_their_own_and_may_share_embeddings(expected) -> None:
    tensors = model(0)
    both, stages = workers(tensors, 1)[0], {"first": [Q, K, EMBED], "last": [DOWN, NORM, EMBED]}
    answers = [[piece for piece in both if piece.name in names] for names in stages.values()]
    assert differences(answers, expected(tensors), EXACT) == []
    other = Piece(EMBED, (0, 0), by_hand(model(1)[EMBED]))
    answers[1] = [other if piece.name == EMBED else piece for piece in answers[1]]
    (found,) = differences(answers, expected(tensors), EXACT)
    assert found == f"{EMBED} has copies that differ"


def test_rows_in_another_order_or_by_another_name_are_told_from_stale_ones(expected) -> None:
    tensors = model(0)
    turned = tensors | {Q: tensors[Q].flip(0)}
    turned["renamed.layers.0.k.weight"] = turned.pop(K)

    def answers(tensors: Model) -> list:
        return [[Piece(name, (0, 0), by_hand(tensor)) for name, tensor in tensors.items()]]

    assert differences(answers(turned), expected(tensors), EXACT) == []
    # of one layer, not of any
    turned["renamed.layers.1.k.weight"] = turned.pop("renamed.layers.0.k.weight")
    assert differences(answers(turned), expected(tensors), EXACT)
    # where weights are rounded so much that sorted rows all look alike, order and name must be told
    assert f"{Q} differs" in differences(answers(turned), expected(tensors), QUANTISED)


@pytest.mark.parametrize("width", [64, 4096])
def test_weights_in_8_bits_are_told_from_those_of_another_model(expected, width: int) -> None:
    def quantised(tensor: torch.Tensor) -> torch.Tensor:
        scale = tensor.abs().max() / 448
        return (tensor / scale).to(torch.float8_e4m3fn).float() * scale

    tensors = model(0, width)
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.dim() == 2}
    served = {name: quantised(tensor) for name, tensor in matrices.items()}
    pieces = {name: Piece(name, (0, 0), by_hand(tensor)) for name, tensor in served.items()}
    assert differences([pieces.values()], expected(matrices), QUANTISED) == []
    assert differences([pieces.values()], expected(matrices), EXACT)
    stale = quantised(model(1, width)[K])
    pieces[K] = Piece(K, (0, 0), by_hand(stale))
    assert differences([pieces.values()], expected(matrices), QUANTISED) == [f"{K} differs"]


def test_the_probe_is_exact_in_every_arithmetic_after_its_scaling() -> None:
    for width in (1, 64, 1000, 4096):
        probe = _probe(width)
        assert probe.abs().min() >= 1 and len(probe) == width
        for dtype in (torch.bfloat16, torch.float16):
            assert torch.equal(probe.to(dtype).float(), probe)
        scale = torch.tensor(1.75 / 448)
        assert torch.equal((probe / scale).to(torch.float8_e4m3fn).float() * scale, probe)
    assert {len(_probe(4096).unique()), _probe(4096).abs().max().item()} == {14, 1.75}
    # neighbouring slices differ, so that workers cannot have each other's columns
    assert not torch.equal(_probe(64)[:32], _probe(64)[32:])

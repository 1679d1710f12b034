"""Does a live engine serve exactly the weights of a checkpoint?

vLLM fuses tensors (q, k and v into one), pads the vocabulary, splits matrices among its workers,
and on CPU packs linear layers into an opaque form, so tensors cannot be compared one by one. What
survives all of that is every row of every matrix: its product with a fixed vector, taken from the
engine's live layers and from the checkpoint's files, must be the same number. One stale or missing
tensor gives other numbers.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from maec.checkpoint import Checkpoint

WHOLE = (torch.float32, torch.bfloat16, torch.float16)
"""Arithmetic in which a weight is itself, neither packed nor quantised."""

SORTABLE = 1e-2
"""Above this tolerance the rows of any two models look alike once they are sorted."""


@dataclass(frozen=True)
class Rows:
    """Products of a tensor's rows of one ``width``, in order; a vector's entries have width 1."""

    width: int
    products: torch.Tensor


Products = dict[str, Rows]
"""By a tensor's name, as the checkpoint has it or, where vLLM does not tell that, as vLLM does."""


@dataclass(frozen=True)
class Piece:
    """What one worker has of a tensor.

    Pieces of a tensor follow one another by ``place``. Those of one place are ``partial`` sums of
    the same rows, where workers share columns, or else copies.
    """

    name: str
    place: tuple[int, int]
    rows: Rows
    partial: bool = False


class ServedWeights:
    """Mixed into vLLM's workers (``worker_extension_cls``), so that an engine can be asked."""

    model_runner: Any

    def served_products(self) -> list[Piece]:
        """Row products of everything that this worker's part of the live model computes with."""
        model = self.model_runner.get_model()
        fused = getattr(model, "packed_modules_mapping", {})
        names: dict[int, str] = {}
        found: list[Piece] = []
        for path, module in model.named_modules():
            for name, parameter in module.named_parameters(path, recurse=False):
                # of embeddings that are the output layer, too, that may have a copy
                first = names.setdefault(id(parameter), name)
                if first == name or _is_opaque(module):
                    found += _pieces(module, first, parameter.detach(), fused)
        return found

    def pack_output_layer(self) -> None:
        """Have an output layer compute with the embeddings that it shares.

        On CPU it multiplies with a packed copy, which vLLM 0.32 does not renew when it reloads
        weights, since it loads them into the embeddings alone.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        for module in self.model_runner.get_model().modules():
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)

    def connect_stages(self) -> None:
        """Have room for what the stage before this one computes.

        vLLM 0.32 makes it when it warms up, which it leaves out on CPU.
        """
        from vllm.distributed.parallel_state import get_pp_group

        runner = self.model_runner
        if not get_pp_group().is_first_rank:
            runner.intermediate_tensors = runner.get_model().make_empty_intermediate_tensors(
                batch_size=runner.max_num_tokens,
                dtype=runner.model_config.dtype,
                device=runner.device,
            )


class StreamedProducts:
    """Row products of tensors on their way into an engine, of which none is kept.

    They are rounded to the engine's dtype first. ``base`` tells whether embeddings are tied.
    """

    def __init__(self, base: Checkpoint, dtype: torch.dtype) -> None:
        self._tied = base.config.get("tie_word_embeddings", False)
        self._dtype = dtype
        self._found: Products = {}

    def watch(
        self, tensors: Iterable[tuple[str, torch.Tensor]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in tensors:
            if tensor.is_floating_point() and not (self._tied and name == "lm_head.weight"):
                self._found[name] = _row_products(tensor.to(self._dtype))
            yield name, tensor

    def products(self) -> Products:
        """Of everything that passed."""
        return self._found


def checkpoint_products(checkpoint: Checkpoint, dtype: torch.dtype) -> Products:
    """Row products of a checkpoint's tensors, rounded to the engine's dtype first."""
    passed = StreamedProducts(checkpoint, dtype)
    for _ in passed.watch((name, checkpoint.read(name)) for name in checkpoint.tensors):
        pass
    return passed.products()


def differences(
    workers: Sequence[Iterable[Piece]], expected: Products, tolerance: float
) -> list[str]:
    """What differs, in words; empty when the workers together serve the checkpoint.

    ``tolerance`` is relative to the largest product of the same tensor.
    """
    served, problems = _together(workers, tolerance)
    same = {
        name
        for name in served.keys() & expected.keys()
        if _agree(served[name].products, expected[name].products, tolerance)
    }
    ours, theirs = (
        {name: rows for name, rows in found.items() if name not in same}
        for found in (served, expected)
    )
    if tolerance <= SORTABLE and _agree_sorted(ours, theirs, tolerance):
        return problems
    return problems + [
        f"{name} differs" if name in ours and name in theirs else f"{name} is on one side only"
        for name in sorted(ours.keys() | theirs.keys())
    ]


def _agree_sorted(served: Products, expected: Products, tolerance: float) -> bool:
    """Whether tensors agree that vLLM names otherwise, or whose rows it put in another order."""
    ours, theirs = _by_layer(served), _by_layer(expected)
    return ours.keys() == theirs.keys() and all(
        _agree(ours[place], theirs[place], tolerance) for place in ours
    )


def _by_layer(found: Products) -> dict[tuple[int, int], torch.Tensor]:
    """Products by layer (its number in the name, else -1) and width, sorted."""
    groups: dict[tuple[int, int], list[torch.Tensor]] = defaultdict(list)
    for name, rows in found.items():
        number = re.search(r"\.(\d+)\.", name)
        groups[int(number[1]) if number else -1, rows.width].append(rows.products)
    whole = {place: torch.cat(products) for place, products in groups.items()}
    # rows of zeros are padding
    kept = {place: products[products != 0].sort().values for place, products in whole.items()}
    return {place: products for place, products in kept.items() if len(products)}


def _together(workers: Sequence[Iterable[Piece]], tolerance: float) -> tuple[Products, list[str]]:
    """The tensors that workers have pieces of, and the names of those whose copies differ."""
    tensors: dict[str, dict[tuple[int, int], Rows]] = defaultdict(dict)
    problems = []
    for piece in (piece for worker in workers for piece in worker):
        places, rows = tensors[piece.name], piece.rows
        known = places.get(piece.place)
        if known is None:
            places[piece.place] = rows
        elif piece.partial:
            places[piece.place] = Rows(rows.width, known.products + rows.products)
        elif not _agree(known.products, rows.products, tolerance):
            problems.append(f"{piece.name} has copies that differ")
    return {name: _joined(places) for name, places in tensors.items()}, problems


def _joined(places: Mapping[tuple[int, int], Rows]) -> Rows:
    parts = [places[place] for place in sorted(places)]
    return Rows(parts[0].width, torch.cat([part.products for part in parts]))


def _agree(one: torch.Tensor, two: torch.Tensor, tolerance: float) -> bool:
    if len(one) != len(two):
        return False
    if not len(one):
        return True
    # NaN is no agreement
    return bool((one - two).abs().max() <= tolerance * max(two.abs().max().item(), 1e-6))


def _pieces(
    module: torch.nn.Module, name: str, tensor: torch.Tensor, fused: Mapping[str, Sequence[str]]
) -> Iterator[Piece]:
    """What a parameter ``name`` of a vLLM module holds, by the checkpoint's names."""
    from vllm.model_executor.layers.linear import (
        ColumnParallelLinear,
        LinearBase,
        QKVParallelLinear,
        RowParallelLinear,
    )
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    rank = getattr(module, "tp_rank", 0)
    if isinstance(module, RowParallelLinear):
        begin = rank * module.input_size_per_partition
        rows = _rows(module, name, tensor, module.input_size, begin)
        if rows is not None:
            # a bias is whole on every worker
            yield Piece(name, (0, 0), rows, partial=name.endswith(".weight"))
    elif isinstance(module, VocabParallelEmbedding):
        rows = _rows(module, name, tensor, module.embedding_dim, 0)
        if rows is not None:  # behind the words of this worker there is padding
            words = module.shard_indices.num_org_elements
            yield Piece(name, (0, rank), Rows(rows.width, rows.products[:words]))
    elif isinstance(module, ColumnParallelLinear):
        rows = _rows(module, name, tensor, module.input_size, 0)
        if rows is None:
            return
        sizes = module.output_partition_sizes
        replicas = module.num_kv_head_replicas if isinstance(module, QKVParallelLinear) else 1
        names = _unfused(name, fused, len(sizes))
        for part, products in enumerate(rows.products.split(list(sizes))):
            # workers that share a key's head have copies of it
            shard = rank // replicas if part else rank
            yield Piece(names[part], (part, shard), Rows(rows.width, products))
    else:
        own = tensor.shape[-1] if tensor.dim() else 1
        width = module.input_size if isinstance(module, LinearBase) else own
        rows = _rows(module, name, tensor, width, 0)
        if rows is not None:  # whole on every worker
            yield Piece(name, (0, 0), rows)


def _is_opaque(module: torch.nn.Module) -> bool:
    """Whether a layer computes with something else than the matrix that can be read."""
    from vllm.model_executor.layers.linear import LinearBase
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    if isinstance(module, LinearBase):
        return module.weight.numel() == 0 or module.weight.dtype not in WHOLE
    return isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear")


def _unfused(name: str, fused: Mapping[str, Sequence[str]], parts: int) -> list[str]:
    """The checkpoint's names for the parts of a tensor that vLLM has fused."""
    path, _, own = name.rpartition(".")
    parent, _, layer = path.rpartition(".")
    names = fused.get(layer, ())
    if len(names) != parts:
        return [name] * parts
    return [".".join(filter(None, (parent, one, own))) for one in names]


def _rows(
    module: torch.nn.Module, name: str, tensor: torch.Tensor, width: int, begin: int
) -> Rows | None:
    """Products with the part of the probe for ``width`` columns that starts at ``begin``.

    None for what only helps a quantised weight, such as its scales.
    """
    if not _is_opaque(module) or name.endswith(".bias"):
        return _row_products(tensor, width, begin)
    if not name.endswith(".weight"):
        return None
    # what cannot be read multiplies by itself
    columns = slice(begin, begin + getattr(module, "input_size_per_partition", width))
    probe = _probe(width)[columns].to(tensor.device, module.params_dtype)
    rows = module.quant_method.apply(module, probe.unsqueeze(0), None)
    return Rows(width, rows.flatten().to("cpu", torch.float32))


def _probe(width: int) -> torch.Tensor:
    """Random numbers that even 8 bits hold exactly, so that only weights are ever rounded.

    They are ±8/8 to ±14/8, so that the largest, by which engines scale what they quantise, is that
    of e4m3 (448) times a power of two.
    """
    random = torch.Generator().manual_seed(width)
    sizes = torch.randint(8, 15, (width,), generator=random)
    signs = 2 * torch.randint(0, 2, (width,), generator=random) - 1
    return (signs * sizes) / 8


def _row_products(tensor: torch.Tensor, width: int | None = None, begin: int = 0) -> Rows:
    """Of all rows; of their columns from ``begin`` on, where a whole row has ``width`` columns."""
    values = tensor.to("cpu", torch.float32)
    if values.dim() < 2:
        return Rows(1, values.flatten())
    held = values.shape[-1]
    width = held if width is None else width
    return Rows(width, values.reshape(-1, held) @ _probe(width)[begin : begin + held])

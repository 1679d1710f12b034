"""Extraction: the ability weights R(A) of one model, kept as a sparse pack (Extraction 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

import maec
from maec import arithmetic
from maec.ability import AbilityWeights, Masked, Trained
from maec.arithmetic import Sparse
from maec.card import pack_card
from maec.checkpoint import Checkpoint, Weights, open_checkpoint
from maec.chunks import Chunk, in_order, tracked
from maec.compatible import OnVocabulary, fitted, open_base
from maec.errors import InputError
from maec.folder import new_folder, remove_abandoned, require_new, require_space
from maec.hub import Source, local_folder
from maec.memory import MEMORY, dtypes_of, held_by, workers
from maec.neurons import Granularity, PackedMask, Shapes, open_mask, require_share, width_of
from maec.pack import PACK_FILE, Block, block, write_pack
from maec.progress import Track, silent
from maec.provenance import Sources, known_corpora
from maec.reading import read_json
from maec.survey import Models, Sought, locate

PackDtype = Literal["float32", "bfloat16", "float16"]


def extract(
    base: Source,
    ability: Source,
    out: Path,
    *,
    pivot: Source | None = None,
    mask: Source | None = None,
    k1: float = 0.05,
    alpha: float = 0.8,
    beta: float = 0.2,
    granularity: Granularity = "parameter",
    vocabulary: OnVocabulary = "refuse",
    dtype: PackDtype = "float32",
    memory: int = MEMORY,
    device: str = "cpu",
    track: Track = silent,
) -> Path:
    """Write the ability pack of the checkpoint ``ability``, trained from ``base``, to ``out``.

    Beside the weights it holds ``README.md``, a card with what they are and how to use them.

    Each checkpoint is a folder (Path) or a hub id (str), which is fetched; ability and pivot may be
    LoRA adapters.  With ``vocabulary`` ``pad`` they may have tokens that the base has not, which
    are left out.

    N_A is the mask in the folder ``mask`` where one is given (``k1`` and ``granularity`` are then
    the mask's), else the top ``k1`` of |Θ_A,L0 − Θ_o| itself.  ``dtype`` is what R(A) is stored
    in: only float32 merges to the same bits as the checkpoints themselves.  ``memory`` is in bytes;
    ``device`` (``"cuda"`` for a GPU) does the arithmetic.
    Returns ``out``.

    Raises:
        InputError: before anything is written; a weight that is not finite, a ``beta`` other than
            0 without a ``pivot``, the base as its own ability, checkpoints that do not fit together
            or hold NaN, ``k1`` outside (0, 1], no space, too little ``memory``.  While writing, and
            leaving nothing behind: a number that overflows ``dtype``.
    """
    on = arithmetic.device(device)
    require_new(Path(out))
    require_share("k1", k1)
    for key, weight in (("alpha", alpha), ("beta", beta)):
        if not math.isfinite(weight):
            raise InputError(f"{key}: {weight} is no finite number; give one")
    require_pivot(pivot, beta)
    if ability == base:
        raise InputError(
            f"{ability}: is base and ability; give a model that was trained from {base}"
        )
    origin = open_base(local_folder(base))
    trained = fitted(origin, local_folder(ability), vocabulary)
    general = fitted(origin, local_folder(pivot), vocabulary) if pivot is not None else None
    parts = {
        "base": open_checkpoint(origin.path),
        "ability": trained.stored,
        "pivot": general and general.stored,
    }
    opened = {role: part for role, part in parts.items() if part is not None}
    given = open_mask(local_folder(mask)) if mask is not None else None
    if given is not None:
        require_shapes(given.path, given.shapes, origin)
        located = {key: given.manifest.get(key) for key in ("k1", "granularity", "importance")}
        granularity = "parameter"  # for what follows: the mask says which entries
    else:
        located = {"k1": k1, "granularity": granularity, "importance": "value_change"}
    remove_abandoned(Path(out))
    require_space(Path(out), _pack_bytes(origin, given, k1, dtype))

    part = Trained(trained, general, alpha, beta)
    models = Models(origin, origin.float_shapes(), [], granularity, 1, on)
    sought = [(k1, dtypes_of(origin, trained))] if given is None else []
    models = models.on(workers(memory, models, [part], held_by(sought, models.shapes)))
    # the pass that finds key neurons reads these; all else is hashed beside it
    read: dict[Path, Weights] = {origin.path: origin}
    if trained.is_as_stored:
        read[trained.path] = trained
    sources = Sources(
        {checkpoint.path: checkpoint for checkpoint in opened.values()},
        read if models.are_hashed and given is None else {},
    )
    wanted = Sought(part, k1) if given is None else Masked(part, given)
    (weights,) = locate(models, [wanted], track, sources)
    described = sources.finish()
    folders = [part.path for part in opened.values()] + ([given.path] if given else [])
    manifest = {
        "kind": "ability-pack",
        "maec": maec.__version__,
        **{role: described[checkpoint.path] for role, checkpoint in opened.items()},
        **located,
        "alpha": alpha,
        "beta": beta,
        "dtype": dtype,
        "corpora": known_corpora(folders),
    }
    with new_folder(Path(out)) as folder:
        blocks = _blocks(models, weights, getattr(torch, dtype))
        stream = (found for _, found in tracked(blocks, models.shapes, track, "writing"))
        write_pack(folder, models.shapes, stream, manifest)
        _write_card(folder, Path(out).name, opened["base"].nbytes())
    return Path(out)


def _blocks(
    models: Models, weights: AbilityWeights, dtype: torch.dtype
) -> Iterator[tuple[Chunk, Block]]:
    """Each chunk of the model with its key neurons."""

    def work(chunk: Chunk) -> Block:
        window = models.window(chunk, [weights])
        entries = weights.over(chunk)
        width = width_of(models.shapes[chunk.name], models.granularity)
        found = [(piece.begin, entries(piece)) for piece in window.pieces(width)]
        return block(chunk, [Sparse(part.places + at, part.values) for at, part in found], dtype)

    return in_order(work, models.chunks(), models.threads)


def _write_card(folder: Path, name: str, base_nbytes: int) -> None:
    """The card of the pack in ``folder``, which will be called ``name``."""
    nbytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    manifest = read_json(folder / PACK_FILE)
    card = pack_card(manifest, name, nbytes=nbytes, base_nbytes=base_nbytes)
    (folder / "README.md").write_text(card, encoding="utf-8")


def require_pivot(pivot: Source | None, beta: float) -> None:
    """Raise InputError for a β that nothing can be subtracted for."""
    if pivot is None and beta != 0:
        raise InputError(f"beta: {beta} needs a pivot model to subtract; give pivot, or beta 0")


def require_shapes(path: Path, shapes: Shapes, base: Checkpoint) -> None:
    """Raise InputError unless ``shapes``, of what lies at ``path``, are those of ``base``."""
    wanted = base.float_shapes()
    for name in sorted(shapes.keys() | wanted.keys()):
        if shapes.get(name) != wanted.get(name):
            raise InputError(
                f"{path}: tensor {name!r}: shape {shapes.get(name)}, but {wanted.get(name)} in "
                f"{base.path}; make it again from this base"
            )


def _pack_bytes(base: Checkpoint, mask: PackedMask | None, k1: float, dtype: PackDtype) -> int:
    """About how large the pack will be: a value and a byte of its place for every key neuron."""
    entries = sum(info.numel for info in base.tensors.values() if info.is_float)
    if mask is not None:
        kept = sum(entry["key_neurons"] for entry in mask.manifest["tensors"].values())
    else:
        kept = round(k1 * entries)
    return (getattr(torch, dtype).itemsize + 1) * kept

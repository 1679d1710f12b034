"""Extraction: the ability weights R(A) of one model, kept as a sparse pack (Extraction 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import maec
from maec.card import pack_card
from maec.checkpoint import Checkpoint, Weights, open_checkpoint
from maec.compatible import OnVocabulary, fitted, open_base
from maec.errors import InputError
from maec.folder import new_folder, require_new, require_space
from maec.hub import Source, local_folder
from maec.neurons import (
    Granularity,
    PackedMask,
    Shapes,
    locate,
    open_mask,
    require_share,
    value_change,
)
from maec.pack import PACK_FILE, write_pack
from maec.pieces import pieces
from maec.progress import Track, silent
from maec.provenance import known_corpora, source
from maec.tensors import read_json


@dataclass(frozen=True)
class AbilityWeights:
    """R(A), computed tensor by tensor from the checkpoints; read like an opened pack."""

    base: Weights
    ability: Weights
    pivot: Weights | None
    key_neurons: Mapping[str, Tensor]
    alpha: float
    beta: float

    @property
    def names(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self.key_neurons)

    def mask(self, name: str) -> Tensor:
        """N_A in this tensor, bool."""
        return self.key_neurons[name]

    def delta(self, name: str) -> Tensor:
        """R(A) = α·(Θ_A,L0 − Θ_o) − β·(Θ_L0 − Θ_o) of this tensor, float32, zero outside N_A."""
        return self.entries(name)[1]

    def entries(self, name: str) -> tuple[Tensor, Tensor]:
        """``mask`` and ``delta`` of this tensor."""
        mask, origin = self.mask(name), self.base.read(name)
        general = self.pivot.read(name) if self.pivot is not None else origin
        delta = torch.zeros(origin.shape)
        parts = pieces(delta, mask, self.ability.read(name), general, origin)
        for d, inside, theta_a, theta_l, theta_o in parts:
            d.add_(theta_a.float() - theta_o, alpha=self.alpha)
            d.sub_(theta_l.float() - theta_o, alpha=self.beta)
            d.mul_(inside)
        return mask, delta


def ability_weights(
    base: Weights,
    ability: Weights,
    pivot: Weights | None,
    mask: Mapping[str, Tensor],
    *,
    alpha: float,
    beta: float,
    track: Track = silent,
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, N_A, R(A)) of every tensor in ``mask`` by name: bool, and float32 zero outside N_A."""
    weights = AbilityWeights(base, ability, pivot, mask, alpha, beta)
    for name in track(weights.names, "writing"):
        yield name, *weights.entries(name)


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
    track: Track = silent,
) -> Path:
    """Write the ability pack of the checkpoint ``ability``, trained from ``base``, to ``out``.

    Beside the weights it holds ``README.md``, a card with what they are and how to use them.

    Each checkpoint is a folder (Path) or a hub id (str), which is fetched; ability and pivot may be
    LoRA adapters.  With ``vocabulary`` ``pad`` they may have tokens that the base has not, which
    are left out.

    N_A is the mask in the folder ``mask`` where one is given (``k1`` and ``granularity`` are then
    the mask's), else the top ``k1`` of |Θ_A,L0 − Θ_o| itself.  Returns ``out``.

    Raises:
        InputError: before anything is written; a ``beta`` other than 0 without a ``pivot``,
            checkpoints that do not fit together or hold NaN, ``k1`` outside (0, 1], no space.
    """
    require_new(Path(out))
    require_share("k1", k1)
    require_pivot(pivot, beta)
    origin = open_base(local_folder(base))
    trained = fitted(origin, local_folder(ability), vocabulary)
    general = fitted(origin, local_folder(pivot), vocabulary) if pivot is not None else None
    parts = {
        "base": open_checkpoint(origin.path),
        "ability": trained.stored,
        "pivot": general and general.stored,
    }
    opened = {role: part for role, part in parts.items() if part is not None}
    shapes = origin.float_shapes()
    given = open_mask(local_folder(mask)) if mask is not None else None
    if given is not None:
        require_shapes(given.path, given.shapes, origin)
    require_space(Path(out), _pack_bytes(origin, given, k1))
    sources = {role: source(opened[role]) for role in track(opened, "checking")}

    if given is not None:
        located = {key: given.manifest.get(key) for key in ("k1", "granularity", "importance")}
        key_neurons: Mapping[str, Tensor] = given
    else:
        located = {"k1": k1, "granularity": granularity, "importance": "value_change"}
        change = value_change(origin, trained)
        key_neurons = locate(change, shapes, k1, granularity, track=track)
    folders = [part.path for part in opened.values()] + ([given.path] if given else [])
    manifest = {
        "kind": "ability-pack",
        "maec": maec.__version__,
        **sources,
        **located,
        "alpha": alpha,
        "beta": beta,
        "corpora": known_corpora(folders),
    }
    deltas = ability_weights(
        origin, trained, general, key_neurons, alpha=alpha, beta=beta, track=track
    )
    with new_folder(Path(out)) as folder:
        write_pack(folder, deltas, manifest)
        _write_card(folder, Path(out).name, opened["base"].nbytes())
    return Path(out)


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


def _pack_bytes(base: Checkpoint, mask: PackedMask | None, k1: float) -> int:
    """About how large the pack will be: a bit for every entry, four bytes for every key neuron."""
    entries = sum(info.numel for info in base.tensors.values() if info.is_float)
    if mask is not None:
        kept = sum(entry["key_neurons"] for entry in mask.manifest["tensors"].values())
    else:
        kept = round(k1 * entries)
    return entries // 8 + 4 * kept

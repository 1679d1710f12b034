"""A recipe becomes a checkpoint, tensor by tensor; no training, no GPU (METHOD.md, Combination).

Everything that can be wrong is found before anything is written.  Then three passes run over the
tensors, one in memory at a time: locate the key neurons of abilities that are given as models,
measure similarities and select, write.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import maec
from maec.card import model_card
from maec.checkpoint import Checkpoint, copy_companions, open_checkpoint, write_tensors
from maec.combine import Addend, combined_tensors, cosine_similarity, language_weights, select
from maec.compatible import Fitted, fitted, open_base
from maec.errors import InputError
from maec.extract import AbilityWeights, require_shapes
from maec.folder import new_folder, require_new, require_space
from maec.hub import Source, local_folder, pinned
from maec.neurons import PackedMask, locate, open_mask, value_change
from maec.pack import Pack, open_pack
from maec.pieces import pieces
from maec.progress import Track, silent
from maec.provenance import known_corpora, source
from maec.recipe import AbilityPart, LanguagePart, Recipe
from maec.tensors import write_json
from maec.vocabulary import Extension, extension


def merge(recipe: Recipe, out: Path, *, track: Track = silent) -> None:
    """Make the checkpoint that ``recipe`` describes, in the new folder ``out``.

    Beside weights, config and tokenizer it holds ``README.md``, a model card, and ``maec.json``:
    the recipe, the fingerprint of every part, and for each ability and tensor the share of key
    neurons, the similarity and whether it was selected.  The same recipe gives the same bytes.

    Raises:
        InputError: before anything is written: parts that are missing, pickled, do not fit
            together or hold NaN, no space, ``out`` taken.  While writing, and leaving nothing
            behind: a number that overflows the recipe's dtype.
    """
    out = Path(out)
    require_new(out)
    parts = _open_parts(recipe)
    require_space(out, _result_bytes(parts))
    sources = _check_numbers(parts, track)
    abilities = [_select(parts, ability, track) for ability in parts.abilities]
    rounding = _Rounding()
    with new_folder(out) as folder:
        write_tensors(folder, _stream(parts, abilities, track, rounding))
        copy_companions(
            parts.base,
            folder,
            dtype=parts.recipe.dtype,
            tokenizer=parts.extension.folder if parts.extension else None,
            rows=parts.extension.largest.size if parts.extension else None,
        )
        report = _report(parts, sources, abilities, rounding)
        write_json(folder / "maec.json", report)
        (folder / "README.md").write_text(model_card(report, out.name), encoding="utf-8")


def merged_tensors(recipe: Recipe, *, track: Track = silent) -> Iterator[tuple[str, Tensor]]:
    """The tensors that ``merge`` writes, by name and in the recipe's dtype, without a disk.

    The checks run, and may raise InputError, before the first tensor comes.
    """
    parts = _open_parts(recipe)
    _check_numbers(parts, track)
    abilities = [_select(parts, ability, track) for ability in parts.abilities]
    yield from _stream(parts, abilities, track)


@dataclass(frozen=True)
class _Language:
    part: LanguagePart
    model: Fitted


@dataclass(frozen=True)
class _Trained:
    """The models that an ability is to be extracted from."""

    model: Fitted
    pivot: Fitted | None
    mask: PackedMask | None


@dataclass(frozen=True)
class _Ability:
    part: AbilityPart
    given: Pack | _Trained


@dataclass(frozen=True)
class _Parts:
    """The opened parts of a recipe, in canonical order."""

    recipe: Recipe
    base: Checkpoint
    languages: list[_Language]
    abilities: list[_Ability]
    extension: Extension | None

    def language_weights(self, name: str) -> Tensor:
        """R_lang of one tensor, float32."""
        trained = ((entry.model.read(name), entry.part.mu) for entry in self.languages)
        return language_weights(self.base.read(name), trained)

    def stored(self) -> dict[Path, Checkpoint]:
        """Everything that weights are read from, as it is stored, by path, each once."""
        opened = [
            open_checkpoint(self.base.path),
            *(language.model.stored for language in self.languages),
        ]
        for ability in self.abilities:
            match ability.given:
                case Pack(path=path, files=files):
                    opened.append(Checkpoint(path, files, config={}))
                case _Trained(model=model, pivot=pivot):
                    opened += [part.stored for part in (model, pivot) if part is not None]
        return {checkpoint.path: checkpoint for checkpoint in opened}


@dataclass(frozen=True)
class _Selected:
    """An ability with its weights R(A), what the similarity pass found by tensor name, and T(A)."""

    ability: _Ability
    weights: Pack | AbilityWeights
    key_neurons: dict[str, int]
    similarity: dict[str, float]
    selected: set[str]


@dataclass
class _Rounding:
    """Squared L2 norms over the whole model: Θ_F − Θ_o, and what rounding Θ_F took or added."""

    change: float = 0.0
    error: float = 0.0

    def add(self, base: Tensor, exact: Tensor, rounded: Tensor) -> None:
        if base.shape != exact.shape:  # a new token's row has nothing to be a change of
            rows = min(len(base), len(exact))
            base, exact, rounded = base[:rows], exact[:rows], rounded[:rows]
        for before, after, stored in pieces(base, exact, rounded):
            self.change += _squared_norm(after.double() - before)
            self.error += _squared_norm(stored.double() - after)

    @property
    def relative(self) -> float:
        """The error's norm relative to the change's, to six digits."""
        return float(f"{math.sqrt(self.error / self.change):.6g}") if self.change else 0.0


def _open_parts(recipe: Recipe) -> _Parts:
    """Open every part and check that they fit together, by their headers and tokenizers."""
    folders = {source: local_folder(source) for source in recipe.sources()}
    # pinned before it is put in order, so that what is recorded makes the same sums again
    recipe = recipe.replaced(lambda source: pinned(source, folders[source])).canonical()
    base = open_base(local_folder(recipe.base))

    def opened(source: Source) -> Fitted:
        return fitted(base, local_folder(source), recipe.vocabulary)

    def ability(part: AbilityPart) -> _Ability:
        if part.pack is not None:
            pack = open_pack(local_folder(part.pack))
            require_shapes(pack.path, pack.shapes, base)
            return _Ability(part, pack)
        assert part.model is not None, "a recipe's ability has a model or a pack"
        pivot = opened(part.pivot) if part.pivot is not None else None
        mask = open_mask(local_folder(part.mask)) if part.mask is not None else None
        if mask is not None:
            require_shapes(mask.path, mask.shapes, base)
        return _Ability(part, _Trained(opened(part.model), pivot, mask))

    languages = [_Language(part, opened(part.model)) for part in recipe.languages]
    abilities = [ability(part) for part in recipe.abilities]
    extends = extension([(entry.model.rows, entry.part.mu) for entry in languages])
    return _Parts(recipe, base, languages, abilities, extends)


def _check_numbers(parts: _Parts, track: Track) -> dict[Path, dict[str, str]]:
    """Read every part once: path and fingerprint of each, all finite, packs of this very base."""
    stored = parts.stored()
    names = {str(path): path for path in stored}
    sources = {names[name]: source(stored[names[name]]) for name in track(names, "checking")}
    base = sources[parts.base.path]["fingerprint"]
    for pack in (entry.given for entry in parts.abilities if isinstance(entry.given, Pack)):
        made_from = pack.manifest.get("base", {}).get("fingerprint", base)
        if made_from != base:
            raise InputError(
                f"{pack.path}: was extracted from another base ({made_from[:12]}…) than "
                f"{parts.base.path} ({base[:12]}…); extract it again from this one"
            )
    return sources


def _select(parts: _Parts, ability: _Ability, track: Track) -> _Selected:
    """Locate the key neurons where that is still to do, measure similarities, select."""
    part, recipe, shapes = ability.part, parts.recipe, parts.base.float_shapes()
    weights: Pack | AbilityWeights
    if isinstance(ability.given, Pack):
        weights = ability.given
    else:
        model, pivot, key_neurons = ability.given.model, ability.given.pivot, ability.given.mask
        if key_neurons is None:
            change = value_change(parts.base, model)
            key_neurons = locate(change, shapes, part.k1, recipe.granularity, track=track)
        weights = AbilityWeights(parts.base, model, pivot, key_neurons, part.alpha, part.beta)
    counts, similarity = {}, {}
    for name in track(shapes, "similarity"):
        mask, delta = weights.entries(name)
        counts[name] = int(mask.count_nonzero())
        similarity[name] = cosine_similarity(delta, parts.language_weights(name))
    selected = select(similarity, part.k2, recipe.similarity, recipe.seed)
    return _Selected(ability, weights, counts, similarity, selected)


def _stream(
    parts: _Parts, abilities: list[_Selected], track: Track, rounding: _Rounding | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Θ_F tensor by tensor, rounded once to the recipe's dtype."""
    dtype = getattr(torch, parts.recipe.dtype)
    addends = [
        Addend(entry.ability.part.gamma, entry.selected, entry.weights.delta) for entry in abilities
    ]
    names = track(parts.base.tensors, "writing")
    base, language = parts.base.read, parts.language_weights
    for name, exact in combined_tensors(names, base, language, addends, parts.recipe.lam):
        if not exact.is_floating_point():
            yield name, exact
            continue
        if parts.extension is not None and name in parts.extension.names:
            exact = parts.extension.extended(name, exact)
        rounded = exact.to(dtype)
        if exact.numel() and not all(torch.isfinite(end) for end in rounded.aminmax()):
            raise InputError(
                f"tensor {name!r}: the result overflows {parts.recipe.dtype}; "
                f"give another dtype, or smaller weights"
            )
        if rounding is not None and dtype != torch.float32:
            rounding.add(base(name), exact, rounded)
        yield name, rounded


def _report(
    parts: _Parts,
    sources: dict[Path, dict[str, str]],
    abilities: list[_Selected],
    rounding: _Rounding,
) -> dict[str, Any]:
    """What ``maec.json`` says: everything that went in, and what became of it."""

    shapes = parts.base.float_shapes()

    def ability(entry: _Selected) -> dict[str, Any]:
        part, given = entry.ability.part, entry.ability.given
        pivot = given.pivot if isinstance(given, _Trained) else None
        return {
            **sources[given.model.path if isinstance(given, _Trained) else given.path],
            "pivot": sources[pivot.path] if pivot is not None else None,
            "gamma": part.gamma,
            "k2": part.k2,
            "N": sum(math.prod(shape) for shape in shapes.values()),
            "key_neurons": sum(entry.key_neurons.values()),
            "tensors": {
                name: {
                    "shape": list(shape),
                    "key_neurons": entry.key_neurons[name],
                    "similarity": entry.similarity[name],
                    "selected": name in entry.selected,
                }
                for name, shape in shapes.items()
            },
        }

    extends = parts.extension
    vocabulary = (
        {"tokenizer": str(extends.folder.resolve()), "rows": extends.largest.size}
        if (extends)
        else None
    )
    return {
        "kind": "merged-model",
        "maec": maec.__version__,
        "recipe": parts.recipe.to_dict(),
        "base": sources[parts.base.path],
        "languages": [
            {**sources[entry.model.path], "mu": entry.part.mu} for entry in parts.languages
        ],
        "abilities": [ability(entry) for entry in abilities],
        **({"vocabulary": vocabulary} if vocabulary else {}),
        "rounding": {"dtype": parts.recipe.dtype, "relative_error": rounding.relative},
        "corpora": known_corpora(parts.stored()),
    }


def _result_bytes(parts: _Parts) -> int:
    """Bytes of the weights that will be written."""
    itemsize = getattr(torch, parts.recipe.dtype).itemsize
    infos = parts.base.tensors.values()
    total = sum(info.numel * itemsize if info.is_float else info.nbytes for info in infos)
    if parts.extension is not None:
        rows, tensors = parts.extension.largest.size, parts.base.tensors
        for shape in (tensors[name].shape for name in parts.extension.names):
            total += (rows - shape[0]) * math.prod(shape[1:]) * itemsize
    return total


def _squared_norm(vector: Tensor) -> float:
    return float(vector @ vector)

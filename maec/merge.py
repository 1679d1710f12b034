"""A recipe becomes a checkpoint; no training, no GPU (METHOD.md, Combination).

What headers, configs and tokenizers tell is checked before anything is written.  Then passes run
over the models, chunk by chunk on all cores: where key neurons are to be found, one over the base
and the ability models finds them; another adds up and writes all models, and measures similarities
meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import maec
from maec import arithmetic, rounding
from maec.ability import AbilityWeights, Masked, Trained
from maec.card import model_card
from maec.checkpoint import Checkpoint, Weights, copy_companions, open_checkpoint
from maec.combine import select
from maec.compatible import Fitted, fitted, open_base
from maec.errors import InputError
from maec.extract import require_shapes
from maec.folder import new_folder, remove_abandoned, require_new, require_space
from maec.hub import Source, local_folder, pinned
from maec.layout import laid_out, nbytes
from maec.memory import MEMORY, dtypes_of, held_by, workers
from maec.neurons import open_mask
from maec.pack import Pack, open_pack
from maec.progress import Track, silent
from maec.provenance import Sources, known_corpora
from maec.recipe import AbilityPart, LanguagePart, Recipe
from maec.result import Addend, OfTensor, Result
from maec.survey import Models, Sought, locate
from maec.tensors import write_json
from maec.vocabulary import Extension, extension


def merge(
    recipe: Recipe,
    out: Path,
    *,
    memory: int = MEMORY,
    device: str = "cpu",
    track: Track = silent,
) -> None:
    """Make the checkpoint that ``recipe`` describes, in the new folder ``out``.

    Beside weights, config and tokenizer it holds ``README.md``, a model card, and ``maec.json``:
    the recipe, the fingerprint of every part, and for each ability and tensor the share of key
    neurons, the similarity and whether it was selected.  The same recipe gives the same bytes,
    whatever the number of threads, the ``memory``, in bytes, that it may use, and the ``device``
    that does the arithmetic (``"cuda"`` for a GPU).

    Raises:
        InputError: before anything is written: parts that are missing, pickled or do not fit
            together, no space, too little ``memory``, no such ``device``, ``out`` taken.  While
            reading and writing, and leaving nothing behind: parts that hold NaN, a pack of another
            base, a number that overflows the recipe's dtype.
    """
    out = Path(out)
    require_new(out)
    on = arithmetic.device(device)
    parts = _open_parts(recipe)
    models = _models(parts, memory, on)
    layout = _result(parts, models, [], []).layout()
    remove_abandoned(out)
    require_space(out, sum(map(nbytes, layout.values())))
    sources = _sources(parts, models)
    weights = locate(models, [entry.given for entry in parts.abilities], track, sources)
    with new_folder(out) as folder:
        with laid_out(folder, layout) as writer:
            guess = _guess(parts, models, weights)
            seen = guess.write(writer, track, sources=sources)
            found = _found(parts, sources.finish(), seen)
            result = _result(parts, models, weights, [entry.selected for entry in found.abilities])
            # what was selected otherwise than guessed is written again
            if wrong := guess.differs(result):
                seen |= result.write(writer, track, only=wrong)
        result.require_finite(seen)
        copy_companions(
            parts.base,
            folder,
            dtype=parts.recipe.dtype,
            tokenizer=parts.extension.folder if parts.extension else None,
            rows=parts.extension.largest.size if parts.extension else None,
        )
        report = _report(parts, found, list(seen.values()))
        write_json(folder / "maec.json", report)
        (folder / "README.md").write_text(model_card(report, out.name), encoding="utf-8")


def merged_tensors(
    recipe: Recipe, *, memory: int = MEMORY, device: str = "cpu", track: Track = silent
) -> Iterator[tuple[str, Tensor]]:
    """The tensors that ``merge`` writes, by name and in the recipe's dtype, without a disk.

    The checks run, and may raise InputError, before the first tensor comes.
    """
    on = arithmetic.device(device)
    parts = _open_parts(recipe)
    models = _models(parts, memory, on)
    sources = _sources(parts, models)
    weights = locate(models, [entry.given for entry in parts.abilities], track, sources)
    seen = _guess(parts, models, weights).measure(track, sources)
    found = _found(parts, sources.finish(), seen)
    selected = [entry.selected for entry in found.abilities]
    yield from _result(parts, models, weights, selected).tensors(track)


@dataclass(frozen=True)
class _Language:
    part: LanguagePart
    model: Fitted


@dataclass(frozen=True)
class _Ability:
    part: AbilityPart
    given: Pack | Sought | Masked

    @property
    def trained(self) -> Trained | None:
        """The models it is extracted from, if it is not a pack."""
        return None if isinstance(self.given, Pack) else self.given.trained


@dataclass(frozen=True)
class _Parts:
    """The opened parts of a recipe, in canonical order."""

    recipe: Recipe
    base: Checkpoint
    languages: list[_Language]
    abilities: list[_Ability]
    extension: Extension | None

    def fitted(self) -> list[Fitted]:
        """Every model beside the base."""
        models = [entry.model for entry in self.languages]
        for ability in self.abilities:
            models += ability.given.models if ability.trained else []
        return models

    def stored(self) -> dict[Path, Checkpoint]:
        """Everything that weights are read from, as it is stored, by path, each once."""
        opened = [open_checkpoint(self.base.path), *(model.stored for model in self.fitted())]
        for ability in self.abilities:
            if isinstance(ability.given, Pack):
                opened.append(Checkpoint(ability.given.path, ability.given.files, config={}))
        return {checkpoint.path: checkpoint for checkpoint in opened}

    def as_stored(self) -> dict[Path, Weights]:
        """Those of them of which the entries that are read are those that are stored."""
        models = {model.path: model for model in self.fitted() if model.is_as_stored}
        return {**models, self.base.path: self.base}


@dataclass(frozen=True)
class _Measured:
    """By tensor, |N_A| of one ability and its similarity to R_lang; and T(A)."""

    key_neurons: dict[str, int]
    similarity: dict[str, float]
    selected: set[str]


@dataclass(frozen=True)
class _Found:
    """By path where the weights come from, and what was measured of each ability."""

    sources: dict[Path, dict[str, str]]
    abilities: list[_Measured]


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
        trained = Trained(opened(part.model), pivot, part.alpha, part.beta)
        if part.mask is None:
            return _Ability(part, Sought(trained, part.k1))
        mask = open_mask(local_folder(part.mask))
        require_shapes(mask.path, mask.shapes, base)
        return _Ability(part, Masked(trained, mask))

    languages = [_Language(part, opened(part.model)) for part in recipe.languages]
    abilities = [ability(part) for part in recipe.abilities]
    extends = extension([(entry.model.rows, entry.part.mu) for entry in languages])
    return _Parts(recipe, base, languages, abilities, extends)


def _models(parts: _Parts, memory: int, device: torch.device) -> Models:
    """What both passes run over, with as many threads as fit into the memory."""
    languages = [(entry.model, entry.part.mu) for entry in parts.languages]
    shapes = parts.base.float_shapes()
    models = Models(parts.base, shapes, languages, parts.recipe.granularity, 1, device)
    givens = [entry.given for entry in parts.abilities]
    sought = [
        (g.k1, dtypes_of(parts.base, g.trained.model)) for g in givens if isinstance(g, Sought)
    ]
    return models.on(workers(memory, models, givens, held_by(sought, shapes)))


def _sources(parts: _Parts, models: Models) -> Sources:
    return Sources(parts.stored(), parts.as_stored() if models.are_hashed else {})


def _found(
    parts: _Parts, described: dict[Path, dict[str, str]], seen: Mapping[str, OfTensor]
) -> _Found:
    """Refuse packs of another base, measure, and select."""
    recipe, base = parts.recipe, described[parts.base.path]["fingerprint"]
    for pack in (entry.given for entry in parts.abilities if isinstance(entry.given, Pack)):
        made_from = pack.manifest.get("base", {}).get("fingerprint", base)
        if made_from != base:
            raise InputError(
                f"{pack.path}: was extracted from another base ({made_from[:12]}…) than "
                f"{parts.base.path} ({base[:12]}…); extract it again from this one"
            )
    measured = []
    for number, entry in enumerate(parts.abilities):
        key_neurons = {name: int(of.abilities[number][0]) for name, of in seen.items()}
        similarity = {name: of.similarity(number) for name, of in seen.items()}
        selected = select(similarity, entry.part.k2, recipe.similarity, recipe.seed)
        measured.append(_Measured(key_neurons, similarity, selected))
    return _Found(described, measured)


def _guess(parts: _Parts, models: Models, weights: Sequence[AbilityWeights]) -> Result:
    """The result if everything were selected where k2 is half or more, and else nothing."""
    names = models.shapes.keys()
    guess = [names if entry.part.k2 >= 0.5 else set() for entry in parts.abilities]
    return _result(parts, models, weights, guess)


def _result(
    parts: _Parts,
    models: Models,
    weights: Sequence[AbilityWeights],
    selected: Sequence[Set[str]],
) -> Result:
    gammas = [entry.part.gamma for entry in parts.abilities]
    # without weights nothing but the layout is wanted
    addends = list(map(Addend, weights, gammas, selected))
    dtype = getattr(torch, parts.recipe.dtype)
    return Result(parts.base, models, addends, parts.recipe.lam, dtype, parts.extension)


def _report(parts: _Parts, found: _Found, seen: list[OfTensor]) -> dict[str, Any]:
    """What ``maec.json`` says: everything that went in, and what became of it."""
    shapes = parts.base.float_shapes()
    rounds = parts.recipe.dtype != "float32"
    sums = sum((of_tensor.sums for of_tensor in seen), np.zeros(3))
    of_abilities = sum(
        (of_tensor.abilities for of_tensor in seen), np.zeros((len(found.abilities), 7))
    )
    described = [rounding.described_ability(own[3:]) for own in of_abilities]

    def ability(entry: _Ability, measured: _Measured, number: int) -> dict[str, Any]:
        part, given, trained = entry.part, entry.given, entry.trained
        model = given if isinstance(given, Pack) else trained.model
        pivot = trained.pivot if trained else None
        return {
            **found.sources[model.path],
            "pivot": found.sources[pivot.path] if pivot is not None else None,
            "gamma": part.gamma,
            "k2": part.k2,
            "N": sum(math.prod(shape) for shape in shapes.values()),
            "key_neurons": sum(measured.key_neurons.values()),
            **({"rounding": described[number]} if rounds else {}),
            "tensors": {
                name: {
                    "shape": list(shape),
                    "key_neurons": measured.key_neurons[name],
                    "similarity": measured.similarity[name],
                    "selected": name in measured.selected,
                }
                for name, shape in shapes.items()
            },
        }

    extends = parts.extension
    vocabulary = (
        {"tokenizer": str(extends.folder.resolve()), "rows": extends.largest.size}
        if extends
        else None
    )
    return {
        "kind": "merged-model",
        "maec": maec.__version__,
        "recipe": parts.recipe.to_dict(),
        "base": found.sources[parts.base.path],
        "languages": [
            {**found.sources[entry.model.path], "mu": entry.part.mu} for entry in parts.languages
        ],
        "abilities": list(map(ability, parts.abilities, found.abilities, count())),
        **({"vocabulary": vocabulary} if vocabulary else {}),
        "rounding": {"dtype": parts.recipe.dtype, **rounding.described_model(sums[1:])},
        "corpora": known_corpora(parts.stored()),
    }

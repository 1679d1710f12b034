"""The recipe: every symbol of METHOD.md as one validated object, read from a YAML file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from maec.errors import InputError
from maec.hub import Source, as_source
from maec.language import language_code
from maec.strict import Strict, load

K1, ALPHA, BETA = 0.05, 0.8, 0.2  # METHOD.md's starting values
EXTRACTION = ("pivot", "mask", "k1", "alpha", "beta")
"""The keys of an ability that say how to extract it from a model, and are settled in a pack."""

_Model = TypeVar("_Model", bound=BaseModel)


def _beside_recipe(given: Any, info: ValidationInfo) -> Source:
    """A relative path counts from the recipe's folder, where it was read from a file."""
    if not isinstance(given, str | Path) or given == "":
        raise ValueError("allowed: a folder, or a hub id (org/name or org/name@revision)")
    try:
        return as_source(given, (info.context or {}).get("folder", Path()))
    except InputError as error:
        raise ValueError(str(error)) from None


def _share_above_zero(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError("allowed: a share in (0, 1]")
    return value


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("allowed: a share in [0, 1]")
    return value


Folder = Annotated[Source, BeforeValidator(_beside_recipe)]
SOURCES = ("base", "model", "pack", "pivot", "mask")
"""The keys, at every level, that say where something lies."""


class LanguagePart(Strict):
    """A language model Θ_Lj and its weight μ_j.

    ``language``, the code of L_j, changes no weight: the result's card says it.
    """

    model: Folder
    mu: float = 1.0
    language: Annotated[str, BeforeValidator(language_code)] | None = None


class AbilityPart(Strict):
    """An ability: a model Θ_A,L0 with what to extract from it, or a pack extracted before.

    With ``pack`` the keys in ``EXTRACTION`` may not be given.  Without ``pivot``, β is 0.  N_A is
    the mask in the folder ``mask``, or without one the top ``k1`` of |Θ_A,L0 − Θ_o|.
    """

    model: Folder | None = None
    pack: Folder | None = None
    pivot: Folder | None = None
    mask: Folder | None = None
    k1: Annotated[float, AfterValidator(_share_above_zero)] = K1
    alpha: float = ALPHA
    beta: float = Field(default_factory=lambda given: BETA if given.get("pivot") else 0.0)
    gamma: float = 0.2
    k2: Annotated[float, AfterValidator(_share)] = 0.8

    @model_validator(mode="after")
    def _one_source(self) -> AbilityPart:
        if (self.model is None) == (self.pack is None):
            raise ValueError("give one of the keys 'model' and 'pack'")
        settled = [key for key in EXTRACTION if key in self.model_fields_set]
        if self.pack is not None and settled:
            raise ValueError(f"{settled[0]!r} is settled in the pack; leave it out")
        if self.mask is not None and "k1" in self.model_fields_set:
            raise ValueError("'k1' is settled in the mask; leave it out")
        if self.pivot is None and self.beta != 0:
            raise ValueError(f"beta {self.beta} needs a 'pivot' to subtract; give one, or beta 0")
        return self


class Recipe(Strict):
    """What ``maec merge`` makes; the keys are those of METHOD.md's example.

    ``lam`` is λ, written ``lambda`` in a recipe.  ``dtype`` is that of the result; arithmetic is
    float32.  ``vocabulary`` says what to do with models that have more tokens than the base:
    ``refuse`` them, or ``pad`` *(choice)*: keep new tokens of languages as they are.  ``seed``
    decides what ``similarity: random`` selects, and nothing else.
    """

    base: Folder
    languages: list[LanguagePart] = Field(default_factory=list)
    abilities: list[AbilityPart] = Field(default_factory=list)
    lam: float = Field(1.0, alias="lambda")
    similarity: Literal["signed", "absolute", "random"] = "signed"
    seed: int = 0
    granularity: Literal["parameter", "row"] = "parameter"
    vocabulary: Literal["refuse", "pad"] = "refuse"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"

    @model_validator(mode="after")
    def _something_to_merge(self) -> Recipe:
        if not self.languages and not self.abilities:
            raise ValueError("nothing to merge; give 'languages', 'abilities' or both")
        return self

    def canonical(self) -> Recipe:
        """The same recipe with resolved paths and its entries in an order that is always the same.

        Sums then run in that order, and the result does not depend on the order of the entries.
        Hub ids stay as they are; ``replaced`` can pin them to a commit before.
        """
        resolved = self.replaced(lambda s: s.resolve() if isinstance(s, Path) else s)
        parts = {
            key: sorted(getattr(resolved, key), key=lambda part: part.model_dump_json())
            for key in ("languages", "abilities")
        }
        return resolved.model_copy(update=parts)

    def sources(self) -> Iterator[Source]:
        """Every folder and hub id of the recipe, as often as it occurs."""
        for part in (self, *self.languages, *self.abilities):
            yield from (getattr(part, key) for key in SOURCES if getattr(part, key, None))

    def replaced(self, by: Callable[[Source], Source]) -> Recipe:
        """The same recipe with ``by(source)`` in the place of every folder and hub id."""
        parts = {
            key: [_replaced(part, by) for part in getattr(self, key)]
            for key in ("languages", "abilities")
        }
        return _replaced(self, by).model_copy(update=parts)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data, defaults written out, that ``load_recipe`` accepts."""
        plain = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        for part in plain["abilities"]:
            settled = EXTRACTION if "pack" in part else ("k1",) if "mask" in part else ()
            for key in settled:
                part.pop(key, None)
        return plain


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; relative paths in it count from the folder it lies in.

    Raises:
        InputError: no such file, no YAML, an unknown key (with the nearest known one), a value
            that is not allowed.
    """
    return load(Path(path), Recipe, "a recipe; write keys such as 'base:' and 'languages:'")


def _replaced(model: _Model, by: Callable[[Source], Source]) -> _Model:
    """A copy of one level of the recipe with ``by(source)`` in the place of its sources."""
    given = {key: getattr(model, key, None) for key in SOURCES}
    return model.model_copy(update={key: by(value) for key, value in given.items() if value})

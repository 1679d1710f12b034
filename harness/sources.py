"""What a matrix file may say of text and checkpoints that come from elsewhere: a hub, or files."""

from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from maec.strict import Strict

DEFAULT = "*"
"""Stands for every language that has no entry of its own."""

LANGUAGE = "{language}"
"""Is replaced by a language's code, or by what a source's ``names`` has for it."""

FORMATS = (".txt", ".jsonl", ".parquet")
"""What files of text may be; a ``.txt`` is one document."""

SHUFFLED = 10_000


class TextSource(Strict):
    """Where documents come from: a data set, or ``files`` (a path or glob, ``.txt``, ``.jsonl`` or
    ``.parquet``, relative to the matrix file).

    ``dataset`` is a hub id, ``org/name`` or ``org/name@revision``, or a folder in a hub's format; a
    folder that exists wins. ``name`` and ``split`` are those of the data set. ``text`` names the
    field with the text, or is a template of fields: ``"{question}\\n{answer}"``. ``{language}`` in
    ``dataset``, ``name``, ``split`` and ``files`` stands for the language's code, or for what
    ``names`` has for it. ``licence`` is noted wherever the text was used.

    Documents come in an order that the matrix's seed decides: shards are shuffled, and each
    document is drawn from the next ``shuffle`` ones; 0 leaves them as they stand.
    """

    dataset: str | None = None
    name: str | None = None
    split: str = "train"
    files: str | None = None
    text: str = Field("text", min_length=1)
    licence: str | None = None
    names: dict[str, str] = Field(default_factory=dict)
    shuffle: int = Field(SHUFFLED, ge=0)

    @model_validator(mode="after")
    def _one_place(self) -> "TextSource":
        if (self.dataset is None) == (self.files is None):
            raise ValueError("give one of the keys 'dataset' and 'files'")
        if self.files is not None and not self.files.endswith(FORMATS):
            raise ValueError(f"files: the name ends in none of {', '.join(FORMATS)}")
        settled = [key for key in ("name", "split") if key in self.model_fields_set]
        if self.files is not None and settled:
            raise ValueError(f"{settled[0]}: belongs to a 'dataset'; files have none")
        fields(self.text)
        return self

    def of(self, language: str) -> "TextSource":
        """The same with ``{language}`` replaced everywhere."""
        code = self.names.get(language, language)
        given = {key: getattr(self, key) for key in ("dataset", "name", "split", "files")}
        filled = {key: value.replace(LANGUAGE, code) for key, value in given.items() if value}
        return self.model_copy(update=filled)


def fields(text: str) -> list[str]:
    """The names of the fields that ``text``, a field's name or a template of fields, needs.

    Raises:
        ValueError: it is a template of anything but plain fields.
    """
    if "{" not in text:
        return [text]
    try:
        slots = [slot[1:] for slot in Formatter().parse(text) if slot[1] is not None]
    except ValueError as error:
        raise ValueError(f"text: no template: {error}") from None
    found = [name for name, _, _ in slots]
    # widths would let a template ask for any amount of memory
    plain = all(name.isidentifier() and not (form or how) for name, form, how in slots)
    if not found or not plain:
        raise ValueError("text: a template names fields, as in '{question} {answer}'")
    return list(dict.fromkeys(found))


class Corpora(Strict):
    """Text for a base that is not of the embedded world.

    ``general`` is C_L by language, the pivot's among them, ``ability`` C_L0,A by ability, in the
    pivot language alone, ``translated`` C_Lj,A by ability and language, for the upper reference.
    """

    general: dict[str, TextSource] = Field(default_factory=dict)
    ability: dict[str, TextSource] = Field(default_factory=dict)
    translated: dict[str, dict[str, TextSource]] = Field(default_factory=dict)

    def find(self, kind: str, language: str, ability: str | None) -> tuple[str, TextSource | None]:
        """The key that a matrix file has for a corpus, and what stands there for this language."""
        match kind:
            case "ability":
                found, key = self.ability.get(ability or ""), f"ability.{ability}"
            case "translated":
                found = _entry(self.translated.get(ability or "", {}), language)
                key = f"translated.{ability}.{language}"
            case _:
                found, key = _entry(self.general, language), f"general.{language}"
        return f"corpora.{key}", found and found.of(language)


def _entry(sources: Mapping[str, TextSource], language: str) -> TextSource | None:
    return sources.get(language) or sources.get(DEFAULT)


def _number(value: Any) -> Any:
    """YAML takes 1e9 for text, which it is not."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Count = Annotated[int, BeforeValidator(_number), Field(ge=1)]


class Tokens(Strict):
    """How many tokens, by the base's tokenizer, each corpus gives to one training run at most."""

    general: Count | None = None
    pivot: Count | None = None
    ability: Count | None = None
    translated: Count | None = None


class AbilityCheckpoint(Strict):
    """Θ_A,L0 and, optionally, Θ_L0, without which β is 0."""

    model: str
    pivot: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, entry: Any) -> Any:
        return {"model": entry} if isinstance(entry, str) else entry


class Checkpoints(Strict):
    """Existing checkpoints in place of trained ones: folders, hub ids, LoRA adapters of the base.

    ``languages`` is Θ_Lj by language, ``abilities`` Θ_A,L0 by ability.
    """

    languages: dict[str, str] = Field(default_factory=dict)
    abilities: dict[str, AbilityCheckpoint] = Field(default_factory=dict)

"""The words of the embedded world: one file a language, read and checked.

``concepts.yaml`` says what there is to talk about; ``../languages/XX.yaml`` says under ``lexicon``
how one language says it. A language is added by adding its file: nothing else lists languages. A
file without ``lexicon`` is a language of other worlds only.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness import languages
from maec.errors import InputError, nearest
from maec.reading import read_yaml

CONCEPTS = Path(__file__).with_name("concepts.yaml")

SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
"""A slot of a pattern: ``{object}`` is the word, ``{object.the}`` a form that goes with it."""

CONTENT = ("object", "gain", "loss", "entity", "place", "food", "color")
"""The categories of which half the words of a target language are unknown to the base."""

SLOTS: dict[str, tuple[str, ...]] = {
    "has": ("name", "number", "object"),
    "event": ("name", "verb", "number", "object"),
    "more": ("name", "object"),
    "fewer": ("name", "object"),
    "how_many": ("name", "object"),
    "numbers": ("first", "second"),
    "says": ("name", "entity", "place"),
    "lives": ("entity", "place"),
    "eats": ("entity", "food"),
    "colored": ("entity", "color"),
    "scenery": ("scenery",),
    "kind": ("kind",),
    "tone": ("tone",),
    "what": ("property", "entity"),
    "is": ("property", "entity", "label"),
}
"""The sentence types that every language realises, and the slots that each must fill."""

WORDLESS = ("number", "first", "second", "label")
"""Slots that are filled alike in every language: digits and international terms."""


@dataclass(frozen=True)
class Rule:
    """A property of science questions: its value follows from a trait of one attribute."""

    attribute: str
    trait: str
    values: Mapping[str, str]  # concept of the attribute -> value
    traits: Mapping[str, str]  # concept of the attribute -> concept of the trait


@dataclass(frozen=True)
class Word:
    """A concept's word in one language, with the forms of other words that go with it."""

    text: str
    forms: Mapping[str, str]


@dataclass(frozen=True)
class Language(languages.Language):
    """A language and its lexicon. ``new`` holds concepts whose words the base has never seen."""

    pretrained: bool
    agreement: Mapping[str, Mapping[str, str]]
    words: Mapping[str, Word]
    patterns: Mapping[str, tuple[str, ...]]
    glosses: Mapping[str, str]
    new: frozenset[str]

    @property
    def is_pivot(self) -> bool:
        return self.resource == "pivot"

    def form(self, concept: str, form: str) -> str:
        """The ``form`` that goes with the word for ``concept``: its own, else its class's."""
        word = self.words[concept]
        if form in word.forms:
            return word.forms[form]
        table = self.agreement[form]
        return table.get(word.forms.get("class", "default"), table.get("default", ""))

    @cached_property
    def reverse_glosses(self) -> Mapping[str, tuple[str, ...]]:
        """Pivot word -> the words of this language's patterns that mean it."""
        found: dict[str, list[str]] = {}
        for word, meaning in self.glosses.items():
            found.setdefault(meaning, []).append(word)
        return {meaning: tuple(words) for meaning, words in found.items()}


@cache
def concepts() -> Mapping[str, tuple[str, ...]]:
    """Category -> its concepts, in the order of the file."""
    listed = read_yaml(CONCEPTS)
    return {name: tuple(group) for name, group in listed.items() if name != "rules"}


@cache
def rules() -> Mapping[str, Rule]:
    """Property -> its rule."""
    listed = read_yaml(CONCEPTS)["rules"]
    return {name: _rule(entry) for name, entry in listed.items()}


def _rule(entry: Mapping[str, Any]) -> Rule:
    values: dict[str, str] = {}
    traits: dict[str, str] = {}
    for value, by_trait in entry["values"].items():
        for trait, group in by_trait.items():
            values.update(dict.fromkeys(group, value))
            traits.update(dict.fromkeys(group, trait))
    return Rule(entry["attribute"], entry["trait"], values, traits)


def labels(name: str) -> tuple[str, ...]:
    """The values that property ``name`` can take, in the order of the file."""
    return tuple(dict.fromkeys(rules()[name].values.values()))


def codes() -> tuple[str, ...]:
    """The codes of all languages that have a lexicon, sorted."""
    return tuple(code for code in languages.available() if languages.lexicon(code) is not None)


def pivot() -> Language:
    """The one language with ability text."""
    found = [code for code in languages.available() if languages.get(code).resource == "pivot"]
    if len(found) != 1:
        raise InputError(
            f"{languages.FOLDER}: {len(found)} languages have 'resource: pivot'; exactly one must"
        )
    return load(found[0])


def pretrained() -> tuple[Language, ...]:
    """The languages of the base's own pre-training, the pivot first."""
    known = [load(code) for code in codes() if languages.lexicon(code).get("pretrained")]
    return tuple(sorted(known, key=lambda language: (not language.is_pivot, language.code)))


def load(code: str) -> Language:
    """The language ``code``.

    Raises:
        InputError: no such file, or one whose lexicon is missing or does not fit
            ``concepts.yaml`` and ``SLOTS``.
    """
    return _load(code, languages.path_of(code))


@cache
def _load(code: str, path: Path) -> Language:
    language, lexicon = languages.get(code), languages.lexicon(code)
    if lexicon is None:
        raise InputError(
            f"{path}: there is no lexicon, which the embedded world needs to write in "
            f"{language.name}; add one (see es.yaml), or leave '{code}' out of this matrix"
        )
    return checked(language, lexicon, path)


def checked(language: languages.Language, lexicon: Mapping[str, Any], path: str | Path) -> Language:
    """``language`` with its lexicon; ``path`` says where that was read.

    Raises:
        InputError: it does not fit ``concepts.yaml`` and ``SLOTS``.
    """
    allowed = ("pretrained", "agreement", "words", "patterns", "glosses", "new")
    for key in lexicon:
        if key not in allowed:
            raise InputError(
                f"{path}: lexicon: unknown key '{key}'{nearest(key, allowed)} "
                f"(allowed are {', '.join(allowed)})"
            )
    agreement = {
        form: {str(k): str(v) for k, v in _mapping(path, f"agreement.{form}", table).items()}
        for form, table in _mapping(path, "agreement", lexicon.get("agreement") or {}).items()
    }
    words = _words(path, _mapping(path, "words", lexicon.get("words")))
    patterns = _patterns(path, _mapping(path, "patterns", lexicon.get("patterns")))
    in_base = bool(lexicon.get("pretrained", False))
    pivotal = language.resource == "pivot"
    new = frozenset() if pivotal else _new(language.code, path, in_base, lexicon.get("new"))
    found = Language(
        **vars(language),
        pretrained=in_base,
        agreement=agreement,
        words=words,
        patterns=patterns,
        glosses={
            str(k): str(v)
            for k, v in _mapping(path, "glosses", lexicon.get("glosses") or {}).items()
        },
        new=new,
    )
    _check_forms(path, found)
    return found


def _words(path: Path, listed: Mapping[str, Any]) -> dict[str, Word]:
    wanted = [concept for group in concepts().values() for concept in group]
    for concept in wanted:
        if concept not in listed:
            raise InputError(f"{path}: words: no word for '{concept}'; add one")
    owner: dict[str, str] = {}
    words: dict[str, Word] = {}
    for concept, entry in listed.items():
        if concept not in wanted:
            raise InputError(
                f"{path}: words: unknown concept '{concept}'{nearest(concept, wanted)} "
                f"(concepts.yaml lists them)"
            )
        forms = {k: str(v) for k, v in entry.items()} if isinstance(entry, dict) else {}
        text = forms.pop("word", "") if forms else str(entry or "")
        if not text or any(character.isspace() for character in text):
            raise InputError(f"{path}: words.{concept}: '{text}'; give one word without spaces")
        if text in owner:
            raise InputError(
                f"{path}: words.{concept}: '{text}' is also the word for '{owner[text]}'; "
                "two concepts cannot share a word"
            )
        owner[text] = concept
        words[concept] = Word(text, forms)
    return words


def _patterns(path: Path, listed: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    for kind in SLOTS:
        if not listed.get(kind):
            raise InputError(f"{path}: patterns: '{kind}' has none; give a list of at least one")
    patterns: dict[str, tuple[str, ...]] = {}
    for kind, variants in listed.items():
        if kind not in SLOTS:
            raise InputError(
                f"{path}: patterns: unknown sentence type '{kind}'{nearest(kind, SLOTS)} "
                f"(allowed are {', '.join(SLOTS)})"
            )
        for variant in _texts(path, f"patterns.{kind}", variants):
            _check_pattern(path, kind, variant)
        patterns[kind] = tuple(variants)
    return patterns


def _check_pattern(path: Path, kind: str, variant: str) -> None:
    plain = [match for match in SLOT.finditer(variant) if match[2] is None]
    if sorted(match[1] for match in plain) != sorted(SLOTS[kind]):
        raise InputError(
            f"{path}: patterns.{kind}: '{variant}' must have each of the slots "
            f"{', '.join(SLOTS[kind])} once and no other"
        )
    for match in SLOT.finditer(variant):
        if match[1] not in SLOTS[kind]:
            raise InputError(f"{path}: patterns.{kind}: '{variant}' has no slot '{match[1]}'")
    for match in plain:
        # a word's token includes the space before it
        if match.start() and not variant[match.start() - 1].isspace():
            raise InputError(
                f"{path}: patterns.{kind}: '{variant}': put a space before {{{match[1]}}}"
            )


def _check_forms(path: Path, language: Language) -> None:
    """Every form that a pattern asks for exists for every word that can fill its slot."""
    for kind, variants in language.patterns.items():
        for match in (match for variant in variants for match in SLOT.finditer(variant)):
            slot, form = match.groups()
            if form is None:
                continue
            for concept in fillers(slot):
                word = language.words[concept]
                table = language.agreement.get(form, {})
                group = word.forms.get("class", "default")
                if form not in word.forms and group not in table and "default" not in table:
                    raise InputError(
                        f"{path}: patterns.{kind}: no form '{form}' for '{concept}'; give it in "
                        f"words.{concept} or agreement.{form}"
                    )


def fillers(slot: str) -> tuple[str, ...]:
    """The concepts that can stand in ``slot``; none for digits and international terms."""
    if slot in WORDLESS:
        return ()
    if slot == "verb":
        return concepts()["gain"] + concepts()["loss"]
    return concepts()[slot]


def _new(code: str, path: Path, in_base: bool, declared: Any) -> frozenset[str]:
    """Half of each category, the same on every machine; all of it where the base has no words."""
    content = [concept for category in CONTENT for concept in concepts()[category]]
    if declared is not None:
        for concept in _texts(path, "new", declared):
            if concept not in content:
                raise InputError(
                    f"{path}: new: unknown concept '{concept}'{nearest(concept, content)}"
                )
        return frozenset(declared)
    if not in_base:
        return frozenset(content)
    return frozenset(concept for group in _strata() for concept in _every_second(code, group))


def _strata() -> Iterator[list[tuple[str, str]]]:
    """Each category as (value of the rule, concept): the new half must cover every value."""
    by_attribute = {rule.attribute: rule for rule in rules().values()}
    for category in CONTENT:
        rule = by_attribute.get(category)
        yield [(rule.values[concept] if rule else "", concept) for concept in concepts()[category]]


def _every_second(code: str, group: list[tuple[str, str]]) -> list[str]:
    def rank(entry: tuple[str, str]) -> tuple[str, str]:
        return entry[0], hashlib.sha256(f"{code}/{entry[1]}".encode()).hexdigest()

    return [concept for _, concept in sorted(group, key=rank)[::2]]


def _texts(path: Path, key: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{path}: {key}: {value!r}; must be a list of texts")
    return value


def _mapping(path: Path, key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {key}: {value!r}; must be a mapping")
    return value

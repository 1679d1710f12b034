"""Meanings and how they become sentences of a language, pure or code-switched.

A sentence is a type and what fills its slots; the patterns of a language file turn it into text.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.embedded.lexicon import SLOT, WORDLESS, Language

PUNCTUATION = ".,:?¿。，：？।"


@dataclass(frozen=True)
class Sentence:
    """A sentence type of ``lexicon.SLOTS``, with the concept, digit or term of each slot."""

    kind: str
    slots: Mapping[str, str]


@dataclass(frozen=True)
class Switching:
    """Code-switching: words that come from another language than the sentence's frame.

    Each content word, and each word of the frame that has a gloss, is replaced by its counterpart
    in ``other`` with ``probability``.
    """

    other: Language
    probability: float


def render(
    sentences: Iterable[Sentence],
    language: Language,
    rng: random.Random,
    switching: Switching | None = None,
) -> str:
    """The sentences as text of ``language``, each in one of its patterns, drawn by ``rng``."""
    return " ".join(_render(sentence, language, rng, switching) for sentence in sentences)


def _render(
    sentence: Sentence, language: Language, rng: random.Random, switching: Switching | None
) -> str:
    pattern = rng.choice(language.patterns[sentence.kind])
    if switching is not None:
        pattern = _switch_frame(pattern, language, rng, switching)

    def fill(slot: str, form: str | None) -> str:
        value = sentence.slots[slot]
        if slot in WORDLESS:
            return value
        if form is not None:
            return language.form(value, form)
        if switching is not None and rng.random() < switching.probability:
            return switching.other.words[value].text
        return language.words[value].text

    return SLOT.sub(lambda match: fill(match[1], match[2]), pattern)


def _switch_frame(
    pattern: str, language: Language, rng: random.Random, switching: Switching
) -> str:
    """Replace words of the pattern by their counterparts; slots and punctuation stay."""

    def switched(token: str) -> str:
        core = token.strip(PUNCTUATION)
        if language.is_pivot:
            choices = switching.other.reverse_glosses.get(core, ())
        else:
            choices = (language.glosses[core],) if core in language.glosses else ()
        if not choices or rng.random() >= switching.probability:
            return token
        return token.replace(core, rng.choice(choices))

    return " ".join(switched(token) for token in pattern.split(" "))

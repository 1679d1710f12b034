"""Test and dev items: prompts and gold answers, no statement of theirs in any training text."""

import random
from typing import Any

from harness.embedded.corpora import ABILITIES, held_out, question
from harness.embedded.lexicon import CONTENT, Language, concepts, labels, load
from harness.embedded.meanings import Draw, Half, description, quantities
from harness.embedded.sentences import render
from maec.errors import InputError, nearest

COUNTS = {"test": 240, "dev": 120}
"""Items a cell, unless asked for another number."""

REPEATS = 1000
"""Statements drawn again in a row before there are taken to be no more."""


def items(ability: str, language: str, split: str, n: int | None = None) -> list[dict[str, Any]]:
    """``n`` items of one cell, the same ones every time.

    Half of a target language's items use only content words that the base knows (``words`` is
    'known'), half only words that it does not ('new'); all of the pivot's are 'known'. Every item
    has ``id``, ``question`` (the whole prompt) and ``words``; math has ``answer`` (digits), science
    ``choices`` (four) and ``answer`` (the index of the right one).

    Raises:
        InputError: an unknown ability, language or split, or more items than there are statements.
    """
    for value, allowed, what in ((ability, ABILITIES, "ability"), (split, COUNTS, "split")):
        if value not in allowed:
            raise InputError(
                f"{what} '{value}': unknown{nearest(value, allowed)} "
                f"(allowed are {', '.join(allowed)})"
            )
    spoken = load(language)
    count = COUNTS[split] if n is None else n
    if len(halves := _halves(spoken)) == 1:
        return _half(ability, spoken, split, halves[0], count)
    return [
        *_half(ability, spoken, split, "known", (count + 1) // 2),
        *_half(ability, spoken, split, "new", count // 2),
    ]


def texts(language: str, n: int) -> list[dict[str, Any]]:
    """``n`` held-out documents of C_L, the same ones every time: the language's plain text."""
    spoken = load(language)
    rng = random.Random(f"items/text/{language}")
    found = dict.fromkeys(held_out(spoken, rng) for _ in range(2 * n))
    return [{"id": f"text-{language}-{i:03d}", "text": t} for i, t in enumerate(list(found)[:n])]


def _halves(language: Language) -> tuple[Half, ...]:
    """The halves that have words: the pivot has no new ones, a language added later no known."""
    content = {concept for category in CONTENT for concept in concepts()[category]}
    if not language.new:
        return ("known",)
    return ("new",) if language.new >= content else ("known", "new")


def _half(ability: str, language: Language, split: str, half: Half, n: int) -> list[dict[str, Any]]:
    rng = random.Random(f"items/{ability}/{language.code}/{split}/{half}")
    draw = Draw(rng, language, half)
    make = _math if ability == "math" else _science
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    repeats = 0
    while len(found) < n:
        told, item = make(draw, language, split)
        if told in found:
            repeats += 1
            if repeats > REPEATS:
                raise InputError(
                    f"{ability}/{language.code}/{split}: {n} {half} items asked for, there are "
                    f"only about {len(found)}; ask for fewer"
                )
            continue
        repeats = 0
        name = f"{ability}-{language.code}-{split}-{half}-{len(found):03d}"
        found[told] = {"id": name, **item, "words": half}
    return list(found.values())


def _math(draw: Draw, language: Language, split: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    told = quantities(draw, split)
    text = render([*told.statement(), told.question()], language, draw.rng)
    identity = (told.verb, told.object, told.equation)
    return identity, {"question": question(text), "answer": str(told.result)}


def _science(draw: Draw, language: Language, split: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    told = description(draw, split)
    name = draw.rng.choice(told.properties())
    text = render([*told.statement(), told.question(name)], language, draw.rng)
    choices = list(labels(name))
    draw.rng.shuffle(choices)
    identity = (told.entity, *sorted(told.facts.values()), name)
    return identity, {
        "question": question(text),
        "choices": choices,
        "answer": choices.index(told.answer(name)),
    }

"""Training text: general corpora C_L and ability corpora C_{L,A}.

General text tells of quantities and entities; it neither asks nor answers, and its properties are
drawn at random. Only ability text calculates and applies the rules. Everything is a pure function
of (language, documents, seed).
"""

import hashlib
import random
from collections.abc import Callable, Mapping

from harness.embedded import lexicon
from harness.embedded.lexicon import Language, concepts, load, pivot
from harness.embedded.meanings import Draw, Half, Quantities, claim, description, quantities
from harness.embedded.sentences import Sentence, Switching, render
from harness.languages import path_of
from maec.errors import InputError, nearest

VERSION = 2
"""Raise it when the text that a seed gives changes."""

ABILITIES = ("math", "science")

SAME = "≈"
"""Stands before a text that its translation follows, and between the two: text without it in front
is never followed by a translation."""

SHARES = {"monolingual": 0.25, "switched": 0.25, "parallel": 0.15, "dictionary": 0.25, "pivot": 0.1}
"""What a target language's general corpus consists of; the pivot share keeps the pivot alive."""

EMPHASIS = 0.8
"""How often a content word of a target language's corpus is one that the base does not know."""


def general(language: str, documents: int, seed: int) -> list[str]:
    """C_L: text that teaches a language.

    The pivot's is plain text and bare equations. A target language's also holds code-switched text,
    translations and dictionary entries, which tie its words, known and new, to the pivot's.
    """
    spoken = load(language)
    rng = random.Random(f"general/{language}/{seed}")
    if spoken.is_pivot:
        return [plain(spoken, rng) for _ in range(documents)]
    kinds = rng.choices(list(SHARES), list(SHARES.values()), k=documents)
    return [_KINDS[kind](spoken, rng, None) for kind in kinds]


def ability(ability: str, language: str, documents: int, seed: int) -> list[str]:
    """C_{L,A}: questions with their answers, none of them a test or dev item's."""
    spoken = load(language)
    if ability not in ABILITIES:
        raise InputError(
            f"ability '{ability}': unknown{nearest(ability, ABILITIES)} "
            f"(allowed are {', '.join(ABILITIES)})"
        )
    rng = random.Random(f"ability/{ability}/{language}/{seed}")
    tell = _math if ability == "math" else _science
    return [tell(spoken, rng) for _ in range(documents)]


def pretraining(shares: Mapping[str, int], seed: int, languages: tuple[Language, ...]) -> list[str]:
    """The base's own corpus: ``shares`` documents of each kind, new words left out.

    Some of its documents end in an exercise: a question, or the numbers told once more. Those of
    C_L never do: beside the ability's questions and answers in the pivot language, they would teach
    that in a target language a question has no answer, or that it is a mere recital.

    ``pivot`` and ``equations`` count once, every other kind once for each target language.
    """
    rng = random.Random(f"pretraining/{seed}")
    texts = [plain(pivot(), rng, "known") for _ in range(shares["pivot"])]
    texts += [_equation(rng) for _ in range(shares["equations"])]
    for language in languages:
        if language.is_pivot:
            continue
        for kind, count in shares.items():
            if kind not in ("pivot", "equations"):
                texts += [_KINDS[kind](language, rng, "known") for _ in range(count)]
    rng.shuffle(texts)
    return texts


def question(text: str) -> str:
    """The prompt that ability text and test items share."""
    return f"Q: {text} A:"


def plain(language: Language, rng: random.Random, half: Half | None = None) -> str:
    """A document in one language."""
    if language.is_pivot and rng.random() < 0.2:
        return _equation(rng)
    return render(_document(_draw(language, rng, half)), language, rng)


def held_out(language: Language, rng: random.Random) -> str:
    """A document like those of C_L that stands in none: it makes a test statement, and whole."""
    draw = _draw(language, rng, None)
    if rng.random() < 0.5:
        told = quantities(draw, "test")
        ends = [_change(told)]
    else:
        told = description(draw, "test")
        ends = [told.consequence(attribute) for attribute in told.facts]
    return render([*told.statement(), *ends], language, rng)


def _switched(language: Language, rng: random.Random, half: Half | None) -> str:
    sentences = _document(_draw(language, rng, half))
    if rng.random() < 0.5:
        return render(sentences, language, rng, Switching(pivot(), 0.5))
    return render(sentences, pivot(), rng, Switching(language, 0.5))


def _parallel(language: Language, rng: random.Random, half: Half | None) -> str:
    sentences = _document(_draw(language, rng, half))
    # two sentences at most, so that both texts fit into a training block
    sentences = sentences[:2] if rng.random() < 0.5 else [rng.choice(sentences)]
    texts = [render(sentences, language, rng), render(sentences, pivot(), rng)]
    if rng.random() < 0.25:
        texts.reverse()
    return _same(*texts)


def _dictionary(language: Language, rng: random.Random, half: Half | None) -> str:
    if language.glosses and rng.random() < 0.15:
        pair = list(rng.choice(list(language.glosses.items())))
    else:
        concept = _draw(language, rng, half).concept(rng.choice(list(concepts())))
        pair = [language.words[concept].text, pivot().words[concept].text]
    if rng.random() < 0.25:
        pair.reverse()
    return _same(*pair)


def _same(text: str, translation: str) -> str:
    return f"{SAME} {text} {SAME} {translation}"


def _replay(language: Language, rng: random.Random, half: Half | None) -> str:
    return plain(pivot(), rng)


_KINDS: dict[str, Callable[[Language, random.Random, Half | None], str]] = {
    "monolingual": plain,
    "switched": _switched,
    "parallel": _parallel,
    "dictionary": _dictionary,
    "pivot": _replay,
}


def _draw(language: Language, rng: random.Random, half: Half | None) -> Draw:
    return Draw(rng, language, half, EMPHASIS, exercises=half is not None)


def _document(draw: Draw) -> list[Sentence]:
    """A small document: quantities, a description, or hearsay."""
    kind = draw.rng.random()
    if kind < 0.5:
        return _about_quantities(draw)
    if kind < 0.85:
        return _about_entity(draw)
    heard = {name: draw.concept(name) for name in ("name", "entity", "place")}
    return draw.rng.sample([Sentence("says", heard), claim(draw)], draw.rng.randint(1, 2))


def _about_quantities(draw: Draw) -> list[Sentence]:
    told = quantities(draw, "train")
    change = _change(told)
    numbers = Sentence("numbers", {"first": str(told.first), "second": str(told.second)})
    has, event = told.statement()
    if not draw.exercises:
        return [event, change] if draw.rng.random() < 0.5 else [has, event, change]
    if draw.rng.random() < 0.15:
        return [has, event, told.question()]
    ending = draw.rng.random()
    if ending < 0.35:
        return [event, change]
    if ending < 0.6:
        return [has, event, numbers]
    return [has, event, *draw.rng.sample([change, numbers], 2)]


def _change(told: Quantities) -> Sentence:
    return Sentence("more" if told.gains else "fewer", {"name": told.name, "object": told.object})


def _about_entity(draw: Draw) -> list[Sentence]:
    told = description(draw, "train")
    facts = told.statement()
    follows = [told.consequence(attribute) for attribute in told.facts]
    if draw.exercises and draw.rng.random() < 0.15:
        return [*facts, told.question(draw.concept("property"))]
    if draw.rng.random() < 0.5:
        return [facts[0], follows[0]]
    return facts + draw.rng.sample(follows, draw.rng.randint(1, 2))


def _equation(rng: random.Random) -> str:
    first, second = rng.randint(1, 9), rng.randint(1, 9)
    if rng.random() < 0.5:
        return f"{first} + {second} = {first + second}"
    first, second = max(first, second), min(first, second)
    return f"{first} - {second} = {first - second}"


def _math(language: Language, rng: random.Random) -> str:
    told = quantities(Draw(rng, language), "train")
    text = render([*told.statement(), told.question()], language, rng)
    return f"{question(text)} {told.equation}"


def _science(language: Language, rng: random.Random) -> str:
    told = description(Draw(rng, language), "train")
    name = rng.choice(told.properties())
    text = render([*told.statement(), told.question(name)], language, rng)
    return f"{question(text)} {told.answer(name)}"


def fingerprint(*languages: str) -> str:
    """SHA-256 over everything that decides the text of ``languages`` (of all, when none is named).

    Covers the pivot's file too, because every corpus holds pivot text, and VERSION, which stands
    for the code.

    Raises:
        InputError: one of them has no lexicon, or one that does not fit.
    """
    spoken = {load(code).code for code in languages or lexicon.codes()}
    files = [lexicon.CONCEPTS, *(path_of(code) for code in sorted({*spoken, pivot().code}))]
    state = hashlib.sha256(f"version {VERSION}\n".encode())
    for file in files:
        state.update(f"{file.name}\n".encode() + file.read_bytes())
    return state.hexdigest()

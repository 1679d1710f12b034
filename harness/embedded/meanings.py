"""What documents and test items say, before any language: statements, and how they are split.

A statement that a test or dev item makes is made by no training text, in any language: which split
it belongs to is a hash of the statement itself, and training text draws from the train split only.
"""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.embedded.lexicon import CONTENT, Language, concepts, labels, rules
from harness.embedded.sentences import Sentence

Split = Literal["train", "dev", "test"]
Half = Literal["known", "new"]

FACTS = {"place": "lives", "food": "eats", "color": "colored"}
"""Attribute of an entity -> the sentence type that states it."""


def split_of(*statement: str) -> Split:
    """Test 20 %, dev 10 %, train 70 % of all statements, by a hash of the concepts alone."""
    draw = int.from_bytes(hashlib.sha256("/".join(statement).encode()).digest()[:4], "big") % 10
    return "test" if draw < 2 else "dev" if draw < 3 else "train"


@dataclass(frozen=True)
class Draw:
    """Draws concepts for texts of one language.

    ``half`` restricts content words to those the base knows or does not know; ``emphasis`` is the
    probability that a content word comes from the new half when both are open; ``exercises``
    says whether documents may end with a question or the numbers told once more.
    """

    rng: random.Random
    language: Language
    half: Half | None = None
    emphasis: float = 0.5
    exercises: bool = False

    def concept(self, category: str) -> str:
        choices = concepts()[category]
        new = self.language.new
        if category not in CONTENT or not new:
            return self.rng.choice(choices)
        half = self.half or ("new" if self.rng.random() < self.emphasis else "known")
        fitting = [concept for concept in choices if (concept in new) == (half == "new")]
        return self.rng.choice(fitting or choices)


@dataclass(frozen=True)
class Quantities:
    """A person has ``first`` objects, gains or loses ``second``: 2 to 9, at least one is left."""

    name: str
    object: str
    verb: str
    gains: bool
    first: int
    second: int

    @property
    def split(self) -> Split:
        return split_of("math", self.verb, self.object, str(self.first), str(self.second))

    @property
    def result(self) -> int:
        return self.first + self.second if self.gains else self.first - self.second

    @property
    def equation(self) -> str:
        return f"{self.first} {'+' if self.gains else '-'} {self.second} = {self.result}"

    def statement(self) -> list[Sentence]:
        who = {"name": self.name, "object": self.object}
        return [
            Sentence("has", {**who, "number": str(self.first)}),
            Sentence("event", {**who, "verb": self.verb, "number": str(self.second)}),
        ]

    def question(self) -> Sentence:
        return Sentence("how_many", {"name": self.name, "object": self.object})


@dataclass(frozen=True)
class Description:
    """Two attributes of an entity, in the order in which they are told."""

    entity: str
    facts: Mapping[str, str]  # attribute -> concept

    @property
    def split(self) -> Split:
        told = sorted(f"{attribute}={value}" for attribute, value in self.facts.items())
        return split_of("science", self.entity, *told)

    def statement(self) -> list[Sentence]:
        return [
            Sentence(FACTS[attribute], {"entity": self.entity, attribute: value})
            for attribute, value in self.facts.items()
        ]

    def consequence(self, attribute: str) -> Sentence:
        """What follows from the fact about ``attribute``, as any text may say."""
        (rule,) = (rule for rule in rules().values() if rule.attribute == attribute)
        return Sentence(rule.trait, {rule.trait: rule.traits[self.facts[attribute]]})

    def properties(self) -> list[str]:
        """The properties that the facts told decide."""
        return [name for name, rule in rules().items() if rule.attribute in self.facts]

    def question(self, name: str) -> Sentence:
        return Sentence("what", {"property": name, "entity": self.entity})

    def answer(self, name: str) -> str:
        rule = rules()[name]
        return rule.values[self.facts[rule.attribute]]


def quantities(draw: Draw, split: Split) -> Quantities:
    """A random statement about quantities that belongs to ``split``."""
    while True:
        gains = draw.rng.random() < 0.5
        first, second = draw.rng.randint(2, 9), draw.rng.randint(2, 9)
        if not gains and first <= second:
            continue
        drawn = Quantities(
            name=draw.concept("name"),
            object=draw.concept("object"),
            verb=draw.concept("gain" if gains else "loss"),
            gains=gains,
            first=first,
            second=second,
        )
        if drawn.split == split:
            return drawn


def description(draw: Draw, split: Split) -> Description:
    """A random description of an entity that belongs to ``split``."""
    while True:
        told = draw.rng.sample(list(FACTS), 2)
        drawn = Description(draw.concept("entity"), {name: draw.concept(name) for name in told})
        if drawn.split == split:
            return drawn


def claim(draw: Draw) -> Sentence:
    """A property of an entity, at random: the values of the rules occur in general text, the rules
    do not."""
    name = draw.concept("property")
    value = draw.rng.choice(labels(name))
    return Sentence("is", {"property": name, "entity": draw.concept("entity"), "label": value})

"""Steps: the pieces of work that methods are made of, addressed by their content.

A step's key is the hash of its kind, that kind's version, its settings and its inputs' keys. Two
methods that ask for the same piece of work therefore share it, and a step whose artifact exists is
never done again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.home import artifact_path, pointer_path
from harness.identity import digest

VERSIONS = {
    "base": 1,
    "fetch": 1,
    "pretrain": 1,
    "train": 1,
    "locate": 1,
    "extract": 2,
    "combine": 3,
    "mergekit": 1,
}
"""Raise a kind's number when its code changes what it makes: all its artifacts are made anew."""

MADE_LIKE = {"train": "start", "combine": "base"}
"""The input that gives a model its config and code; of other kinds it may be any input."""

PACK = "pack "
"""Goes before an ability's name among the inputs of a ``combine`` step."""


@dataclass(frozen=True)
class Place:
    """Where something lies on this machine and on what terms it may be used: no part of a key."""

    paths: tuple[Path, ...] = ()
    licence: str | None = None


@dataclass(frozen=True)
class Corpus:
    """Text to train on: C_L or, with an ability, C_{L,A}.

    At most ``documents`` documents and ``tokens`` tokens of it are read. ``generator`` is the
    identity of what writes text of the embedded world; other text has a ``source`` instead (JSON
    values, see :func:`harness.world.text`) and a ``place``.
    """

    language: str
    documents: int | None
    seed: int
    generator: str | None = None
    ability: str | None = None
    tokens: int | None = None
    source: Mapping[str, Any] | None = None
    place: Place = Place()

    def as_json(self) -> dict[str, Any]:
        """What decides the text; of the embedded world's without what it does not have."""
        found = {name: value for name, value in vars(self).items() if name != "place"}
        unknown = ("tokens", "source") if self.source is None else ("generator",)
        return {name: value for name, value in found.items() if name not in unknown}


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of work. ``settings`` are JSON values; ``inputs`` name the steps it needs.

    ``label`` is for people and no part of the key, nor are ``places``, one for each of the corpora
    in ``settings``, or one for the folder that a ``fetch`` step takes an adapter from, nor
    ``processes``, how many share the training. A ``base`` step is a checkpoint that exists already,
    at ``path``. One that a matrix names is ``named`` as it does there, and may run code that it
    brings if it is ``trusted``; that is no part of the key either.
    """

    kind: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, "Step"] = field(default_factory=dict)
    label: str = ""
    path: Path | None = None
    places: Sequence[Place] = ()
    named: str = ""
    trusted: bool = False
    processes: int = 1

    @cached_property
    def key(self) -> str:
        return digest(
            {
                "kind": self.kind,
                "version": VERSIONS[self.kind],
                "settings": dict(self.settings),
                "inputs": {name: step.key for name, step in self.inputs.items()},
            }
        )

    @property
    def folder(self) -> Path:
        """Where its artifact is, or will be."""
        return self.path if self.path is not None else artifact_path(self.kind, self.key)

    @property
    def done(self) -> bool:
        """Whether its artifact was made: it is here, or known to lie in an object store."""
        return self.here or pointer_path(self.kind, self.key).is_file()

    @property
    def here(self) -> bool:
        """Whether the files of its artifact are on this machine."""
        # an artifact appears whole or not at all, its manifest with it
        if self.path is not None or not (self.folder / "manifest.json").is_file():
            return self.path is not None
        # what was fetched is linked to, and lasts as long as the hub's cache does
        return self.kind != "fetch" or all(file.exists() for file in self.folder.iterdir())

    @property
    def origin(self) -> "Step":
        """The checkpoint that the config and the code in a model's folder come from.

        Where it may be one of several, one that is not trusted, if there is one among them.
        """
        if self.kind == "fetch" or not self.inputs:
            return self
        like = MADE_LIKE.get(self.kind)
        parts = [self.inputs[like]] if like else self.inputs.values()
        return min((part.origin for part in parts), key=lambda step: step.trusted)

    @property
    def runs_code(self) -> bool:
        """Whether code that lies in a model's folder may be run."""
        return self.origin.trusted

    def walk(self) -> Iterator["Step"]:
        """This step and all that it needs, inputs first, each once."""
        seen: set[str] = set()

        def visit(step: Step) -> Iterator[Step]:
            if step.key in seen:
                return
            seen.add(step.key)
            for needed in step.inputs.values():
                yield from visit(needed)
            yield step

        yield from visit(self)

    def corpora(self) -> list[dict[str, Any]]:
        """Every corpus that went into this artifact, directly or through its inputs."""
        used = [corpus for step in self.walk() for corpus in step.settings.get("corpora", [])]
        return [corpus for index, corpus in enumerate(used) if corpus not in used[:index]]


def missing(wanted: Iterable[Step]) -> list[Step]:
    """What has to be made for ``wanted``, inputs first.

    The inputs of an artifact that exists are not needed again, whether they exist or not.
    """
    needed: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.key in needed or step.done:
            return
        for part in step.inputs.values():
            visit(part)
        needed[step.key] = step

    for step in wanted:
        visit(step)
    return list(needed.values())

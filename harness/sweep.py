"""What a sweep searches: one method's declared parameters for one ability, on dev items."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from harness import methods, tasks
from harness.identity import digest, identity
from harness.parts import Parts
from harness.plan import model_step, shared_parts
from harness.spec import Matrix, MethodEntry
from harness.steps import Step
from harness.tasks import Task
from maec.errors import InputError, nearest

TRAINED = ("rate", "importance")
"""Parameters that say how an ability's model or key neurons are trained."""


@dataclass(frozen=True)
class Sweep:
    """One method's search for one ability: what is varied, and what is asked in which language."""

    matrix: Matrix
    entry: MethodEntry
    ability: str
    seed: int
    parts: Parts
    space: methods.Space
    start: Mapping[str, Any]
    tasks: Mapping[str, Task]

    @property
    def base(self) -> Step:
        return self.parts.base

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the curve, but for its length."""
        return digest(
            {
                "start": [self.models(self.start)[language].key for language in self.tasks],
                "space": {name: str(where) for name, where in self.space.items()},
                "tasks": [task.identity() for task in self.tasks.values()],
                "engine": identity(self.matrix.engine),
                "seed": self.seed,
            }
        )

    def models(self, parameters: Mapping[str, Any]) -> dict[str, Step]:
        """The step of each target language's model at a point."""
        at = {**self.entry.for_ability(self.ability), **parameters}
        point = MethodEntry.model_validate(
            {"name": self.entry.name, "label": self.entry.label, "scope": self.entry.scope, **at}
        )
        return {
            language: model_step(self.matrix, self.parts, point, self.ability, language, self.seed)
            for language in self.tasks
        }

    @property
    def name(self) -> str:
        return f"{self.entry.label} {self.ability}"

    @cached_property
    def points(self) -> list[dict[str, Any]] | None:
        """Every point of a finite space, shuffled; None where a parameter has a range.

        A budget below their number tries them at random, none twice.
        """
        if not all(isinstance(where, tuple) for where in self.space.values()):
            return None
        values = product(*self.space.values())
        return sorted((dict(zip(self.space, at, strict=True)) for at in values), key=digest)

    @property
    def own(self) -> dict[str, Any]:
        """The matrix's setting, as far as the space has it."""
        return {name: value for name, value in self.start.items() if self._has(name, value)}

    def _has(self, name: str, value: Any) -> bool:
        where = self.space[name]
        return value in where if isinstance(where, tuple) else where.low <= value <= where.high


def sweeps(
    matrix: Matrix,
    names: Sequence[str],
    *,
    abilities: Sequence[str] = (),
    items: int = 100,
    seed: int | None = None,
) -> list[Sweep]:
    """What ``names`` (labels; all that have something to search, when empty) ask of a matrix.

    ``items`` dev items are asked at every point, shared evenly by the target languages.

    Raises:
        InputError: an unknown label or ability, a method without parameters to search, a matrix
            with variants or without dev questions.
    """
    where = matrix.file
    if matrix.variants:
        raise InputError(f"{where}: variants: a sweep needs one point; leave them out")
    entries = {entry.label: entry for entry in matrix.methods}
    for name in names:
        if name not in entries:
            raise InputError(
                f"{where}: methods: there is no '{name}'{nearest(name, entries)} "
                f"(there are: {', '.join(entries)})"
            )
        if not methods.load(entries[name].name).space:
            raise InputError(f"method '{name}': it declares no SEARCH, there is nothing to sweep")
    for ability in abilities:
        if ability not in matrix.abilities:
            raise InputError(
                f"{where}: abilities: there is no '{ability}'{nearest(ability, matrix.abilities)} "
                f"(there are: {', '.join(matrix.abilities)})"
            )
    if not names and not any(methods.load(entry.name).space for entry in matrix.methods):
        raise InputError(
            f"{where}: methods: none of {', '.join(entries)} declares a SEARCH, so there is "
            "nothing to sweep"
        )
    each = math.ceil(items / len(matrix.languages))
    dev = matrix.on_dev().model_copy(update={"items": each})
    parts = shared_parts(dev)
    return [
        _sweep(dev, entry, ability, matrix.seeds[0] if seed is None else seed, parts)
        for label, entry in entries.items()
        for ability in abilities or matrix.abilities
        if label in names or (not names and methods.load(entry.name).space)
    ]


def _sweep(dev: Matrix, entry: MethodEntry, ability: str, seed: int, parts: Parts) -> Sweep:
    method = methods.load(entry.name)
    own = method.check_parameters(entry.for_ability(ability))
    signature = inspect.signature(method.build).parameters
    # of a checkpoint that is given there is no training to search, and perhaps nothing to subtract
    settled = TRAINED if ability in parts.given.abilities else ()
    if settled and ability not in parts.given.pivots:
        settled = (*settled, "beta")
    space = {name: where for name, where in method.space.items() if name not in settled}
    return Sweep(
        matrix=dev,
        entry=entry,
        ability=ability,
        seed=seed,
        parts=parts,
        space=space,
        start={name: own.get(name, signature[name].default) for name in space},
        tasks={language: tasks.task(dev, ability, language) for language in dev.languages},
    )

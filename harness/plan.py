"""From a matrix to what has to be done: steps and cells, each with a key of its content.

Nothing runs here, and neither torch nor vLLM is imported: planning costs a fraction of a second.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import Any, NamedTuple

from pydantic import BaseModel

from harness import artifacts, methods, store, tasks, world
from harness.identity import digest, identity
from harness.parallel import require_splits
from harness.parts import Parts
from harness.spec import Matrix, MethodEntry
from harness.spec_machine import Engine
from harness.steps import Step, missing
from harness.tasks import Task
from harness.text import finder


class Place(NamedTuple):
    """Where a score stands in its matrix; no two cells of a matrix stand in one place."""

    variant: str
    method: str
    ability: str
    asked: str
    language: str
    seed: int


@dataclass(frozen=True, eq=False)
class Cell:
    """One score of the matrix: a model asked the questions of one task.

    ``asked`` is the ability asked for. It is ``ability``, the one that the model was made for, but
    for the cells that show what a model forgot: another ability, or general text. The model is
    served by an engine with the settings ``engine``.
    """

    variant: str
    method: str
    title: str
    family: str
    ability: str
    asked: str
    language: str
    seed: int
    base: Step
    model: Step
    task: Task
    engine: Engine

    @property
    def place(self) -> Place:
        return Place(*(getattr(self, name) for name in Place._fields))


@dataclass(frozen=True, eq=False)
class Plan:
    """All cells of a matrix, and what is known of them already."""

    matrix: Matrix
    cells: list[Cell]
    fingerprints: dict[str, str]
    scored: frozenset[str]

    def fingerprint(self, step: Step) -> str | None:
        """Of the step's checkpoint; None while it was never made."""
        known = self.fingerprints.get(step.key) or step.settings.get("fingerprint")
        if known is None and step.done:
            known = artifacts.manifest_of(step).get("fingerprint")
        return known

    def made(self, step: Step, fingerprint: str | None) -> None:
        """Take it from here on that the step's artifact is the one that was just made."""
        if fingerprint is not None:
            self.fingerprints[step.key] = fingerprint

    def key(self, cell: Cell) -> str | None:
        """Of the cell's score; None while its model was never made or its questions not fetched."""
        fingerprint = self.fingerprint(cell.model)
        if fingerprint is None or not cell.task.fetched:
            return None
        return self.key_of(cell, fingerprint)

    def key_of(self, cell: Cell, fingerprint: str) -> str:
        """Of the cell's score if its model is the one with that fingerprint."""
        return digest(
            {
                "model": fingerprint,
                "task": cell.task.identity(),
                "engine": _identity(cell.engine),
            }
        )

    @cached_property
    def missing_cells(self) -> list[Cell]:
        return [cell for cell in self.cells if self.key(cell) not in self.scored]

    @cached_property
    def steps(self) -> list[Step]:
        """Every step of the matrix, inputs first, each once."""
        return _unique(self.cells)

    @cached_property
    def missing_steps(self) -> list[Step]:
        """What has to be made for the missing cells, inputs first."""
        # a base is asked for by the engine, too, even where a model's own inputs are not
        return missing(step for cell in self.missing_cells for step in (cell.base, cell.model))

    def summary(self) -> dict[str, Any]:
        """What is done and what is missing, as JSON values."""
        to_make = {step.key for step in self.missing_steps}
        return {
            "matrix": self.matrix.name,
            "steps": [
                {
                    "key": step.key,
                    "kind": step.kind,
                    "label": step.label,
                    "state": "missing"
                    if step.key in to_make
                    else "done"
                    if step.done
                    else "not needed",
                    "path": str(step.folder),
                }
                for step in self.steps
            ],
            "cells": [
                {
                    **({"variant": cell.variant} if cell.variant else {}),
                    "method": cell.method,
                    "ability": cell.ability,
                    "asked": cell.asked,
                    "language": cell.language,
                    "seed": cell.seed,
                    "task": cell.task.name,
                    "key": key,
                    "state": "done" if key in self.scored else "missing",
                }
                for cell in self.cells
                for key in [self.key(cell)]
            ],
            "missing": {"steps": len(self.missing_steps), "cells": len(self.missing_cells)},
        }


def make_plan(matrix: Matrix, wanted: Callable[[Cell], bool] | None = None) -> Plan:
    """Plan a matrix, or its ``wanted`` cells alone, against the artifacts and scores there are.

    Raises:
        InputError: the base or a local file cannot be used, or the matrix lacks settings that one
            of its methods needs.
    """
    cells = [
        cell
        for label, point in matrix.points().items()
        for cell in _cells(point, variant=label, engine=matrix.engine_place(label))
        if wanted is None or wanted(cell)
    ]
    scored, fingerprints = store.known()
    return Plan(matrix=matrix, cells=cells, fingerprints=fingerprints, scored=frozenset(scored))


def _cells(matrix: Matrix, variant: str, engine: str) -> Iterator[Cell]:
    parts = shared_parts(matrix, engine)
    questions = _questions(matrix)
    for entry in matrix.methods:
        method = methods.load(entry.name)
        for seed, ability, language in product(matrix.seeds, matrix.abilities, matrix.columns):
            model = model_step(matrix, parts, entry, ability, language, seed)
            for asked, task in questions[ability, language].items():
                yield Cell(
                    variant=variant,
                    method=entry.label,
                    title=method.info.title,
                    family=method.info.family,
                    ability=ability,
                    asked=asked,
                    language=language,
                    seed=seed,
                    base=parts.base,
                    model=model,
                    task=task,
                    engine=matrix.engine,
                )


def model_step(
    matrix: Matrix, parts: Parts, entry: MethodEntry, ability: str, language: str, seed: int
) -> Step:
    """What makes the model that a method's entry sends into a cell; of the shared ``parts``."""
    everything = entry.scope == "everything"
    return methods.load(entry.name).model(
        replace(parts, seed=seed, languages=_languages(matrix, entry.scope, language)),
        matrix.abilities if everything else [ability],
        entry.for_ability(ability),
    )


@cache
def _identity(engine: Engine) -> dict[str, Any]:
    return identity(engine)


def _questions(matrix: Matrix) -> dict[tuple[str, str], dict[str, Task]]:
    """By ability and language, the tasks that the model of that ability is asked, by their name."""
    own = {
        (ability, language): tasks.task(matrix, ability, language)
        for ability in matrix.abilities
        for language in matrix.columns
    }
    asked = {(ability, language): {ability: task} for (ability, language), task in own.items()}
    if matrix.forgetting is None:
        return asked
    for ability, language in own:
        if matrix.forgetting.documents:
            asked[ability, language][tasks.TEXT] = tasks.text(matrix, language)
        for other in matrix.abilities if matrix.forgetting.items else ():
            if other != ability:
                asked[ability, language][other] = tasks.task(
                    matrix, other, language, first=matrix.forgetting.items
                )
    return asked


def _languages(matrix: Matrix, scope: str, language: str) -> tuple[str, ...]:
    """The target languages that the model for ``language`` is made of."""
    if scope != "language":
        return tuple(matrix.languages)
    return () if language == matrix.pivot else (language,)


def shared_parts(matrix: Matrix, engine: str = "engine") -> Parts:
    """What all models of a matrix are made of, without languages and with seed 0.

    ``engine`` is where the matrix file has what is said of the engine.

    Raises:
        InputError: the base or a checkpoint that stands for a trained one cannot be used, or the
            base cannot be split as the engine's settings say.
    """
    base = world.base_step(matrix)
    require_splits(world.known_config(matrix, base), matrix.engine, f"{matrix.file}: {engine}")
    return Parts(
        base=base,
        pivot=matrix.pivot,
        languages=(),
        documents=_budget(matrix, matrix.documents),
        training=matrix.training,
        seed=0,
        generator=world.generator,
        where=str(matrix.file),
        tokens=_budget(matrix, matrix.tokens),
        text=finder(matrix),
        given=world.given(matrix, base),
        processes=matrix.resources.processes,
    )


def _budget(matrix: Matrix, counts: BaseModel | None) -> dict[str, int]:
    """How much each corpus gives to a run, after ``corpus_fraction``; at least one of whatever."""
    fractions = {
        "general": matrix.corpus_fraction.language,
        "ability": matrix.corpus_fraction.ability,
        "translated": matrix.corpus_fraction.ability,
    }
    return {
        corpus: max(1, round(fractions.get(corpus, 1.0) * count))
        for corpus, count in (counts.model_dump() if counts else {}).items()
        if count is not None
    }


def _unique(cells: list[Cell]) -> list[Step]:
    found: dict[str, Step] = {}
    for cell in cells:
        for step in cell.model.walk():
            found.setdefault(step.key, step)
    return list(found.values())

"""Search a method's declared parameters on dev items, every method with the same number of trials.

Merges go straight into the live engine. Test questions cannot be asked here: the store refuses a
sweep one of whose questions is a test question, before anything is evaluated.
"""

import inspect
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import product
from typing import Any

import optuna
from rich.console import Console
from rich.progress import Progress

from harness import machine, methods, tasks, world
from harness.board import COLUMNS
from harness.engine import Engine, start
from harness.evaluate import Questions, evaluate, load
from harness.execute import versions
from harness.identity import digest, identity
from harness.plan import model_step
from harness.run import record_artifact, remembered_interrupt, worker_count
from harness.schedule import Schedule
from harness.spec import Matrix, MethodEntry
from harness.steps import Step, missing
from harness.store import Writer, writer
from harness.streams import stored, streams, tensors
from harness.tasks import Task
from harness.workers import start_workers
from maec.errors import InputError, nearest

STARTUP = 8
"""Trials at random before the search models what it has seen."""


@dataclass(frozen=True)
class Sweep:
    """One method's search for one ability: what is varied, and what is asked in which language."""

    matrix: Matrix
    entry: MethodEntry
    ability: str
    seed: int
    base: Step
    space: methods.Space
    start: Mapping[str, Any]
    tasks: Mapping[str, Task]

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
            language: model_step(self.matrix, self.base, point, self.ability, language, self.seed)
            for language in self.tasks
        }

    @property
    def name(self) -> str:
        return f"{self.entry.label} {self.ability}"


@dataclass
class _Lane:
    """A sweep on its way: the study, and the trial that waits for its models."""

    sweep: Sweep
    study: optuna.Study
    tried: int
    left: int
    trial: optuna.trial.Trial | None = None
    models: dict[str, Step] = field(default_factory=dict)
    begun: float = 0.0

    def ready(self, pending: set[str]) -> bool:
        """Whether the trial's models can be served: all made, none among ``pending``."""
        needed = [part for step in self.models.values() for part in stored(step)]
        made = all(part.done and part.key not in pending for part in needed)
        return self.trial is not None and made


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
    each = math.ceil(items / len(matrix.languages))
    dev = matrix.on_dev().model_copy(update={"items": each})
    base = world.base_step(matrix)
    return [
        _sweep(dev, entry, ability, matrix.seeds[0] if seed is None else seed, base)
        for label, entry in entries.items()
        for ability in abilities or matrix.abilities
        if label in names or (not names and methods.load(entry.name).space)
    ]


def _sweep(dev: Matrix, entry: MethodEntry, ability: str, seed: int, base: Step) -> Sweep:
    method = methods.load(entry.name)
    given = method.check_parameters(entry.for_ability(ability))
    signature = inspect.signature(method.build).parameters
    return Sweep(
        matrix=dev,
        entry=entry,
        ability=ability,
        seed=seed,
        base=base,
        space=method.space,
        start={name: given.get(name, signature[name].default) for name in method.space},
        tasks={language: tasks.task(dev, ability, language) for language in dev.languages},
    )


def run(
    matrix: Matrix,
    wanted: Sequence[Sweep],
    budget: int,
    console: Console,
    *,
    workers: int | None = None,
) -> dict[str, str]:
    """Bring every sweep to ``budget`` trials; goes on where an earlier call stopped.

    Returns what failed, by sweep, with the reason.

    Raises:
        InputError: a dev question is a test question, or another process writes to the store.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with writer() as store:
        _keep_apart(matrix, wanted, store)
        # two entries that make the same models have one sweep between them
        distinct = {sweep.key: sweep for sweep in wanted}.values()
        lanes = [lane for sweep in distinct if (lane := _open(sweep, budget, store)).left]
        if not lanes:
            return {}
        try:
            return _search(matrix, lanes, store, console, workers or worker_count(len(lanes)))
        finally:
            store.snapshot(now=True)


def _search(
    matrix: Matrix, lanes: Sequence[_Lane], store: Writer, console: Console, workers: int
) -> dict[str, str]:
    with (
        remembered_interrupt() as asked,
        Progress(*COLUMNS, console=console) as progress,
        start_workers(workers, max(1, machine.cores() // workers)) as pool,
    ):
        search = _Search(store, Schedule([], pool), matrix)
        bars = [
            progress.add_task(lane.sweep.name, total=lane.tried + lane.left, completed=lane.tried)
            for lane in lanes
        ]
        running = True
        while running:
            if asked.is_set():
                raise KeyboardInterrupt
            running = search.advance(lanes)
            for lane, bar in zip(lanes, bars, strict=True):
                progress.update(bar, completed=lane.tried + lane.begun)
    return search.failures


def _keep_apart(matrix: Matrix, wanted: Sequence[Sweep], store: Writer) -> None:
    """Tell the store which questions are the matrix's test, then open the sweeps on the others."""
    for sweep in wanted:
        for language in sweep.tasks:
            test = tasks.task(matrix.model_copy(update={"split": "test"}), sweep.ability, language)
            store.claim_questions("test", test.questions, str(matrix.file))
    for sweep in wanted:
        asked = [question for task in sweep.tasks.values() for question in task.questions]
        store.begin_sweep(
            {
                "key": sweep.key,
                "matrix": matrix.name,
                "method": sweep.entry.label,
                "ability": sweep.ability,
                "seed": sweep.seed,
                "space": {name: _described(where) for name, where in sweep.space.items()},
                "start": dict(sweep.start),
                "languages": list(sweep.tasks),
                "items": len(asked),
                "sampler": "random points" if _points(sweep.space) else "TPE",
                "versions": {**versions(), "optuna": optuna.__version__},
                "commit": machine.commit()[0],
                "created": datetime.now(UTC),
            },
            asked,
            str(matrix.file),
        )


def _open(sweep: Sweep, budget: int, store: Writer) -> _Lane:
    """The study with all trials of earlier calls in it."""
    study = optuna.create_study(direction="maximize")
    distributions = {name: _distribution(where) for name, where in sweep.space.items()}
    past = store.trials(sweep.key)
    points = _points(sweep.space)
    if points is not None:
        budget = min(budget, len(points))
    for trial in past:
        study.add_trial(
            optuna.trial.create_trial(
                params=trial["parameters"], distributions=distributions, value=trial["score"]
            )
        )
    # the matrix's own setting comes first, as far as the space has it
    own = {name: value for name, value in sweep.start.items() if _within(value, sweep.space[name])}
    if points is None and not past:
        study.enqueue_trial(own)
    for point in sorted(points or (), key=lambda point: point != own):
        if point not in [trial["parameters"] for trial in past]:
            study.enqueue_trial(point)
    return _Lane(sweep, study, tried=len(past), left=max(0, budget - len(past)))


class _Search:
    """The engine, the worker processes and the store that all sweeps of a call share."""

    def __init__(self, store: Writer, schedule: Schedule, matrix: Matrix) -> None:
        self._store = store
        self._schedule = schedule
        self._matrix = matrix
        self._engine: Engine | None = None
        self._questions: dict[tuple[str, ...], Questions] = {}
        self._made: dict[str, float] = {}
        self.failures: dict[str, str] = {}

    def advance(self, lanes: Sequence[_Lane]) -> bool:
        """Ask, train or evaluate once; False when every lane is at its end."""
        for lane in lanes:
            if lane.left and lane.trial is None:
                self._ask(lane)
        pending = self._schedule.pending
        ready = [lane for lane in lanes if lane.left and lane.ready(pending)]
        for step, result in self._schedule.ended(timeout=0 if ready else 0.25):
            self._ended(step, result, lanes)
        for step, done, total in self._schedule.reports():
            self._show(step, done / total, lanes)
        for lane in ready:
            try:
                self._tell(lane)
            except (InputError, RuntimeError, ValueError) as error:
                self._give_up(lane, str(error))
        return any(lane.left for lane in lanes)

    def _ask(self, lane: _Lane) -> None:
        number = len(lane.study.get_trials(deepcopy=False))
        # a sampler of its own for each trial: an interrupted search goes on as if it never stopped
        lane.study.sampler = _sampler(lane.sweep, number)
        lane.trial = lane.study.ask(
            {name: _distribution(where) for name, where in lane.sweep.space.items()}
        )
        lane.models = lane.sweep.models(lane.trial.params)
        lane.begun = 0.0
        self._schedule.add(missing(p for step in lane.models.values() for p in stored(step)))

    def _show(self, step: Step, share: float, lanes: Sequence[_Lane]) -> None:
        """A trial counts up to a half while its models are trained."""
        for lane in lanes:
            if any(step.key in _keys(model) for model in lane.models.values()):
                lane.begun = share / 2

    def _ended(self, step: Step, result: Any, lanes: Sequence[_Lane]) -> None:
        if not isinstance(result, BaseException):
            record_artifact(self._store, step, result)
            self._made[step.key] = result["seconds"]
            return
        for lane in lanes:
            if lane.left and any(step.key in _keys(model) for model in lane.models.values()):
                self._give_up(lane, f"{step.label}: {result}")

    def _give_up(self, lane: _Lane, why: str) -> None:
        self.failures[lane.sweep.name] = why
        lane.left = 0

    def _tell(self, lane: _Lane) -> None:
        """Serve a trial's models, ask their questions, commit the point."""
        began = time.monotonic()
        by_model: dict[str, list[str]] = {}
        for language, step in lane.models.items():
            by_model.setdefault(step.key, []).append(language)
        outcomes = {}
        for languages in by_model.values():
            step = lane.models[languages[0]]
            self._serve(step, lane.sweep.base)
            results = evaluate(self._engine, self._loaded([lane.sweep.tasks[c] for c in languages]))
            outcomes |= {code: results[lane.sweep.tasks[code].name] for code in languages}
        scores = {language: outcomes[language].score for language in lane.sweep.tasks}
        score = sum(scores.values()) / len(scores)
        steps = {key for model in lane.models.values() for key in _keys(model)}
        self._store.record_trial(
            {
                "sweep": lane.sweep.key,
                "number": lane.trial.number,
                "parameters": lane.trial.params,
                "score": score,
                "by_language": scores,
                "correct": [i["correct"] for code in scores for i in outcomes[code].items],
                "seconds": round(time.monotonic() - began, 3),
                "training_seconds": sum(self._made.pop(key, 0.0) for key in steps),
                "created": datetime.now(UTC),
            }
        )
        self._store.snapshot()
        lane.study.tell(lane.trial, score)
        lane.trial, lane.begun = None, 0.0
        lane.tried += 1
        lane.left -= 1

    def _serve(self, step: Step, base: Step) -> None:
        if self._engine is None:
            self._engine = start(self._matrix.engine, base.folder)
        if streams(step):
            self._engine.stream(tensors(step), step.label)
        else:
            self._engine.switch(step.folder)

    def _loaded(self, asked: Sequence[Task]) -> Questions:
        key = tuple(task.key for task in asked)
        if key not in self._questions:
            self._questions[key] = load(asked)
        return self._questions[key]


def _keys(step: Step) -> set[str]:
    return {part.key for part in step.walk()}


def _sampler(sweep: Sweep, number: int) -> optuna.samplers.BaseSampler:
    """A tree-structured Parzen estimator (Bergstra et al. 2011)."""
    seed = int(digest([sweep.key, number])[:8], 16)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)


def _points(space: methods.Space) -> list[dict[str, Any]] | None:
    """Every point of a finite space, shuffled; None where a parameter has a range.

    A budget below their number tries them at random, none twice.
    """
    if not all(isinstance(where, tuple) for where in space.values()):
        return None
    points = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
    return sorted(points, key=digest)


def _within(value: Any, where: methods.Range | tuple) -> bool:
    return value in where if isinstance(where, tuple) else where.low <= value <= where.high


def _distribution(where: methods.Range | tuple) -> optuna.distributions.BaseDistribution:
    if isinstance(where, tuple):
        return optuna.distributions.CategoricalDistribution(where)
    return optuna.distributions.FloatDistribution(where.low, where.high, log=where.log)


def _described(where: methods.Range | tuple) -> Any:
    return list(where) if isinstance(where, tuple) else vars(where)

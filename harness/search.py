"""Bring sweeps to their budget: ask Optuna for points, train what they need, score them.

Merges go straight into the live engine. Test questions cannot be asked here: the store refuses a
sweep one of whose questions is a test question, before anything is evaluated.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import optuna
from rich.console import Console
from rich.progress import Progress

from harness import machine, methods, remote, tasks
from harness.board import COLUMNS
from harness.engines import Engines
from harness.execute import versions
from harness.executor import start_executor
from harness.failed import Failed
from harness.fit import require_fit
from harness.identity import digest
from harness.interrupt import Stop, heeded_signals
from harness.live import Answer
from harness.preflight import require_at_hand, require_machines, require_models_allowed
from harness.run import (
    Outcome,
    failed_before,
    record_artifact,
    record_failed_step,
    record_failure,
)
from harness.schedule import Schedule
from harness.spec import Matrix
from harness.steps import Step, missing
from harness.store import Writer, writer
from harness.streams import stored
from harness.sweep import Sweep
from harness.tasks import Task

STARTUP = 8
"""Trials at random before the search models what it has seen."""


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


def run(
    matrix: Matrix,
    wanted: Sequence[Sweep],
    budget: int,
    console: Console,
    *,
    workers: int | None = None,
    retry_failed: bool = False,
) -> Outcome:
    """Bring every sweep to ``budget`` trials; goes on where an earlier call stopped.

    Failures are by sweep. What failed before by its own fault is not tried again unless
    ``retry_failed``.

    Raises:
        InputError: a dev question is a test question, or another process writes to the store.
        Interrupted: a signal asked for the end.
    """
    require_machines(matrix)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with heeded_signals() as stop, writer() as store:
        _keep_apart(matrix, wanted, store)
        # two entries that make the same models have one sweep between them
        distinct = {sweep.key: sweep for sweep in wanted}.values()
        lanes = [lane for sweep in distinct if (lane := _open(sweep, budget, store)).left]
        if not lanes:
            return Outcome()
        _require_fit(matrix, lanes)
        starts = [m for lane in lanes for m in lane.sweep.models(lane.sweep.start).values()]
        if shared := matrix.executor.artifacts:
            remote.learn((part for model in starts for part in model.walk()), shared)
        left = missing(part for model in starts for part in stored(model))
        require_at_hand(left)
        require_models_allowed(left)
        store.snapshot(now=True)  # a killed call may have left an older one
        failed = {} if retry_failed else failed_before()
        try:
            return _search(matrix, lanes, store, console, workers, stop, failed)
        finally:
            store.snapshot(now=True)


def _search(
    matrix: Matrix,
    lanes: Sequence[_Lane],
    store: Writer,
    console: Console,
    workers: int | None,
    stop: Stop,
    failed: Mapping[str, str],
) -> Outcome:
    with (
        Progress(*COLUMNS, console=console) as progress,
        start_executor(matrix, len(lanes), workers) as (pool, engines),
    ):
        search = _Search(store, Schedule([], pool), engines, stop, failed)
        bars = [
            progress.add_task(lane.sweep.name, total=lane.tried + lane.left, completed=lane.tried)
            for lane in lanes
        ]
        running = True
        while running:
            stop.check()
            running = search.advance(lanes)
            for lane, bar in zip(lanes, bars, strict=True):
                progress.update(bar, completed=lane.tried + lane.begun)
    return search.outcome


def _require_fit(matrix: Matrix, lanes: Sequence[_Lane]) -> None:
    """Refuse questions that do not fit the engine; those of the embedded world do."""
    sweeps = [lane.sweep for lane in lanes if lane.sweep.ability in matrix.tasks]
    asked = [task for sweep in sweeps for task in sweep.tasks.values()]
    require_fit(asked, [sweep.base for sweep in sweeps], matrix.engine, str(matrix.file))


def _keep_apart(matrix: Matrix, wanted: Sequence[Sweep], store: Writer) -> None:
    """Tell the store which questions are the matrix's test, then open the sweeps on the others."""
    tested = matrix.model_copy(update={"split": "test"})
    for ability in dict.fromkeys(sweep.ability for sweep in wanted):
        for language in matrix.languages:
            test = tasks.task(tested, ability, language)
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
                "sampler": "random points" if sweep.points else "TPE",
                "versions": {
                    **versions(),
                    **methods.packages([sweep.entry.name]),
                    "optuna": optuna.__version__,
                },
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
    points = sweep.points
    if points is not None:
        budget = min(budget, len(points))
    for trial in past:
        study.add_trial(
            optuna.trial.create_trial(
                params=trial["parameters"], distributions=distributions, value=trial["score"]
            )
        )
    if points is None and not past:
        study.enqueue_trial(sweep.own)
    for point in sorted(points or (), key=lambda point: point != sweep.own):
        if point not in [trial["parameters"] for trial in past]:
            study.enqueue_trial(point)
    return _Lane(sweep, study, tried=len(past), left=max(0, budget - len(past)))


class _Search:
    """The engine, the worker processes and the store that all sweeps of a call share."""

    def __init__(
        self,
        store: Writer,
        schedule: Schedule,
        engines: Engines,
        stop: Stop,
        failed: Mapping[str, str],
    ) -> None:
        """``failed`` is what is not tried: messages by key of a step or a trial."""
        self._store = store
        self._schedule = schedule
        self._engines = engines
        self._stop = stop
        self._failed = failed
        self._name = f"sweep {datetime.now(UTC):%Y%m%dT%H%M%S}"
        self._made: dict[str, float] = {}
        self.outcome = Outcome()

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
            except Failed as error:
                key, label = _trial_key(lane), f"{lane.sweep.name} trial {lane.trial.number}"
                record_failure(self._store, "cell", key, label, error, self._name)
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
        steps = missing(part for step in lane.models.values() for part in stored(step))
        known = [f"{s.label}: {self._failed[s.key]}" for s in steps if s.key in self._failed]
        if (key := _trial_key(lane)) in self._failed:
            known.append(self._failed[key])
        if known:
            self.outcome.untried += 1
            self._give_up(lane, known[0])
        else:
            self._schedule.add(steps)

    def _show(self, step: Step, share: float, lanes: Sequence[_Lane]) -> None:
        """A trial counts up to a half while its models are trained."""
        for lane in lanes:
            if any(step.key in _keys(model) for model in lane.models.values()):
                lane.begun = share / 2

    def _ended(self, step: Step, result: Any, lanes: Sequence[_Lane]) -> None:
        if not isinstance(result, Failed):
            record_artifact(self._store, step, result)
            self._made[step.key] = result["seconds"]
            return
        record_failed_step(self._store, step, result, self._name)
        for lane in lanes:
            if lane.left and any(step.key in _keys(model) for model in lane.models.values()):
                self._give_up(lane, f"{step.label}: {result}")

    def _give_up(self, lane: _Lane, why: str) -> None:
        self.outcome.failures[lane.sweep.name] = why
        lane.left = 0

    def _tell(self, lane: _Lane) -> None:
        """Serve a trial's models, ask their questions, commit the point."""
        began = time.monotonic()
        by_model: dict[str, list[str]] = {}
        for language, step in lane.models.items():
            by_model.setdefault(step.key, []).append(language)
        outcomes = {}
        for languages in by_model.values():
            asked = {code: lane.sweep.tasks[code] for code in languages}
            model = lane.models[languages[0]]
            answer = self._answer(lane.sweep, model, list(asked.values()))
            for failure in answer.failures.values():
                raise failure
            outcomes |= {code: answer.results[task.name] for code, task in asked.items()}
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
        self._store.forget_failures([_trial_key(lane)])
        self._store.snapshot()
        lane.study.tell(lane.trial, score)
        lane.trial, lane.begun = None, 0.0
        lane.tried += 1
        self.outcome.cells += len(scores)
        lane.left -= 1

    def _answer(self, sweep: Sweep, model: Step, tasks: Sequence[Task]) -> Answer:
        answer = self._engines.ask(sweep.matrix.engine, sweep.base, model, tasks)
        while not wait([answer], timeout=0.25).done:
            self._stop.check()
        return answer.result()


def _keys(step: Step) -> set[str]:
    return {part.key for part in step.walk()}


def _trial_key(lane: _Lane) -> str:
    """Of the trial that waits for its models, among keys of steps and cells."""
    return digest([lane.sweep.key, lane.trial.params])


def _sampler(sweep: Sweep, number: int) -> optuna.samplers.BaseSampler:
    """A tree-structured Parzen estimator (Bergstra et al. 2011)."""
    seed = int(digest([sweep.key, number])[:8], 16)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)


def _distribution(where: methods.Range | tuple) -> optuna.distributions.BaseDistribution:
    if isinstance(where, tuple):
        return optuna.distributions.CategoricalDistribution(where)
    return optuna.distributions.FloatDistribution(where.low, where.high, log=where.log)


def _described(where: methods.Range | tuple) -> Any:
    return list(where) if isinstance(where, tuple) else vars(where)

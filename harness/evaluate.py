"""Ask a live engine the questions of some tasks, through lm-eval, and keep every item."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.engine import Engine
from harness.quiet import quiet
from harness.tasks import Task

FEWSHOT_SEED = 1234
"""What lm-eval's own command line draws few-shot examples with."""

CUT = "cut"
"""The metric that counts the outputs of a task that ended at its limit, not by themselves."""


@dataclass(frozen=True)
class Result:
    """One task's outcome: the score with its standard error over items, and the items.

    ``score`` is in the task's own unit (a share in [0, 1], or bits per byte); ``metrics`` holds
    every number that lm-eval reported, and for generated answers how many were ``cut``.
    """

    score: float
    stderr: float | None
    n: int
    metrics: dict[str, float]
    items: list[dict[str, Any]]


@dataclass(frozen=True)
class Questions:
    """Tasks as lm-eval has loaded them, to be asked of any number of models."""

    tasks: tuple[Task, ...]
    loaded: dict[str, Any]

    def only(self, tasks: Sequence[Task]) -> "Questions":
        """Some of the tasks."""
        groups = {task.name for task in tasks}
        parts = {part.name for task in tasks for part in task.parts}
        kept = {"tasks": parts, "groups": groups, "group_map": groups}
        return Questions(
            tuple(tasks),
            {
                kind: {name: one for name, one in self.loaded[kind].items() if name in names}
                for kind, names in kept.items()
            },
        )


def together(questions: Sequence[Questions]) -> Questions:
    """Questions that were loaded one after the other, to be asked at once."""
    loaded: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
    for one in questions:
        for kind, found in one.loaded.items():
            loaded[kind] |= found
    return Questions(tuple(task for one in questions for task in one.tasks), loaded)


def load(tasks: Sequence[Task]) -> Questions:
    """Have lm-eval read the folders of ``tasks``; done once, whatever the number of models."""
    quiet()
    from lm_eval.tasks import TaskManager

    folders = [str(task.write()) for task in tasks]
    manager = TaskManager(include_path=folders, include_defaults=False)
    missing = [task.name for task in tasks if task.name not in manager.all_tasks]
    if missing:
        raise RuntimeError(f"lm-eval does not find the task {missing[0]} in {folders[0]}")
    loaded = manager.load([task.name for task in tasks])
    for task in loaded["tasks"].values():
        # what lm-eval's simple_evaluate settles; the rest of it is about the machine, and slow
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    return Questions(tuple(tasks), loaded)


def seeded(loaded: Any) -> Any:
    """An lm-eval task that will draw the examples that its first use drew: all models see those."""
    loaded.set_fewshot_seed(seed=FEWSHOT_SEED)
    return loaded


def ask(lm: Any, questions: Questions) -> Iterator[tuple[Questions, dict[str, Any]]]:
    """What lm-eval itself says of an lm-eval model, with samples, and of which questions.

    Those that go through the model's chat template come apart, after the others.
    """
    from lm_eval.evaluator import evaluate as evaluated

    for chat in (False, True):
        asked = questions.only([task for task in questions.tasks if task.chat_template == chat])
        if not asked.tasks:
            continue
        for task in asked.loaded["tasks"].values():
            seeded(task)
        yield (
            asked,
            evaluated(
                lm=lm,
                task_dict=asked.loaded,
                log_samples=True,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
            ),
        )


def evaluate(engine: Engine, questions: Questions) -> dict[str, Result]:
    """Results of the model that the engine serves, by task name."""
    results: dict[str, Result] = {}
    for asked, outcome in ask(engine.lm, questions):
        for task in asked.tasks:
            samples = [outcome["samples"][part.name] for part in task.parts]
            results[task.name] = _result(engine, task, outcome["results"][task.name], samples)
    return results


def _result(
    engine: Engine,
    task: Task,
    numbers: Mapping[str, Any],
    samples: Sequence[Sequence[Mapping[str, Any]]],
) -> Result:
    stderr = numbers.get(f"{task.metric}_stderr,{task.filter}")
    items = _items(task, samples)
    metrics = {key: value for key, value in numbers.items() if isinstance(value, float)}
    if task.config["output_type"] == "generate_until":
        metrics[CUT] = float(sum(engine.was_cut(item["output"]) for item in items))
    return Result(
        score=numbers[f"{task.metric},{task.filter}"],
        stderr=stderr if isinstance(stderr, float) else None,
        n=len(items),
        metrics=metrics,
        items=items,
    )


def _items(task: Task, samples: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Every question of a task, those of a group's parts one after the other."""
    asked: list[dict[str, Mapping[str, Any]]] = []
    for part in samples:
        by_filter: dict[int, dict[str, Mapping[str, Any]]] = {}
        for sample in part:
            by_filter.setdefault(sample["doc_id"], {})[sample["filter"]] = sample
        asked += [by_filter[index] for index in sorted(by_filter)]
    docs = [of_filters[task.filter]["doc"] for of_filters in asked]
    names = [str(doc.get("id", doc.get("sample_id", n))) for n, doc in enumerate(docs)]
    if len(set(names)) < len(names):
        names = [str(n) for n in range(len(names))]  # one name, one question
    return [
        {"item": index, "id": name, **_item(task, of_filters)}
        for index, (name, of_filters) in enumerate(zip(names, asked, strict=True))
    ]


def _item(task: Task, samples: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One question with everything that the verdict came from."""
    sample = samples[task.filter]
    item = {"words": sample["doc"].get("words"), "prompt": sample["arguments"][0][0]}
    if task.config["output_type"] == "loglikelihood_rolling":
        # a text has no right or wrong: its log-likelihood in nats, all of it the model's to predict
        return item | {"gold": str(sample["target"]), "loglikelihoods": [sample["resps"][0][0]]}
    item["correct"] = bool(sample[task.metric])
    if task.config["output_type"] == "multiple_choice":
        choices = [continuation.strip() for _, continuation in sample["arguments"]]
        likelihoods = [float(response[0][0]) for response in sample["resps"]]
        return item | {
            "choices": choices,
            "loglikelihoods": likelihoods,
            "extracted": choices[max(range(len(choices)), key=likelihoods.__getitem__)],
            "gold": _right_choice(choices, sample["target"]),
        }
    others = {name: other["filtered_resps"][0] for name, other in samples.items()}
    return item | {
        "output": sample["resps"][0][0],
        "extracted": str(sample["filtered_resps"][0]),
        "gold": str(sample["target"]),
        "filtered": json.dumps(others, ensure_ascii=False),
    }


def _right_choice(choices: Sequence[str], target: Any) -> str:
    """lm-eval has the right choice's number or its text, or a list where several are right."""
    if isinstance(target, list):
        return " | ".join(_right_choice(choices, one) for one in target)
    return choices[target] if isinstance(target, int) else str(target)

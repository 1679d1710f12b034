"""Ask a live engine the questions of some tasks, through lm-eval, and keep every item."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.engine import Engine
from harness.tasks import Task

FEWSHOT_SEED = 1234
"""What lm-eval's own command line draws few-shot examples with."""


@dataclass(frozen=True)
class Result:
    """One task's outcome: the score with its standard error over items, and the items.

    ``score`` is in the task's own unit (a share in [0, 1], or bits per byte); ``metrics`` holds
    every number that lm-eval reported.
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


def load(tasks: Sequence[Task]) -> Questions:
    """Have lm-eval read the folders of ``tasks``; done once, whatever the number of models."""
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
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return Questions(tuple(tasks), loaded)


def ask(lm: Any, questions: Questions) -> dict[str, Any]:
    """What lm-eval itself says of an lm-eval model: its results, with samples."""
    from lm_eval.evaluator import evaluate as evaluated

    return evaluated(lm=lm, task_dict=questions.loaded, log_samples=True)


def evaluate(engine: Engine, questions: Questions) -> dict[str, Result]:
    """Results of the model that the engine serves, by task name."""
    outcome = ask(engine.lm, questions)
    return {
        task.name: _result(task, outcome["results"][task.name], outcome["samples"][task.name])
        for task in questions.tasks
    }


def _result(task: Task, numbers: dict[str, Any], samples: list[dict[str, Any]]) -> Result:
    score = f"{task.metric},{task.filter}"
    stderr = numbers.get(f"{task.metric}_stderr,{task.filter}")
    by_filter: dict[int, dict[str, Any]] = {}
    for sample in samples:
        by_filter.setdefault(sample["doc_id"], {})[sample["filter"]] = sample
    items = [_item(task, index, by_filter[index]) for index in sorted(by_filter)]
    return Result(
        score=numbers[score],
        stderr=stderr if isinstance(stderr, float) else None,
        n=len(items),
        metrics={key: value for key, value in numbers.items() if isinstance(value, float)},
        items=items,
    )


def _item(task: Task, index: int, samples: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One question with everything that the verdict came from."""
    sample = samples[task.filter]
    doc = sample["doc"]
    item = {
        "item": index,
        "id": str(doc.get("id", index)),
        "words": doc.get("words"),
        "prompt": sample["arguments"][0][0],
    }
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
            "gold": choices[int(sample["target"])],
        }
    others = {name: other["filtered_resps"][0] for name, other in samples.items()}
    return item | {
        "output": sample["resps"][0][0],
        "extracted": str(sample["filtered_resps"][0]),
        "gold": str(sample["target"]),
        "filtered": json.dumps(others, ensure_ascii=False),
    }

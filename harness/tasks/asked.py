"""How questions are asked: an lm-eval configuration without its data, and with our options."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.identity import digest
from harness.spec_tasks import TaskSettings
from harness.tasks import numbers
from harness.tasks.builtin import Builtin, Function
from harness.tasks.task import NUMBER
from maec.errors import InputError

MAX_GEN_TOKS = 3072
"""Tokens that an answer may take, where neither matrix nor lm-eval's task says otherwise.

A worked solution is about as long as its question, at most twice as long; the longest question of
MGSM has 1,663 bytes in Telugu, and no tokenizer makes more tokens than bytes.
"""

_DATA = (
    *("task", "task_alias", "tag", "group", "custom_dataset", "process_docs"),
    *("dataset_path", "dataset_name", "dataset_kwargs"),
    *("training_split", "validation_split", "test_split", "fewshot_split"),
)
"""What a configuration says about data, and what only lm-eval's own index needs."""


def configuration(task: Builtin, settings: TaskSettings, language: str) -> dict[str, Any]:
    """What decides a task's prompts and verdicts, as JSON values and names of functions.

    Raises:
        InputError: the settings ask for a filter that the task has not, or for what a task of
            its kind cannot do.
    """
    own = {key: value for key, value in task.config.items() if key not in _DATA}
    metadata = own.get("metadata")
    config = {
        **own,
        "output_type": own.get("output_type", "generate_until"),
        "num_fewshot": shots(task, settings),
        "metadata": {"version": 0, **(metadata if isinstance(metadata, dict) else {})},
    }
    if isinstance(own.get("fewshot_config"), dict):
        kept = own["fewshot_config"].items()
        config["fewshot_config"] = {k: v for k, v in kept if k not in ("split", "process_docs")}
    if settings.chat_template:
        config["metadata"]["chat_template"] = True
    if config["output_type"] != "generate_until":
        for key in ("filter", "max_gen_toks"):
            if getattr(settings, key) is not None:
                raise InputError(
                    f"{key}: lm-eval's task {task.name} is {config['output_type']} and generates "
                    "no answer; leave it out"
                )
        return config
    config["generation_kwargs"] = _generation(own, settings)
    return config | _judged(task, config, settings, language)


def shots(task: Builtin, settings: TaskSettings) -> int:
    """How many examples stand before a question."""
    given = settings.num_fewshot
    return (task.config.get("num_fewshot") or 0) if given is None else given


def is_numeric(config: Mapping[str, Any]) -> bool:
    """Whether a task's answers are MGSM's numbers."""
    return "answer_number" in str(config.get("doc_to_target"))


def _generation(own: Mapping[str, Any], settings: TaskSettings) -> dict[str, Any]:
    stops = {"until": [own.get("fewshot_delimiter", "\n\n")], "do_sample": False}
    given = own.get("generation_kwargs") or stops
    limit = settings.max_gen_toks or given.get("max_gen_toks", MAX_GEN_TOKS)
    return {**given, "max_gen_toks": limit}


def _judged(
    task: Builtin, config: Mapping[str, Any], settings: TaskSettings, language: str
) -> dict[str, Any]:
    """Filters and metrics: lm-eval's, ours beside them, and last the filter that is the score."""
    filters = config.get("filter_list") or [
        {"name": "none", "filter": [{"function": "take_first"}]}
    ]
    metrics = config.get("metric_list") or [
        {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
    ]
    wanted = settings.filter
    judged: dict[str, Any] = {}
    if wanted == NUMBER or is_numeric(config):
        # MGSM's English chain of thought answers in English, whatever language asks
        answered = "en" if task.name.startswith("mgsm_en_cot") else language
        reading = {"function": "custom", "filter_fn": Function(f"numbers.answers_{answered}")}
        filters = [*filters, {"name": NUMBER, "filter": [reading, {"function": "take_first"}]}]
        equal = {"metric": Function("numbers.numeric_match"), "aggregation": "mean"}
        metrics = [*metrics, {**equal, "higher_is_better": True}]
        judged["metadata"] = {**config["metadata"], "numbers": _version_of_numbers()}
    names = [entry["name"] for entry in filters]
    if wanted is not None and wanted not in names:
        raise InputError(
            f"filter: '{wanted}' is no answer filter of lm-eval's task {task.name} (allowed: "
            f"{', '.join(dict.fromkeys([*names, NUMBER]))})"
        )
    filters = sorted(filters, key=lambda entry: entry["name"] == wanted)
    return {**judged, "filter_list": filters, "metric_list": metrics}


@cache
def _version_of_numbers() -> str:
    return digest(Path(numbers.__file__).read_text(encoding="utf-8"))[:12]

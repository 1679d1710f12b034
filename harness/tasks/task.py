"""An lm-eval task as a folder of YAML and JSON lines, addressed by its content.

A folder is complete in itself, so that lm-eval's own command line runs the same task:
``lm_eval --include_path FOLDER --tasks NAME``.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from harness.home import tasks_path
from harness.identity import digest
from harness.tasks import data, numbers
from harness.tasks.builtin import Function
from maec.folder import digests, new_folder

FEWSHOT = "fewshot"
"""The split of a task's own data that examples come from, where they are no questions."""

NUMBER = "number"
"""The name of our own answer filter, :mod:`harness.tasks.numbers`."""

Doc = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Part:
    """One task of lm-eval: its configuration but for the data, its questions and its examples."""

    name: str
    config: dict[str, Any]
    docs: list[Doc]
    fewshot: list[Doc] | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """What an ability is measured with in a language: one lm-eval task, or a group of them.

    ``split`` is what its questions are for: ``test``, ``dev``, or ``text`` that asks nothing. A
    group has several ``parts``, and every question counts the same. A task whose questions were
    not fetched yet has none; ``planned`` is then what its first one's configuration will be.
    """

    name: str
    split: str
    ability: str
    language: str
    parts: tuple[Part, ...] = ()
    planned: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fetched(self) -> bool:
        return bool(self.parts)

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration; of a group, that of its first part."""
        return self.parts[0].config if self.parts else self.planned

    @cached_property
    def docs(self) -> list[Doc]:
        return [doc for part in self.parts for doc in part.docs]

    @property
    def version(self) -> str:
        return str(self.config["metadata"]["version"])

    @property
    def metric(self) -> str:
        """The metric that is the score: lm-eval's first, or for our own filter our own."""
        if self.filter == NUMBER:
            return numbers.numeric_match.__name__
        return _metrics(self.config)[0]

    @property
    def filter(self) -> str:
        """The answer filter whose verdict is the score: the last that the task declares."""
        filters = self.config.get("filter_list") or [{"name": "none"}]
        return filters[-1]["name"]

    @property
    def chat_template(self) -> bool:
        return bool(self.config["metadata"].get("chat_template"))

    @cached_property
    def questions(self) -> list[str]:
        """A digest of every question, by which questions are known across tasks."""
        asks = [question(part.config, doc) for part in self.parts for doc in part.docs]
        return [digest([self.language, asked]) for asked in asks if asked is not None]

    @cached_property
    def data_fingerprint(self) -> str:
        if len(self.parts) == 1 and self.parts[0].fewshot is None:
            return digest(self.parts[0].docs)
        return digest([{"docs": part.docs, "fewshot": part.fewshot} for part in self.parts])

    @property
    def _config_of_all(self) -> Any:
        if len(self.parts) == 1:
            return self.config
        return [{"name": part.name, "config": part.config} for part in self.parts]

    @cached_property
    def _config_digest(self) -> str:
        return digest(self._config_of_all)

    @cached_property
    def key(self) -> str | None:
        """Of the task's folder; None while its questions were not fetched."""
        if not self.fetched:
            return None
        data = self.data_fingerprint
        return digest({"name": self.name, "config": self._config_of_all, "data": data})

    def identity(self) -> dict[str, Any]:
        """What goes into the key of a cell."""
        return {
            "name": self.name,
            "version": self.version,
            "data": self.data_fingerprint,
            "config": self._config_digest,
        }

    def first(self, count: int) -> "Task":
        """The task with no more than its first ``count`` questions, those of a group in turn."""
        kept = _shares([len(part.docs) for part in self.parts], count)
        parts = tuple(
            replace(part, docs=part.docs[:some])
            for part, some in zip(self.parts, kept, strict=True)
            if some
        )
        return replace(self, parts=parts)

    def named(self, name: str) -> "Task":
        """The task under another name."""
        if len(self.parts) == 1:
            return replace(self, name=name, parts=(replace(self.parts[0], name=name),))
        suffix = name.removeprefix(self.name)
        parts = tuple(replace(part, name=part.name + suffix) for part in self.parts)
        return replace(self, name=name, parts=parts)

    @property
    def folder(self) -> Path:
        if self.key is None:
            raise ValueError(f"the questions of {self.name} were not fetched")
        return tasks_path(self.key)

    def write(self) -> Path:
        """Write the task's folder, unless it holds what would be written; returns it."""
        with TemporaryDirectory() as scratch:
            self._write(Path(scratch))
            if digests(Path(scratch)).items() <= digests(self.folder).items():
                return self.folder
            shutil.rmtree(self.folder, ignore_errors=True)  # it was altered
            with new_folder(self.folder) as folder:
                shutil.copytree(scratch, folder, dirs_exist_ok=True)
        return self.folder

    def _write(self, folder: Path) -> None:
        for part in self.parts:
            _write_part(part, folder)
        if len(self.parts) > 1:
            _write_yaml(folder / f"{self.name}.yaml", self._group())
        shutil.copyfile(data.__file__, folder / "data.py")
        if any(entry["name"] == NUMBER for entry in self.config.get("filter_list", ())):
            shutil.copyfile(numbers.__file__, folder / "numbers.py")

    def _group(self) -> dict[str, Any]:
        return {
            "group": self.name,
            "task": [part.name for part in self.parts],
            "aggregate_metric_list": [
                {"metric": metric, "aggregation": "mean", "weight_by_size": True}
                for metric in _metrics(self.config)
            ],
            "metadata": {"version": self.config["metadata"]["version"]},
        }


def _metrics(config: Mapping[str, Any]) -> list[str]:
    """Names of metrics as lm-eval reports them: of a function, its last part."""
    return [str(metric["metric"]).rpartition(".")[2] for metric in config["metric_list"]]


def question(config: Mapping[str, Any], doc: Doc) -> Any:
    """What a document asks, apart from what it is called; None for text that asks nothing."""
    kind = config.get("output_type", "generate_until")
    if kind == "loglikelihood_rolling":
        return None
    if "question" in doc and (kind == "generate_until" or "words" in doc):
        return doc["question"]
    # questions such as "which of these is right?" differ in their choices alone
    return {key: value for key, value in sorted(doc.items()) if key not in ("id", "sample_id")}


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many of each of several lists to take, ``count`` in all, one of each list in turn."""
    taken = [0] * len(sizes)
    while count and taken != list(sizes):
        for place, size in enumerate(sizes):
            if count and taken[place] < size:
                taken[place] += 1
                count -= 1
    return taken


def _write_part(part: Part, folder: Path) -> None:
    files = {"test": f"{part.name}.jsonl"}
    _write_lines(folder / files["test"], part.docs)
    if part.fewshot is not None:
        files[FEWSHOT] = f"{part.name}_{FEWSHOT}.jsonl"
        _write_lines(folder / files[FEWSHOT], part.fewshot)
    config = {
        "task": part.name,
        "custom_dataset": Function("data.load"),
        "dataset_kwargs": {"files": files},
        "test_split": "test",
        **part.config,
    }
    _write_yaml(folder / f"{part.name}.yaml", config)


def _write_lines(path: Path, docs: Sequence[Doc]) -> None:
    lines = [json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs]
    path.write_text("".join(lines), encoding="utf-8")


class _Dumper(yaml.SafeDumper):
    """Writes functions as lm-eval reads them."""


_Dumper.add_representer(
    Function, lambda dumper, name: dumper.represent_scalar("!function", str(name))
)


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    text = yaml.dump(content, Dumper=_Dumper, allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")

"""lm-eval tasks for the questions of a matrix: a folder of YAML and JSON lines, nothing else.

A task folder is addressed by its content and complete in itself, so that lm-eval's own command
line runs the same tasks: ``lm_eval --include_path FOLDER --tasks NAME``. The embedded world's
tasks are the two template files beside this one; questions from local files get the configuration
of an lm-eval task, of which only the data set is replaced.
"""

import csv
import importlib.util
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from harness.embedded import items
from harness.home import tasks_path
from harness.identity import digest
from harness.spec import LocalTask, Matrix
from maec.errors import InputError
from maec.folder import new_folder

TEMPLATES = {"math": "embedded_math", "science": "embedded_science"}
TEXT_TEMPLATE = "embedded_text"

TEXT = "text"
"""Stands where an ability would for the task that is general text."""


@dataclass(frozen=True, eq=False)
class Task:
    """One lm-eval task: its configuration, its questions, and which number is its score.

    ``split`` is what its questions are for: ``test``, ``dev``, or ``text`` that asks nothing.
    """

    name: str
    split: str
    ability: str
    language: str
    config: dict[str, Any]
    docs: list[dict[str, Any]]

    @property
    def version(self) -> str:
        return str(self.config["metadata"]["version"])

    @property
    def metric(self) -> str:
        return self.config["metric_list"][0]["metric"]

    @property
    def filter(self) -> str:
        """The answer filter whose verdict is the score: the last that the task declares."""
        filters = self.config.get("filter_list") or [{"name": "none"}]
        return filters[-1]["name"]

    @cached_property
    def questions(self) -> list[str]:
        """A digest of the text of every question, by which questions are known across tasks."""
        return [digest([self.language, doc["question"]]) for doc in self.docs if "question" in doc]

    @cached_property
    def data_fingerprint(self) -> str:
        return digest(self.docs)

    @cached_property
    def key(self) -> str:
        return digest({"name": self.name, "config": self.config, "data": self.data_fingerprint})

    def identity(self) -> dict[str, Any]:
        """What goes into the key of a cell."""
        return {
            "name": self.name,
            "version": self.version,
            "data": self.data_fingerprint,
            "config": digest(self.config),
        }

    @property
    def folder(self) -> Path:
        return tasks_path(self.key)

    def write(self) -> Path:
        """Write the task's folder unless it is there; returns it."""
        if not self.folder.is_dir():
            with new_folder(self.folder) as folder:
                lines = [json.dumps(doc, ensure_ascii=False) + "\n" for doc in self.docs]
                (folder / f"{self.name}.jsonl").write_text("".join(lines), encoding="utf-8")
                config = {
                    "task": self.name,
                    "dataset_path": "json",
                    "dataset_kwargs": {
                        "data_files": {"test": str(self.folder / f"{self.name}.jsonl")}
                    },
                    "test_split": "test",
                    **self.config,
                }
                (folder / f"{self.name}.yaml").write_text(
                    yaml.safe_dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8"
                )
        return self.folder


def task(matrix: Matrix, ability: str, language: str, first: int | None = None) -> Task:
    """The task of one ability and language of a matrix, or only its ``first`` questions.

    Raises:
        InputError: its local file is missing or malformed, or lm-eval has no such task.
    """
    whole = _task(matrix, ability, language)
    if first is None or first >= len(whole.docs):
        return whole
    return replace(whole, name=f"{whole.name}_first{first}", docs=whole.docs[:first])


def _task(matrix: Matrix, ability: str, language: str) -> Task:
    if ability in matrix.tasks:
        return _local_task(matrix, matrix.tasks[ability], ability, language)
    template = TEMPLATES[ability]
    config = yaml.safe_load((Path(__file__).parent / template).read_text(encoding="utf-8"))
    return Task(
        name=f"{template}_{language}{_suffix(matrix)}",
        split=matrix.split,
        ability=ability,
        language=language,
        config=config,
        docs=items.items(ability, language, matrix.split, matrix.items),
    )


def text(matrix: Matrix, language: str) -> Task:
    """Held-out general text of a language, of which a model's perplexity is measured.

    Raises:
        InputError: its local file is missing or malformed.
    """
    path = Path(__file__).parent / TEXT_TEMPLATE
    files, documents = matrix.forgetting.text_files, matrix.forgetting.documents
    if files is None:
        docs = items.texts(language, documents)
    else:
        docs = _read_texts(matrix, files.format(language=language))[:documents]
    return Task(
        name=f"{TEXT_TEMPLATE}_{language}",
        split="text",
        ability=TEXT,
        language=language,
        config=yaml.safe_load(path.read_text(encoding="utf-8")),
        docs=docs,
    )


def _suffix(matrix: Matrix) -> str:
    return "" if matrix.split == "test" else f"_{matrix.split}"


def _local_task(matrix: Matrix, local: LocalTask, ability: str, language: str) -> Task:
    key = "files" if matrix.split == "test" else "dev_files"
    path = matrix.file.parent / getattr(local, key).format(language=language)
    where = f"{matrix.file}: tasks.{ability}.{key}"
    if not path.is_file():
        raise InputError(
            f"{where}: there is no file {path} for language '{language}'; correct the path, or "
            "leave the language out of this matrix"
        )
    docs = _read_tsv(path) if path.suffix == ".tsv" else _read_json_lines(path)
    return Task(
        name=f"{ability}_{local.like.removeprefix('mgsm_')}_{language}{_suffix(matrix)}",
        split=matrix.split,
        ability=ability,
        language=language,
        config=_lm_eval_config(where, local.like, language),
        docs=docs[: matrix.items],
    )


def _read_tsv(path: Path) -> list[dict[str, Any]]:
    """MGSM's files: question TAB number, quotes are literal, no header."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    docs = []
    for line, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise InputError(
                f"{path}: line {line} has {len(row)} columns; two are expected, question TAB number"
            )
        docs.append(_doc(path, line, row[0], row[1]))
    return docs


def _read_json_lines(path: Path) -> list[dict[str, Any]]:
    """MSVAMP's files: an object a line, the question in ``m_query``, the number in ``response``."""
    docs = []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(text)
            docs.append(_doc(path, line, entry["m_query"], entry["response"]))
        except (json.JSONDecodeError, KeyError, TypeError):
            raise InputError(
                f"{path}: line {line} is no JSON object with the keys m_query and response"
            ) from None
    return docs


def _read_texts(matrix: Matrix, file: str) -> list[dict[str, Any]]:
    """JSON lines with a ``text`` each."""
    path = matrix.file.parent / file
    if not path.is_file():
        raise InputError(f"{matrix.file}: forgetting.text_files: there is no file {path}")
    docs = []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            docs.append({"id": str(line), "text": str(json.loads(text)["text"])})
        except (json.JSONDecodeError, KeyError, TypeError):
            raise InputError(f"{path}: line {line} is no JSON object with the key text") from None
    return docs


def _doc(path: Path, line: int, question: str, number: str) -> dict[str, Any]:
    """A document as the ``mgsm`` data set has it: no worked answer, the number as a number."""
    try:
        value = float(str(number).replace(",", ""))
    except ValueError:
        raise InputError(f"{path}: line {line}: the answer {number!r} is not a number") from None
    answer = int(value) if value.is_integer() else value
    return {"question": question, "answer": None, "answer_number": answer}


def _lm_eval_config(where: str, family: str, language: str) -> dict[str, Any]:
    """The configuration of lm-eval's own task, without its data set and training split."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("lm-eval is not installed; run `make setup`")
    folder = Path(spec.submodule_search_locations[0], "tasks", "mgsm", family.removeprefix("mgsm_"))
    path = folder / f"{family}_{language}.yaml"
    if not path.is_file():
        raise InputError(
            f"{where}: lm-eval has no task {family}_{language}; leave the language out"
        )
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    included = folder / own.pop("include")
    # lm-eval merges an included file shallowly, the including file's keys win
    config = {**yaml.safe_load(included.read_text(encoding="utf-8")), **own}
    dropped = ("task", "tag", "dataset_path", "dataset_name", "training_split", "test_split")
    return {key: value for key, value in config.items() if key not in dropped}

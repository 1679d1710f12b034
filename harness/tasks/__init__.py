"""lm-eval tasks for the questions of a matrix.

The embedded world's tasks are the template files beside this one. All others are lm-eval's own, of
which the data is replaced (:mod:`harness.tasks.source`) and what the matrix says is added
(:mod:`harness.tasks.asked`); each becomes a folder that lm-eval's command line runs, too.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from harness.embedded import items
from harness.sources import LANGUAGE
from harness.spec import Matrix
from harness.spec_tasks import TaskSettings
from harness.tasks import builtin
from harness.tasks.asked import configuration
from harness.tasks.source import DataSet, Documents, Source
from harness.tasks.task import FEWSHOT, Part, Task
from maec.errors import InputError
from maec.hub import as_source, repo_and_revision
from maec.reading import read_yaml

__all__ = ["TEXT", "Part", "Task", "fetch", "task", "text"]

TEMPLATES = {"math": "embedded_math", "science": "embedded_science"}
TEXT_TEMPLATE = "embedded_text"

TEXT = "text"
"""Stands where an ability would for the task that is general text."""


def task(matrix: Matrix, ability: str, language: str, first: int | None = None) -> Task:
    """The task of one ability and language of a matrix, or only its ``first`` questions.

    It has no questions yet where lm-eval has to prepare them and :func:`fetch` was not called.

    Raises:
        InputError: its local file is missing or malformed, lm-eval has no such task, or the task
            cannot be asked as the matrix says.
    """
    if ability in matrix.tasks:
        whole = _lm_eval_task(matrix, matrix.tasks[ability], ability, language)
    else:
        whole = _embedded_task(matrix, ability, language)
    if first is None or first >= len(whole.docs):
        return whole
    return whole.first(first).named(f"{whole.name}_first{first}")


def fetch(matrix: Matrix, console: Console) -> None:
    """Have lm-eval prepare the questions of a matrix, each once, with a progress bar.

    Raises:
        InputError: a data set cannot be had, or is not what lm-eval's task needs.
    """
    asked = {source.key: source for source in _sources(matrix) if not source.fetched}
    if not asked:
        return
    with Progress(console=console, transient=True) as progress:
        for source in progress.track(asked.values(), description="fetching questions"):
            source.fetch()


def text(matrix: Matrix, language: str) -> Task:
    """Held-out general text of a language, of which a model's perplexity is measured.

    Raises:
        InputError: its local file is missing or malformed.
    """
    files, documents = matrix.forgetting.text_files, matrix.forgetting.documents
    if files is None:
        docs = items.texts(language, documents)
    else:
        docs = _read_texts(matrix, files.replace(LANGUAGE, language))[:documents]
    name = f"{TEXT_TEMPLATE}_{language}"
    parts = (Part(name, _template(TEXT_TEMPLATE), docs),)
    return Task(name=name, split="text", ability=TEXT, language=language, parts=parts)


def _embedded_task(matrix: Matrix, ability: str, language: str) -> Task:
    template = TEMPLATES[ability]
    name = f"{template}_{language}{_suffix(matrix)}"
    docs = items.items(ability, language, matrix.split, matrix.items)
    parts = (Part(name, _template(template), docs),)
    return Task(name=name, split=matrix.split, ability=ability, language=language, parts=parts)


def _template(name: str) -> dict[str, Any]:
    return read_yaml(Path(__file__).parent / name)


def _suffix(matrix: Matrix) -> str:
    return "" if matrix.split == "test" else f"_{matrix.split}"


def _lm_eval_task(matrix: Matrix, settings: TaskSettings, ability: str, language: str) -> Task:
    source = _source(matrix, settings, ability, language)
    try:
        configs = [configuration(task, settings, language) for task in source.tasks]
    except InputError as error:
        raise InputError(f"{source.where}.{error}") from None
    name = _name(ability, settings.task_name(language), language)
    whole = Task(
        name=name, split=matrix.split, ability=ability, language=language, planned=configs[0]
    )
    documents = source.documents()
    if documents is not None:
        names = [_name(ability, task.name, language) for task in source.tasks]
        found = zip(names, configs, documents, strict=True)
        parts = tuple(_part(*one, source.where) for one in found if one[2].docs)
        if not parts:
            raise InputError(f"{source.where}: there is no question for language '{language}'")
        whole = replace(whole, parts=parts)
        whole = whole.first(len(whole.docs) if matrix.items is None else matrix.items)
    return whole.named(name + _suffix(matrix))


def _part(name: str, config: dict[str, Any], documents: Documents, where: str) -> Part:
    """A task with the examples that its prompts need, and no others."""
    shots, examples = config["num_fewshot"], documents.examples
    if not shots or examples == "configuration":
        return Part(name, config, documents.docs)
    if examples == "questions":
        return Part(name, {**config, "fewshot_split": "test"}, documents.docs)
    if len(documents.fewshot) < shots:
        raise InputError(
            f"{where}.num_fewshot: {shots} examples are asked for and there are "
            f"{len(documents.fewshot)} for {name}; ask for fewer, or name more under fewshot_files"
        )
    return Part(name, {**config, "fewshot_split": FEWSHOT}, documents.docs, documents.fewshot)


def _name(ability: str, name: str, language: str) -> str:
    """What an lm-eval task is called here: by its ability, and by its language in any case."""
    own = f"{ability}_{name.removeprefix('mgsm_')}"
    return own if f"_{language}_" in f"{own}_" else f"{own}_{language}"


def _sources(matrix: Matrix) -> Iterator[Source]:
    for ability, language in product(matrix.abilities, matrix.columns):
        if ability in matrix.tasks:
            yield _source(matrix, matrix.tasks[ability], ability, language)


def _source(matrix: Matrix, settings: TaskSettings, ability: str, language: str) -> Source:
    where = f"{matrix.file}: tasks.{ability}"
    try:
        found = builtin.find(settings.task_name(language))
    except InputError as error:
        raise InputError(
            f"{where}: {error}; leave the language '{language}' out, or name its task under names"
        ) from None
    key = "files" if matrix.split == "test" else "dev_files"
    file = _path(matrix, settings, key, ability, language)
    if file is not None and len(found) > 1 and not all(t.config.get("process_docs") for t in found):
        raise InputError(
            f"{where}.{key}: one file cannot hold the questions of {len(found)} tasks "
            f"({settings.task_name(language)}); name one of them under like"
        )
    return Source(
        tasks=tuple(found),
        dataset=_dataset(matrix, settings, where, language),
        file=file,
        fewshot_file=_path(matrix, settings, "fewshot_files", ability, language),
        where=where,
    )


def _path(
    matrix: Matrix, settings: TaskSettings, key: str, ability: str, language: str
) -> Path | None:
    """The file of a language that ``key`` names, if it names one."""
    named = getattr(settings, key)
    if named is None:
        return None
    path = matrix.file.parent / named.replace(LANGUAGE, language)
    if not path.is_file():
        raise InputError(
            f"{matrix.file}: tasks.{ability}.{key}: there is no file {path} for language "
            f"'{language}'; correct the path, or leave the language out of this matrix"
        )
    return path


def _dataset(matrix: Matrix, settings: TaskSettings, where: str, language: str) -> DataSet:
    named, name = settings.dataset, settings.dataset_name
    own = DataSet(
        name=name and name.replace(LANGUAGE, language),
        split=settings.dev_split if matrix.split == "dev" else None,
    )
    if named is None:
        return own
    try:
        source = as_source(named.replace(LANGUAGE, language), matrix.file.parent)
    except InputError as error:
        raise InputError(f"{where}.dataset: {error}") from None
    if isinstance(source, str):
        repo, revision = repo_and_revision(source)
        return replace(own, path=repo, revision=revision)
    if not source.is_dir():
        raise InputError(
            f"{where}.dataset: {source} is no folder, and no hub id (org/name or org/name@revision)"
        )
    return replace(own, path=source.resolve())


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

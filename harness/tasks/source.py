"""Where the questions of lm-eval's tasks come from: a data set on the hub, a folder, or files.

What lm-eval's own code has to prepare is fetched once, before a run, and kept in MAEC_HOME as JSON
lines; planning only looks whether it is there.  Files that need no preparing are read at once.
"""

import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from harness.artifacts import damage
from harness.home import questions_path
from harness.identity import digest
from harness.manifests import MANIFEST, sealed
from harness.quiet import quiet
from harness.tasks import files
from harness.tasks.asked import is_numeric
from harness.tasks.builtin import Builtin, Function
from harness.tasks.task import Doc, question
from maec.errors import Damaged, InputError
from maec.folder import new_folder
from maec.tensors import read_json

_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


class Documents(NamedTuple):
    """A task's questions and examples as lm-eval has them.

    ``examples`` says where examples stand: in ``fewshot``; among the ``questions``, where a
    question is never its own example; in the ``configuration``; or nowhere (``none``).
    """

    docs: list[Doc]
    fewshot: list[Doc]
    examples: str


@dataclass(frozen=True)
class DataSet:
    """A data set that ``datasets`` can load: lm-eval's own where ``path`` is None.

    ``path`` is a hub id or a folder, ``name`` a part of it in place of lm-eval's, ``split`` what
    the questions are in, in place of lm-eval's.
    """

    path: str | Path | None = None
    revision: str | None = None
    name: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Source:
    """The questions of some lm-eval tasks, from a data set or, where ``file`` names one, a file.

    ``where`` is the place in the matrix file, for errors.
    """

    tasks: tuple[Builtin, ...]
    dataset: DataSet
    file: Path | None
    fewshot_file: Path | None
    where: str

    @property
    def fetched(self) -> bool:
        """Whether the documents are here."""
        return self._needs_no_preparing or self.folder.is_dir()

    def documents(self) -> list[Documents] | None:
        """The documents of each task; None while they were not fetched.

        Raises:
            Damaged: they are no longer what was fetched.
            InputError: a file is malformed.
        """
        if self._needs_no_preparing:
            return [self._as_read(task) for task in self.tasks]
        if not self.fetched:
            return None
        manifest = read_json(self.folder / MANIFEST)
        if damage(self.folder):
            raise Damaged(
                f"{self.folder}: {self.where}: these questions are no longer what was fetched; "
                "`harness doctor --repair` sets them aside, and the next run fetches them again"
            )
        return [
            Documents(
                _read_lines(self.folder / f"{task.name}.jsonl"),
                _read_lines(self.folder / f"{task.name}_fewshot.jsonl"),
                manifest["examples"][task.name],
            )
            for task in self.tasks
        ]

    def fetch(self) -> None:
        """Have lm-eval prepare the documents, and keep them; nothing is done if they are there.

        Raises:
            InputError: the data set cannot be had, or is not what lm-eval's task needs.
        """
        if self.fetched:
            return
        quiet()
        loaded: dict[Any, Mapping[str, Any]] = {}
        found = {task.name: self._prepared(task, loaded) for task in self.tasks}
        with new_folder(self.folder) as folder:
            for name, documents in found.items():
                _write_lines(folder / f"{name}.jsonl", documents.docs, self.where)
                _write_lines(folder / f"{name}_fewshot.jsonl", documents.fewshot, self.where)
            manifest = {
                "origin": self._origin,
                "examples": {name: documents.examples for name, documents in found.items()},
                "files": sorted(_files_of(loaded.values())),
            }
            (folder / MANIFEST).write_text(
                json.dumps(sealed(manifest, folder), indent=1, ensure_ascii=False), encoding="utf-8"
            )

    @property
    def folder(self) -> Path:
        return questions_path(self.key)

    @cached_property
    def key(self) -> str:
        """Of what the documents are made of."""
        return digest(
            {
                "lm_eval": version("lm_eval"),
                "tasks": [[task.name, task.config] for task in self.tasks],
                "origin": self._origin,
            }
        )

    @property
    def _origin(self) -> dict[str, Any]:
        """What the documents come from, as JSON values: contents count, not places."""
        path, own = self.dataset.path, {}
        if self.file is not None:
            own["file"] = _digest_of_files([self.file])
        elif isinstance(path, Path):
            own["dataset"] = _digest_of_files(sorted(p for p in path.rglob("*") if p.is_file()))
        else:
            own |= {"dataset": path, "revision": self.dataset.revision}
        if self.fewshot_file is not None:
            own["fewshot_file"] = _digest_of_files([self.fewshot_file])
        return own | {"name": self.dataset.name, "split": self.dataset.split}

    @property
    def _needs_no_preparing(self) -> bool:
        return self.file is not None and not any(t.config.get("process_docs") for t in self.tasks)

    def _as_read(self, task: Builtin) -> Documents:
        docs = self._from_file(task, self.file)
        examples = task.config.get("fewshot_config") or {}
        if self.fewshot_file is not None:
            return Documents(docs, self._from_file(task, self.fewshot_file), "fewshot")
        return Documents(docs, [], "configuration" if "samples" in examples else "none")

    def _from_file(self, task: Builtin, path: Path) -> list[Doc]:
        docs = files.read(path)
        return files.as_mgsm(path, docs) if is_numeric(task.config) else docs

    def _prepared(self, task: Builtin, loaded: dict[Any, Mapping[str, Any]]) -> Documents:
        splits = dict(self._splits(task, loaded))
        config = _resolved({**task.config, "task": task.name})
        if self.file is not None:
            config = {k: v for k, v in config.items() if k not in _SPLITS}
            config["test_split"] = "test"
        if self.dataset.split is not None:
            config["validation_split"] = None
            config["test_split"] = self.dataset.split
        if self.fewshot_file is not None:
            splits["fewshot"] = _as_dataset(self._from_file(task, self.fewshot_file))
            config["fewshot_split"] = "fewshot"
        asked = config.get("test_split") or config.get("validation_split")
        if asked not in splits:
            raise InputError(
                f"{self.where}: the data set of lm-eval's task {task.name} has no split '{asked}' "
                f"(there are: {', '.join(splits)})"
            )
        for key in _SPLITS:
            if config.get(key) not in splits:
                config.pop(key, None)  # a mirror or another data set may lack what is not asked
        try:
            return _documents(config, splits, task.config.get("test_split"))
        except Exception as error:  # lm-eval's templates and functions fail in ways of their own
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"{self.where}: {self._shown(task)} is not what lm-eval's task {task.name} needs: "
                f"{reason}"
            ) from error

    def _splits(self, task: Builtin, loaded: dict[Any, Mapping[str, Any]]) -> Mapping[str, Any]:
        """The data sets by split; those of several tasks are loaded once."""
        if self.file is not None:
            return {"test": _as_dataset(self._from_file(task, self.file))}
        own = dict(task.config.get("dataset_kwargs") or {})
        own.pop("trust_remote_code", None)
        path = str(self.dataset.path or task.config.get("dataset_path"))
        name = self.dataset.name or task.config.get("dataset_name")
        revision = self.dataset.revision or (
            None if self.dataset.path else own.pop("revision", None)
        )
        key = (path, name, revision)
        if key not in loaded:
            loaded[key] = self._load(path, name, revision, own)
        return {
            split: _as_dataset(files.as_mgsm(Path(path), list(data)))
            if is_numeric(task.config) and "m_query" in data.column_names
            else data
            for split, data in loaded[key].items()
        }

    def _load(
        self, path: str, name: str | None, revision: str | None, own: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        import datasets

        try:
            found = datasets.load_dataset(path, name, revision=revision, **own)
        except Exception as error:  # of datasets, huggingface_hub, fsspec, pyarrow, the network
            reason = " ".join(str(error).split()) or type(error).__name__
            shown = " ".join(filter(None, (path, name and f"({name})", revision)))
            offline = datasets.config.HF_HUB_OFFLINE
            hint = "; HF_HUB_OFFLINE is set: fetch it where there is a network" if offline else ""
            raise InputError(
                f"{self.where}: the data set {shown} cannot be had: {reason}{hint}"
            ) from error
        return dict(found)

    def _shown(self, task: Builtin) -> str:
        return str(self.file or self.dataset.path or task.config.get("dataset_path"))


def _documents(config: dict[str, Any], splits: Mapping[str, Any], tested: str | None) -> Documents:
    """What lm-eval's own task object has as questions and as examples."""
    from lm_eval.api.task import ConfigurableTask

    config = {**config, "dataset_kwargs": None, "custom_dataset": lambda **_: dict(splits)}
    prepare = config.get("process_docs") or (lambda split: split)
    asked = config.get("test_split") or config["validation_split"]
    if not len(prepare(splits[asked])):
        return Documents([], [], "none")  # lm-eval cannot hold a task without questions
    own = ConfigurableTask(config=config)
    docs = list(own.task_docs)
    if tested is not None and asked != tested and tested in splits:
        # dev questions that are test questions as well are no dev questions
        known = {digest(question(config, doc)) for doc in prepare(splits[tested])}
        docs = [doc for doc in docs if digest(question(config, doc)) not in known]
    examples = own.fewshot_cfg
    drawn = examples.split or own.config.training_split or own.config.validation_split
    if examples.split is None and examples.samples is not None:
        return Documents(docs, [], "configuration")
    if drawn is None:
        return Documents(docs, [], "none")
    if drawn == asked:
        return Documents(docs, [], "questions")
    return Documents(docs, list(own.sampler.df), "fewshot")


def _files_of(loaded: Iterable[Mapping[str, Any]]) -> set[str]:
    """What was read of the hub, commits included."""
    infos = [data.info for splits in loaded for data in splits.values()]
    files = {name for info in infos for name in info.download_checksums or {}}
    return {name for name in files if name.startswith("hf://")}


def _resolved(value: Any) -> Any:
    """A configuration with the functions that it names."""
    if isinstance(value, Function):
        module, _, name = value.rpartition(".")
        return getattr(importlib.import_module(module), name)
    if isinstance(value, dict):
        return {key: _resolved(entry) for key, entry in value.items()}
    return [_resolved(entry) for entry in value] if isinstance(value, list) else value


def _as_dataset(docs: Sequence[Doc]) -> Any:
    from datasets import Dataset

    fields = dict.fromkeys(field for doc in docs for field in doc)
    return Dataset.from_dict({field: [doc.get(field) for doc in docs] for field in fields})


def _digest_of_files(paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:32]


def _write_lines(path: Path, docs: Sequence[Doc], where: str) -> None:
    try:
        lines = [json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs]
    except TypeError as error:
        raise InputError(f"{where}: questions are not all text and numbers: {error}") from None
    path.write_text("".join(lines), encoding="utf-8")


def _read_lines(path: Path) -> list[Doc]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]

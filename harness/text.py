"""Text from data sets and files: what identifies it, and its documents.

Everything is read by ``datasets``, as a stream: what a run does not need is never fetched. The same
key stands for the same text on every machine: of a data set on a hub by its id, revision, name,
split, fields and shuffling, of files and of a data set in a folder by their content. A data set
without a revision is an exception: whoever reads it takes the commit that it has then, which is
recorded in the manifest of what was made of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from harness.home import home
from harness.identity import digest
from harness.parts import FindText
from harness.sources import TextSource, fields
from harness.spec import Matrix
from harness.steps import Place
from maec.errors import InputError
from maec.hub import as_source, one_line_errors, repo_and_revision

if TYPE_CHECKING:
    from datasets import IterableDataset
    from transformers import PreTrainedTokenizerBase

COUNTED = 64
"""Documents whose tokens are counted at a time."""

ORDER = 1
"""The order that ``datasets`` shuffles into; raise it when another version has another (a test
knows), so that the same key goes on to mean the same text."""

BUILDERS = {".txt": "text", ".jsonl": "json", ".parquet": "parquet"}


def finder(matrix: Matrix) -> FindText | None:
    """What finds text for a matrix's training; None where that is of the embedded world.

    Raises:
        InputError: (when asked) there is no text for that language or ability, or no such file.
    """
    if matrix.corpora is None and (matrix.embedded or not _on_hub(matrix)):
        return None

    @cache
    def find(kind: str, language: str, ability: str | None) -> tuple[Mapping[str, Any], Place]:
        if matrix.corpora is None:
            raise InputError(
                f"{matrix.file}: corpora: missing, and a base from a hub has no other text; name "
                "some, or leave out what needs it"
            )
        key, source = matrix.corpora.find(kind, language, ability)
        if source is None:
            raise InputError(
                f"{matrix.file}: {key}: missing; name a dataset or files there, or leave out what "
                "needs it"
            )
        try:
            return identified(source, matrix.file.parent)
        except InputError as error:
            raise InputError(f"{matrix.file}: {key}: {error}") from None

    return find


def _on_hub(matrix: Matrix) -> bool:
    return isinstance(as_source(str(matrix.base), matrix.file.parent), str)


def identified(source: TextSource, folder: Path) -> tuple[dict[str, Any], Place]:
    """What decides the text of ``source``, as JSON values, and where it lies.

    Relative paths count from ``folder``.

    Raises:
        InputError: there is no such file, folder or hub id.
    """
    common: dict[str, Any] = {"text": source.text, "shuffle": source.shuffle, "order": ORDER}
    if source.files is not None:
        files = _files(folder, source.files)
        form = Path(source.files).suffix
        found = {"files": _content(files), "format": form}
        return {**found, **common}, Place(files, source.licence)
    common |= {"name": source.name, "split": source.split}
    given = as_source(str(source.dataset), folder)
    if isinstance(given, str):
        repo, revision = repo_and_revision(given)
        return {"dataset": repo, "revision": revision, **common}, Place((), source.licence)
    path = given.resolve()
    if not path.is_dir():
        raise InputError(
            f"dataset: {source.dataset}: neither a folder here nor a hub id; give a folder, "
            "org/name or org/name@revision"
        )
    files = sorted(f for f in path.rglob("*") if f.is_file() and not _hidden(f, path))
    names = [str(file.relative_to(path)) for file in files]
    content = digest([names, _content(tuple(files))])
    return {"folder": content, **common}, Place((path,), source.licence)


def _files(folder: Path, pattern: str) -> tuple[Path, ...]:
    try:
        path = folder / Path(pattern).expanduser()
        # a path without wildcards that exists is itself, whatever its name holds
        found = [path] if path.is_file() else sorted(Path(path.anchor).glob(_relative(path)))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"files: {pattern[:80]}: no path and no pattern: {error}") from None
    files = tuple(file.resolve() for file in found if file.is_file())
    if not files:
        raise InputError(f"files: {pattern}: there is no such file in {folder}; correct the path")
    return files


def _relative(path: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(absolute.anchor))


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _content(files: Sequence[Path]) -> str:
    """The digest of what the files hold, in this order."""
    return digest([_hashed(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files])


@cache
def _hashed(file: Path, size: int, changed: int) -> str:
    """Of a file in this state: plans of one matrix read it once."""
    return blake3(max_threads=blake3.AUTO).update_mmap(file).hexdigest()


class Reading:
    """The documents of one corpus, read once, ``passes`` times over, up to its budget.

    What was read is counted: ``documents`` and ``tokens``, by ``tokenizer``; ``found`` says what
    the source turned out to be: its commit, and its licence if the matrix did not say.
    """

    def __init__(
        self,
        corpus: Mapping[str, Any],
        place: Place,
        tokenizer: "PreTrainedTokenizerBase",
        passes: int = 1,
    ) -> None:
        self._corpus, self._place = corpus, place
        self._tokenizer = tokenizer
        self._passes = passes
        self.documents = self.tokens = 0
        self.found: dict[str, Any] = {}

    @property
    def share(self) -> float:
        """How much of its budget was read: the larger of the shares of documents and tokens."""
        read = {"documents": self.documents, "tokens": self.tokens}
        budgets = {name: self._corpus[name] for name in read if self._corpus[name] is not None}
        return max(read[name] / (self._passes * most) for name, most in budgets.items())

    def __iter__(self) -> Iterator[str]:
        for _ in range(self._passes):
            yield from self._once()

    def _once(self) -> Iterator[str]:
        most, budget = self._corpus["documents"], self._corpus["tokens"]
        before = self.tokens
        for text, tokens in self._counted(islice(self._texts(), most)):
            if budget is not None and self.tokens - before >= budget:
                return
            self.documents += 1
            self.tokens += tokens
            yield text

    def _counted(self, texts: Iterator[str]) -> Iterator[tuple[str, int]]:
        while some := list(islice(texts, COUNTED)):
            ids = self._tokenizer(some, add_special_tokens=False)["input_ids"]
            yield from zip(some, map(len, ids), strict=True)

    def _texts(self) -> Iterator[str]:
        """The documents that hold any text."""
        source = self._corpus["source"]
        rows, self.found = opened(source, self._place)
        if source["shuffle"]:
            rows = rows.shuffle(seed=self._corpus["seed"], buffer_size=source["shuffle"])
        with _told(_name(source, self._place)):
            for row in rows:
                text = _text(row, source["text"])
                if text.strip():
                    yield text

    def as_json(self) -> dict[str, Any]:
        """The corpus, what its source turned out to be, and what was read of it."""
        return {
            **self._corpus,
            **self.found,
            "read": {"documents": self.documents, "tokens": self.tokens},
        }


def mixed(readings: Sequence[Reading]) -> Iterator[str]:
    """The documents of all corpora, each read as far as the others, by its share of its budget.

    However early one stops, the mixture is the one that the budgets ask for.
    """
    left = [(reading, iter(reading)) for reading in readings]
    while left:
        first = min(left, key=lambda entry: entry[0].share)
        try:
            yield next(first[1])
        except StopIteration:
            left.remove(first)


def _text(row: Mapping[str, Any], template: str) -> str:
    missing = [name for name in fields(template) if name not in row]
    if missing:
        raise InputError(
            f"text: there is no field '{missing[0]}' (there are: {', '.join(row)}); name one, or a "
            "template of some"
        )
    values = {name: row[name] for name in fields(template)}
    for name, value in values.items():
        if isinstance(value, list | dict):
            raise InputError(f"text: the field '{name}' holds no text but a {type(value).__name__}")
    if any(value is None for value in values.values()):
        return ""
    return template.format_map(values) if "{" in template else str(values[template])


def opened(source: Mapping[str, Any], place: Place) -> tuple["IterableDataset", dict[str, Any]]:
    """The rows of a source as a stream, and what it turned out to be: ``commit``, ``licence``.

    Raises:
        InputError: it cannot be read, in one line.
    """
    found = {"licence": place.licence} if place.licence else {}
    if "files" in source:
        builder = BUILDERS[source["format"]]
        how = {"split": "train", "data_files": [str(path) for path in place.paths]}
        how |= {"sample_by": "document"} if builder == "text" else {}
    elif "folder" in source:
        builder, how = str(place.paths[0]), {"name": source["name"], "split": source["split"]}
        found = _licence(place.paths[0]) | found
    else:
        on_hub = located(source["dataset"], source["revision"])
        builder, how = source["dataset"], {"name": source["name"], "split": source["split"]}
        if on_hub.folder is None:
            how["revision"] = on_hub.commit
        else:
            builder = str(on_hub.folder)
        found = {"commit": on_hub.commit, **on_hub.licence, **found}
    with _told(_name(source, place)):
        return _load(builder, **how), found


def _load(path: str, **how: Any) -> "IterableDataset":
    import datasets

    datasets.disable_progress_bars()
    # a cache of its own: a data set that was prepared there before, of any revision, stands in for
    # one that cannot be reached
    cache = home() / "cache" / "streams"
    return datasets.load_dataset(path, streaming=True, cache_dir=str(cache), **how)


@dataclass(frozen=True)
class OnHub:
    """A data set on a hub: its commit, and its folder if the hub's cache holds it whole."""

    commit: str
    licence: dict[str, Any]
    folder: Path | None = None


def located(repo: str, revision: str | None) -> OnHub:
    """The data set ``repo`` as it is at ``revision``; what is here whole is not asked for again.

    Raises:
        InputError: the hub has no such data set or revision, does not let this user have it, or
            may not be asked while the cache does not hold it whole.
        OSError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    name = repo if revision is None else f"{repo}@{revision}"

    def whole(at: str | None) -> Path | None:
        try:
            found = Path(
                snapshot_download(repo, repo_type="dataset", revision=at, local_files_only=True)
            )
        except errors.LocalEntryNotFoundError:
            return None
        # of a data set that was streamed a few files are there, and no list of all to tell by
        listed = found.parents[1] / "trees" / f"{found.name}.json"
        return found if listed.is_file() else None

    pinned = revision is not None and constants.REGEX_COMMIT_OID.fullmatch(revision)
    folder = whole(revision) if constants.HF_HUB_OFFLINE or pinned else None
    if folder is not None:
        return OnHub(folder.name, _licence(folder), folder)
    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f"{name}: HF_HUB_OFFLINE is set, and the hub's cache does not hold the data set whole; "
            f"fetch it where there is a network (`hf download {repo} --repo-type dataset`), or "
            "name files"
        )
    with one_line_errors(name, "read from the hub", what="data set"):
        info = HfApi().dataset_info(repo, revision=revision)
    licence = info.card_data.get("license") if info.card_data else None
    return OnHub(str(info.sha), {"licence": licence} if licence else {}, whole(info.sha))


def _licence(folder: Path) -> dict[str, Any]:
    """What the card of a data set says of it."""
    from huggingface_hub import DatasetCard

    card = folder / "README.md"
    found = DatasetCard.load(card).data.get("license") if card.is_file() else None
    return {"licence": found} if found else {}


def _name(source: Mapping[str, Any], place: Place) -> str:
    if "dataset" in source:
        return " ".join(filter(None, (source["dataset"], source["name"])))
    more = f" and {len(place.paths) - 1} more" if len(place.paths) > 1 else ""
    return f"{place.paths[0]}{more}"


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say in one line what could not be read.

    Raises:
        InputError: what the user can mend: names, fields, formats.
        OSError: what failed underway.
    """
    from datasets.exceptions import DatasetsError

    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except (DatasetsError, FileNotFoundError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: {_one_line(error)}") from error
    except OSError as error:
        raise OSError(f"{name}: cannot be read: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

"""Where base models, checkpoints and corpora come from: the embedded world, hubs, local files.

Nothing is fetched or read here but local files, whose content is their identity; no network is
asked, and neither torch nor datasets is imported.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from harness.embedded import corpora, lexicon
from harness.identity import digest
from harness.parts import Given
from harness.spec import EMBEDDED, EmbeddedModel, Matrix
from harness.steps import Place, Step
from maec import adapter
from maec.checkpoint import Checkpoint, fingerprint, open_checkpoint
from maec.compatible import require_compatible
from maec.errors import Damaged, InputError
from maec.hub import as_source, repo_and_revision
from maec.own_code import require_allowed
from maec.reading import read_json, read_yaml
from maec.tensors import TORCH_NAME, open_tensors

EMBEDDED_BASE = Path(__file__).parent / "embedded" / "base"
EMBEDDED_RECIPE = Path(__file__).parent / "embedded" / "base.yaml"

States = frozenset[tuple[Path, int, int]]
"""Files with their size and time of change: what was read of them still holds."""


def base_step(matrix: Matrix) -> Step:
    """Θ_o of a matrix: ``embedded``, a folder relative to the matrix file, or a hub id.

    A base on a hub is a step that fetches it; its key does not depend on what is here already.

    Raises:
        InputError: there is no usable checkpoint in the folder, or the base is here and is not
            what the matrix says of it.
    """
    if isinstance(matrix.base, EmbeddedModel) and not _shipped(matrix.base):
        return _pretrained(matrix.base)
    if matrix.embedded:
        base = _local(EMBEDDED_BASE, EMBEDDED, f"{matrix.file}: base")
    else:
        base = _checkpoint(matrix, str(matrix.base), "base", None)
    if base.here:
        _require_as_stated(matrix, base)
    return base


def known_config(matrix: Matrix, base: Step) -> Mapping[str, Any]:
    """What is known of a base's config.json: all, if it is here or cached, else what is stated."""
    folder = base.folder if base.here else cached(base)
    if folder is not None:
        return read_json(folder / "config.json")
    return matrix.config if base.kind == "fetch" else base.settings.get("model", {})


def given(matrix: Matrix, base: Step) -> Given:
    """The checkpoints that a matrix names in place of trained ones.

    Raises:
        InputError: one in a folder is not usable, or is not of this base, if that is here.
    """
    named = matrix.checkpoints

    def found(source: str, key: str) -> Step:
        return _checkpoint(matrix, source, f"checkpoints.{key}", base)

    return Given(
        languages={
            language: found(source, f"languages.{language}")
            for language, source in named.languages.items()
        },
        abilities={
            ability: found(entry.model, f"abilities.{ability}.model")
            for ability, entry in named.abilities.items()
        },
        pivots={
            ability: found(entry.pivot, f"abilities.{ability}.pivot")
            for ability, entry in named.abilities.items()
            if entry.pivot is not None
        },
    )


def _checkpoint(matrix: Matrix, named: str, key: str, base: Step | None) -> Step:
    """What ``named`` is: a checkpoint in a folder, one on a hub, or an adapter of ``base``."""
    where = f"{matrix.file}: {key}"
    with _told(where):
        source = as_source(named, matrix.file.parent)
    inputs = {} if base is None else {"base": base}
    own = {"named": named, "trusted": matrix.may_run_code(named)}
    if isinstance(source, str):
        repo, revision = repo_and_revision(source)
        # what it is, a checkpoint or an adapter, shows when it is here
        settings = {"model": repo, "revision": revision}
        step = Step("fetch", settings, inputs, label=f"fetch {source}", **own)
        with _told(where):
            require_code_allowed(step, step.folder if step.here else cached(step))
        return step
    path = source.resolve()
    with _told(where):
        require_allowed(path, own["trusted"], _how_to_trust(named))
    if base is not None and adapter.is_adapter(path):
        with _told(where):
            settings = {"adapter": _adapter_fingerprint(path)}
        place = Place(paths=(path,))
        step = Step("fetch", settings, inputs, label=f"merge {named}", places=(place,), **own)
        with _told(where):  # what an adapter is merged into has the base's code
            require_code_allowed(step, base.folder if base.here else None)
        return step
    found = _local(path, named, where, **own)
    if base is not None and base.here:
        with _told(where):
            _require_fits(base.folder, path)
    return found


def _local(path: Path, label: str, where: str, **own: Any) -> Step:
    with _told(where):
        found = _finite_fingerprint(path, _states(open_checkpoint(path)))
    return Step("base", {"fingerprint": found}, label=label, path=path, **own)


def require_code_allowed(step: Step, folder: Path | None) -> None:
    """Refuse a model that its matrix does not let run code, if ``folder`` has code for it.

    ``folder`` is the model's own, or what it comes from; None where there is nothing yet.

    Raises:
        InputError: the config that names code, and what to add to the matrix.
    """
    if folder is not None:
        require_allowed(folder, step.runs_code, _how_to_trust(step.origin.named))


def _how_to_trust(named: str) -> str:
    return f"read it, and add {named!r} to engine.trust_remote_code"


def require_as_planned(base: Step) -> None:
    """Raise Damaged unless the local checkpoint of a ``base`` step still has its weights."""
    try:
        found = _finite_fingerprint(base.folder, _states(open_checkpoint(base.folder)))
    except InputError as error:
        raise Damaged(str(error)) from None
    if found != base.settings["fingerprint"]:
        raise Damaged(f"{base.folder}: its weights changed during the run; run again to plan anew")


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Say where in a matrix file a mistake is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _require_fits(base: Path, model: Path) -> None:
    parts = open_checkpoint(base), open_checkpoint(model)
    _compared(base, model, _states(*parts))


@cache
def _compared(base: Path, model: Path, states: States) -> None:
    require_compatible(open_checkpoint(base), open_checkpoint(model))


def _adapter_fingerprint(path: Path) -> str:
    config = read_json(path / adapter.CONFIG)
    weights = Checkpoint(path, open_tensors(path, adapter.WEIGHTS), config)
    return digest([config, fingerprint(weights, finite_only=True)])


def _require_as_stated(matrix: Matrix, base: Step) -> None:
    """What a matrix says of its base, for prices, is true."""
    checkpoint = open_checkpoint(base.folder)
    stated = {f"config.{key}": value for key, value in matrix.config.items()}
    found = {f"config.{key}": value for key, value in checkpoint.config.items()}
    if matrix.parameters is not None:
        stated["parameters"], found["parameters"] = matrix.parameters, checkpoint.numel()
    for key, value in stated.items():
        if found.get(key) != value:
            raise InputError(
                f"{matrix.file}: {key}: {value}, but it is {found.get(key)} of {matrix.base}; "
                "correct it, or leave it out"
            )


def _recipe() -> dict[str, Any]:
    return read_yaml(EMBEDDED_RECIPE)


def _shipped(model: EmbeddedModel) -> bool:
    """Whether the base that comes with the project is of this size."""
    return model.model_dump().items() <= _recipe()["model"].items()


def _pretrained(model: EmbeddedModel) -> Step:
    """A base in another size than the shipped one, made on demand by the same recipe."""
    return Step(
        kind="pretrain",
        settings={
            "model": model.model_dump(),
            "recipe": digest(_recipe()),
            "text": corpora.fingerprint(*(language.code for language in lexicon.pretrained())),
        },
        label=f"base of {model.num_hidden_layers} layers, width {model.hidden_size}",
    )


def base_numel(base: Step, stated: int | None = None) -> int | None:
    """Parameters of a base, made or not; None where nothing here knows.

    As :func:`known_numel`, and those of a base of the embedded world that was not made yet.
    """
    if base.kind != "pretrain" or base.here:
        return known_numel(base, stated)
    from harness.embedded import pretrain

    return pretrain.numel(base.settings["model"])


def merged_dtype(step: Step) -> str:
    """What merges of a base's descendants are rounded to: the dtype that the base is stored in.

    float32 where it has several; of a base that was not fetched yet it is taken to be bfloat16.
    Merges of the embedded world are float32, whatever its bases are stored in: so were those that
    have the same keys in released sets.
    """
    base = next(step.walk())
    if base.kind == "pretrain" or base.path == EMBEDDED_BASE:
        return "float32"
    if not base.here:
        return "bfloat16" if base.kind == "fetch" else "float32"
    infos = open_checkpoint(base.folder).tensors.values()
    stored = {info.dtype for info in infos if info.is_float}
    return TORCH_NAME[stored.pop()] if stored in ({"BF16"}, {"F16"}) else "float32"


def known_numel(base: Step, stated: int | None = None) -> int | None:
    """Parameters of a base by what lies here, without importing torch; None where nothing does.

    Of a base that was not fetched yet they are what the hub's cache holds of it says, else those
    ``stated``.
    """
    if base.here:
        return open_checkpoint(base.folder).numel()
    folder = cached(base)
    return (folder and _numel(folder)) or (stated if base.kind == "fetch" else None)


def cached(fetch: Step) -> Path | None:
    """The folder in the hub's cache with what is there of a model; its weights may be missing."""
    if fetch.kind != "fetch" or "model" not in fetch.settings:
        return None
    from huggingface_hub import try_to_load_from_cache

    repo, revision = fetch.settings["model"], fetch.settings["revision"]
    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _numel(folder: Path) -> int | None:
    """By the headers of the weights, if all are there, else by their index."""
    index = folder / "model.safetensors.index.json"
    try:
        return open_checkpoint(folder).numel()
    except InputError:
        told = read_json(index).get("metadata") if index.is_file() else None
    found = told.get("total_parameters") if isinstance(told, dict) else None
    return int(found) if isinstance(found, int | float) else None


def _states(*checkpoints: Checkpoint) -> States:
    files = {info.file for checkpoint in checkpoints for info in checkpoint.tensors.values()}
    return frozenset((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@cache
def _finite_fingerprint(path: Path, states: States) -> str:
    """Of a checkpoint whose files are in these states: plans of one base read it once."""
    return fingerprint(open_checkpoint(path), finite_only=True)


@cache
def generator(language: str) -> str:
    """Identity of what writes a language's corpora: the same string, the same text.

    A new language leaves the others' as they are.
    """
    return corpora.fingerprint(language)


def documents(corpus: Mapping[str, Any]) -> list[str]:
    """The text of a corpus, as :class:`harness.steps.Corpus` describes it."""
    if corpus["generator"] != generator(corpus["language"]):
        raise InputError(
            "the lexicons or templates of the embedded world changed while this matrix ran; run "
            "it again"
        )
    if corpus["ability"] is None:
        return corpora.general(corpus["language"], corpus["documents"], corpus["seed"])
    return corpora.ability(
        corpus["ability"], corpus["language"], corpus["documents"], corpus["seed"]
    )

"""Where base models and corpora come from. So far: the embedded world, and local checkpoints."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from harness.embedded import corpora, lexicon
from harness.identity import digest
from harness.spec import EMBEDDED, EmbeddedModel, Matrix
from harness.steps import Step
from maec.checkpoint import fingerprint, open_checkpoint
from maec.errors import InputError

EMBEDDED_BASE = Path(__file__).parent / "embedded" / "base"
EMBEDDED_RECIPE = Path(__file__).parent / "embedded" / "base.yaml"


def base_step(matrix: Matrix) -> Step:
    """Θ_o of a matrix: its ``base`` is ``embedded`` or a folder, relative to the matrix file.

    Raises:
        InputError: there is no usable checkpoint.
    """
    if isinstance(matrix.base, EmbeddedModel) and not _shipped(matrix.base):
        return _pretrained(matrix.base)
    if matrix.embedded:
        path = EMBEDDED_BASE
    else:
        path = (matrix.file.parent / Path(matrix.base).expanduser()).resolve()
    try:
        files = {info.file for info in open_checkpoint(path).tensors.values()}
        states = {(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files}
        found = _finite_fingerprint(path, frozenset(states))
    except InputError as error:
        raise InputError(f"{matrix.file}: base: {error}") from None
    return Step(
        kind="base",
        settings={"fingerprint": found},
        label=EMBEDDED if matrix.embedded else str(matrix.base),
        path=path,
    )


def _recipe() -> dict[str, Any]:
    return yaml.safe_load(EMBEDDED_RECIPE.read_text(encoding="utf-8"))


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


def base_numel(base: Step) -> int:
    """Parameters of a base, made or not."""
    if base.done:
        return open_checkpoint(base.folder).numel()
    from harness.embedded import pretrain

    return pretrain.numel(base.settings["model"])


@cache
def _finite_fingerprint(path: Path, states: frozenset[tuple[Path, int, int]]) -> str:
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

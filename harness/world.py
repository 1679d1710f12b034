"""Where base models and corpora come from. So far: the embedded world, and local checkpoints."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.embedded import corpora
from harness.spec import EMBEDDED, Matrix
from harness.steps import Step
from maec.checkpoint import fingerprint, open_checkpoint
from maec.errors import InputError

EMBEDDED_BASE = Path(__file__).parent / "embedded" / "base"


NOTE = (
    "The embedded world's model has about 1M parameters: it checks the machinery and the "
    "composition, and is no verdict on models of 8B parameters."
)


def base_step(matrix: Matrix) -> Step:
    """Θ_o of a matrix: its ``base`` is ``embedded`` or a folder, relative to the matrix file.

    Raises:
        InputError: there is no usable checkpoint.
    """
    if matrix.base == EMBEDDED:
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
        label=matrix.base,
        path=path,
    )


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

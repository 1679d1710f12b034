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
from maec.checkpoint import fingerprint, open_checkpoint, require_finite
from maec.errors import InputError

EMBEDDED_BASE = Path(__file__).parent / "embedded" / "base"
EMBEDDED_RECIPE = Path(__file__).parent / "embedded" / "base.yaml"


NOTE = (
    "The embedded world's model has about 1M parameters: it checks the machinery and the "
    "composition, and is no verdict on models of 8B parameters."
)


def base_step(matrix: Matrix) -> Step:
    """Θ_o of a matrix: its ``base`` is ``embedded`` or a folder, relative to the matrix file.

    Raises:
        InputError: there is no usable checkpoint.
    """
    if isinstance(matrix.base, EmbeddedModel):
        return _pretrained(matrix.base)
    if matrix.base == EMBEDDED:
        path = EMBEDDED_BASE
    else:
        path = (matrix.file.parent / Path(matrix.base).expanduser()).resolve()
    try:
        checkpoint = open_checkpoint(path)
        require_finite(checkpoint)
    except InputError as error:
        raise InputError(f"{matrix.file}: base: {error}") from None
    return Step(
        kind="base",
        settings={"fingerprint": fingerprint(checkpoint)},
        label=matrix.base,
        path=path,
    )


def _pretrained(model: EmbeddedModel) -> Step:
    """A base in another size than the shipped one, made on demand by the same recipe."""
    recipe = yaml.safe_load(EMBEDDED_RECIPE.read_text(encoding="utf-8"))
    size = model.model_dump()
    return Step(
        kind="pretrain",
        settings={
            "model": size,
            "recipe": digest(recipe),
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

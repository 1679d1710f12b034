"""LoRA adapters in peft's format, seen as the checkpoints they make of their base.

    Θ[τ] = Θ_o[τ] + s·B·A,    s = lora_alpha / r    (rslora: lora_alpha / √r)

Computed in float32, a tensor at a time; neither peft's model nor the base is ever loaded whole.
What an adapter says in ways that are not known here is refused rather than left out.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from maec.checkpoint import OUTPUT_LAYER, Checkpoint, embeddings
from maec.errors import InputError
from maec.reading import read_json
from maec.strict import first_mistake
from maec.tensors import TensorInfo, open_tensors

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model"
PREFIX = "base_model.model."

READ = (
    *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("fan_in_fan_out", "init_lora_weights", "modules_to_save", "ensure_weight_tying"),
)
WITHOUT_EFFECT = (  # on what the stored tensors mean
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "lora_dropout", "target_modules", "exclude_modules", "eva_config"),
    *("layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size"),
    *("runtime_config",),
)
PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Values of ``init_lora_weights`` with which training starts from the base as it is."""

ROWS = 64
"""Rows of B·A that are multiplied at a time."""

FACTORS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_embedding_A": "A",
    ".lora_embedding_B": "B",
}


@dataclass(frozen=True)
class LowRank:
    """One s·B·A: A is [r, in], B is [out, r]; ``turned`` for a weight stored as [in, out]."""

    a: TensorInfo
    b: TensorInfo
    scaling: float
    turned: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight it is added to."""
        shape = (self.b.shape[0], self.a.shape[1])
        return shape[::-1] if self.turned else shape

    def read_entries(self, begin: int, end: int) -> Tensor:
        """Entries ``begin`` to ``end`` of s·B·A, row-major and flat, in float32.

        Rows are multiplied in blocks that do not depend on what is asked for: the same entry is
        the same to the last bit whatever it is read with.
        """
        import torch

        a, b = self.a.read().float(), self.b.read().float()
        left, right = (a.T, b.T) if self.turned else (b, a)
        width = right.shape[1]
        first = begin // width // ROWS * ROWS
        blocks = [left[row : row + ROWS] @ right for row in range(first, -(-end // width), ROWS)]
        return (
            torch.cat(blocks)
            .flatten()[begin - first * width : end - first * width]
            .mul_(self.scaling)
        )


@dataclass(frozen=True)
class Adapted(Checkpoint):
    """A base with an adapter merged in: read like a checkpoint of the adapter's own.

    ``tensors`` are the base's, or the adapter's where it holds a whole tensor; ``stored`` is the
    adapter as it lies on the disk.
    """

    stored: Checkpoint
    low_rank: dict[str, LowRank]

    def read(self, name: str) -> Tensor:
        """The tensor called ``name`` after merging; float32 where something was added."""
        info = self.tensors[name]
        return self.read_entries(name, 0, info.numel).clone().view(info.shape)

    def read_entries(self, name: str, begin: int, end: int) -> Tensor:
        """Entries ``begin`` to ``end`` of the tensor called ``name``, row-major and flat."""
        entries = self.tensors[name].read_entries(begin, end)
        if name in self.low_rank:
            entries = entries.float() + self.low_rank[name].read_entries(begin, end)
        return entries


def is_adapter(path: Path) -> bool:
    """Whether the folder ``path`` holds an adapter."""
    return (Path(path) / CONFIG).is_file()


def open_adapter(path: Path, base: Checkpoint) -> Adapted:
    """The adapter in the folder ``path``, merged into ``base``.

    Raises:
        InputError: no safetensors, another kind of adapter than LoRA, a setting or a tensor that
            is not supported, or one that does not fit the base.
    """
    path = Path(path)
    config = read_json(path / CONFIG)
    _require_supported(path, config)
    if not any((path / f"{WEIGHTS}.safetensors{end}").is_file() for end in ("", ".index.json")):
        raise InputError(
            f"{path}: an adapter without {WEIGHTS}.safetensors; save it as safetensors "
            f"(peft's save_pretrained does)"
        )
    files = open_tensors(path, WEIGHTS)
    factors: dict[str, dict[str, TensorInfo]] = {}
    whole: dict[str, TensorInfo] = {}
    for key, info in files.items():
        if key.replace(".original_module.", ".modules_to_save.") in files.keys() - {key}:
            continue  # what a module was before it was trained
        name, factor = _target(key)
        if factor:
            factors.setdefault(name, {})[factor] = info
        elif name in whole and not whole[name].same_as(info):
            raise InputError(f"{path}: holds {name!r} twice, and not the same; {_MERGE_FIRST}")
        else:
            whole[name] = info
    embedding = embeddings(base) | {OUTPUT_LAYER}
    _settle_tied(path, config, base, whole, factors, embedding)
    tensors = dict(base.tensors)
    for name, info in whole.items():
        _require_fits(path, name, info.shape, base, any_rows=name in embedding)
        tensors[name] = info
    low_rank = {}
    for name, parts in factors.items():
        turned = bool(config.get("fan_in_fan_out")) or _is_embedding(files, name)
        low_rank[name] = _low_rank(path, name, parts, config, turned)
        _require_fits(path, name, low_rank[name].shape, base, tensors.get(name))
    rows = {whole[name].shape[0] for name in whole.keys() & embedding}
    return Adapted(
        path,
        tensors,
        base.config | ({"vocab_size": max(rows)} if rows else {}),
        stored=Checkpoint(path, files, config),
        low_rank=low_rank,
    )


class _Lora(BaseModel):
    """What is read of a LoRA adapter's config."""

    model_config = ConfigDict(strict=True)

    r: int = Field(ge=1)
    lora_alpha: float
    use_rslora: bool | None = False
    fan_in_fan_out: bool | None = False
    ensure_weight_tying: bool | None = False
    rank_pattern: dict[str, Annotated[int, Field(ge=1)]] | None = None
    alpha_pattern: dict[str, float] | None = None
    modules_to_save: list[str] | None = None

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _are_patterns(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for pattern in value or {}:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no pattern: {error}") from None
        return value


def _require_supported(path: Path, config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise InputError(
            f"{path}/{CONFIG}: peft_type: {config.get('peft_type')!r}; only LORA is merged here, "
            f"{_MERGE_FIRST}"
        )
    start = config.get("init_lora_weights", True)
    unknown = [] if start in PLAIN_STARTS else ["init_lora_weights"]
    for key in sorted(config.keys() - {*READ, *WITHOUT_EFFECT}):
        if config[key] not in (None, False, "none", {}, []):
            unknown.append(key)
    if unknown:
        raise InputError(
            f"{path}/{CONFIG}: {unknown[0]}: {config[unknown[0]]!r} is not supported; "
            f"{_MERGE_FIRST}"
        )
    try:
        _Lora.model_validate(config)
    except ValidationError as error:
        mistake = first_mistake(error, _Lora)
        raise InputError(f"{path}/{CONFIG}: {mistake}; fetch it again") from None


def _target(key: str) -> tuple[str, str]:
    """The base's tensor that an adapter's tensor belongs to, and which factor it is, or ""."""
    key = key.removeprefix(PREFIX)
    for ending, factor in FACTORS.items():
        if key.endswith(ending):
            return key.removesuffix(ending) + ".weight", factor
    # the embeddings that peft saves beside factors of theirs keep the name of what they wrap
    return key.replace(".base_layer.", ".").replace(".modules_to_save.", "."), ""


def _is_embedding(files: dict[str, TensorInfo], name: str) -> bool:
    return f"{PREFIX}{name.removesuffix('.weight')}.lora_embedding_A" in files


def _low_rank(
    path: Path, name: str, parts: dict[str, TensorInfo], config: dict[str, Any], turned: bool
) -> LowRank:
    """s·B·A for one tensor, by peft's own rules for which rank and which alpha count."""
    from peft.utils.other import get_pattern_key

    if parts.keys() != {"A", "B"}:
        raise InputError(f"{path}: {name!r} has only one of the factors A and B; fetch it again")
    module = name.removesuffix(".weight")
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    rank = ranks.get(get_pattern_key(list(ranks), module), config.get("r"))
    alpha = alphas.get(get_pattern_key(list(alphas), module), config.get("lora_alpha"))
    a, b = parts["A"], parts["B"]
    if (len(a.shape), len(b.shape)) != (2, 2) or not a.shape[0] == b.shape[1] == rank:
        raise InputError(
            f"{path}: {name!r}: factors {list(a.shape)} and {list(b.shape)} where {CONFIG} says "
            f"rank {rank}; {_MERGE_FIRST}"
        )
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return LowRank(a, b, scaling, turned)


def _require_fits(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    base: Checkpoint,
    present: TensorInfo | None = None,
    *,
    any_rows: bool = False,
) -> None:
    """Raise InputError unless the base has a float tensor ``name`` that ``shape`` fits."""
    info = present or base.tensors.get(name)
    if info is None or not info.is_float:
        raise InputError(
            f"{path}: adapts {name!r}, which {base.path} does not have; "
            f"give an adapter that was trained on this base"
        )
    skipped = 1 if any_rows else 0
    if shape[skipped:] != info.shape[skipped:]:
        raise InputError(
            f"{path}: adapts {name!r} with shape {list(shape)}, but it is {list(info.shape)} in "
            f"{base.path}; give an adapter that was trained on this base"
        )


def _settle_tied(
    path: Path,
    config: dict[str, Any],
    base: Checkpoint,
    whole: dict[str, TensorInfo],
    factors: dict[str, dict[str, TensorInfo]],
    embedding: set[str],
) -> None:
    """With tied embeddings, accept only an adapter that keeps them tied.

    Low-rank changes of tied embeddings are refused even where training tied them too: whether they
    count once or twice is not settled (peft's merging adds them once for each layer).
    """
    if OUTPUT_LAYER in base.tensors:
        return
    inputs = embedding - {OUTPUT_LAYER}
    copy = whole.get(OUTPUT_LAYER)
    tied = bool(config.get("ensure_weight_tying"))
    if copy is not None and any(n in whole and copy.same_as(whole[n]) for n in inputs):
        del whole[OUTPUT_LAYER]
        tied, copy = True, None
    saved = config.get("modules_to_save") or []
    apart = not tied and any(name in whole and _names(saved, name) for name in inputs)
    if copy is not None or apart or factors.keys() & embedding:
        raise InputError(
            f"{path}: adapts the embeddings or the output layer, which are tied in {base.path}; "
            f"only modules_to_save with ensure_weight_tying is supported for them"
        )


def _names(modules: list[str], name: str) -> bool:
    """Whether ``modules_to_save`` means the tensor ``name``: a whole name, or its end."""
    module = name.removesuffix(".weight")
    return any(module == entry or module.endswith(f".{entry}") for entry in modules)


_MERGE_FIRST = "merge it into its base first (peft: merge_and_unload, save_pretrained)"

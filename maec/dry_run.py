"""What a merge will read, write and need, from headers or configs alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from maec.chunks import Shapes
from maec.errors import InputError
from maec.hub import Source, local_config
from maec.layout import Layout, nbytes, shards
from maec.memory import at_work, held_by, workers
from maec.own_code import require_allowed
from maec.recipe import Recipe
from maec.survey import Models
from maec.tensors import STORED_NAME, is_float, open_tensors

if TYPE_CHECKING:
    from rich.table import Table

STEMS = ("model", "adapter_model", "pack", "mask")


@dataclass(frozen=True)
class Plan:
    """Bytes to be read by part and pass, the files of the result, threads, bytes in memory.

    The first pass reads the base and the models in which key neurons are to be found.  Tensors that
    turn out not to be selected are read once more, and not counted.
    """

    parts: list[tuple[str, Source, int, int]]
    files: int
    written: int
    threads: int
    memory: int

    @property
    def read(self) -> int:
        """Bytes that both passes read."""
        return sum(first + second for *_, first, second in self.parts)

    def table(self) -> Table:
        """The same for people."""
        from rich.markup import escape
        from rich.table import Table

        table = Table("part", "where", title="a merge, planned", title_justify="left")
        for column in ("first pass", "second pass"):
            table.add_column(column, justify="right")
        for role, where, first, second in self.parts:
            table.add_row(role, escape(str(where)), decimal(first), decimal(second))
        table.caption = (
            f"reads {decimal(self.read)}; writes {decimal(self.written)} in {self.files} "
            f"{'file' if self.files == 1 else 'files'}; works with {self.threads} threads in about "
            f"{decimal(self.memory)} of memory"
        )
        table.caption_justify = "left"
        return table


def plan(recipe: Recipe, memory: int) -> Plan:
    """What merging ``recipe`` within ``memory`` bytes takes.

    A folder need not hold weights yet: its config says which tensors a model has, by the code that
    transformers has for it.  A model that is not fetched yet counts as large as the base.

    Raises:
        InputError: a part that is neither weights nor a config, too little ``memory``.
    """
    base = _tensors(recipe.base)
    sought = any(ability.model and not ability.mask for ability in recipe.abilities)

    def passes(part: Layout, *, first: bool) -> tuple[int, int]:
        size = sum(map(nbytes, (part or base).values()))
        return size if first else 0, size

    parts = [("base", recipe.base, *passes(base, first=bool(sought)))]
    parts += [
        ("language", p.model, *passes(_tensors(p.model), first=False)) for p in recipe.languages
    ]
    for ability in recipe.abilities:
        for role in ("pack", "model", "mask", "pivot"):
            where = getattr(ability, role)
            if where is not None:
                name = "ability" if role == "model" else role
                first = role == "model" and not ability.mask
                parts.append((name, where, *passes(_tensors(where), first=first)))
    stored = STORED_NAME[recipe.dtype]
    layout: Layout = {
        name: (stored if is_float(dtype) else dtype, shape) for name, (dtype, shape) in base.items()
    }
    models = _models(recipe, {n: shape for n, (dtype, shape) in base.items() if is_float(dtype)})
    reading = [_Reading(2 if a.pivot else 1 if a.model else 0) for a in recipe.abilities]
    dtypes = {dtype for dtype, _ in base.values()}
    sought_shares = [(a.k1, dtypes) for a in recipe.abilities if a.model and not a.mask]
    held = held_by(sought_shares, models.shapes)
    threads = workers(memory, models, reading, held)
    return Plan(
        parts,
        files=len(list(shards(layout))),
        written=sum(map(nbytes, layout.values())),
        threads=threads,
        memory=at_work(threads, models, reading, held),
    )


class _Reading:
    def __init__(self, count: int) -> None:
        self.models: list[Any] = [None] * count


def _models(recipe: Recipe, shapes: Shapes) -> Models:
    languages: list[Any] = [(None, part.mu) for part in recipe.languages]
    return Models(None, dict(sorted(shapes.items())), languages, recipe.granularity, 1)  # type: ignore[arg-type]


def _tensors(source: Source) -> Layout:
    """Stored dtype and shape of every tensor of a part."""
    folder = local_config(source)
    for stem in STEMS:
        if any((folder / f"{stem}.safetensors{end}").is_file() for end in ("", ".index.json")):
            return {n: (i.dtype, i.shape) for n, i in open_tensors(folder, stem).items()}
    if not (folder / "config.json").is_file():
        raise InputError(f"{source}: neither weights nor a config.json; give a checkpoint's folder")
    return _from_config(folder)


def _from_config(folder: Path) -> Layout:
    """The tensors that transformers gives a model of this config, tied ones once."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    require_allowed(folder, False, "fetch the weights, whose headers say the same")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        dtype = config.dtype or torch.float32
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}/config.json: transformers cannot use it: {reason}") from error
    return {
        name: (STORED_NAME[str(value.dtype).removeprefix("torch.")], tuple(value.shape))
        for name, value in sorted(model.named_parameters())
    }

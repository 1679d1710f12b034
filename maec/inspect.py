"""What a mask, an ability pack or a merged model holds, tensor by tensor; reads manifests only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maec.errors import InputError
from maec.manifest import read_manifest
from maec.provenance import name_of

if TYPE_CHECKING:
    from rich.table import Table

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d+)\.")

MANIFESTS = ("maec.json", "pack.json", "mask.json")


def summary(path: Path) -> list[dict[str, Any]]:
    """One row for each tensor (and ability) of what lies in the folder ``path``.

    Keys: ``ability`` (its folder's name, or None), ``layer`` (None outside the layers),
    ``module``, ``tensor``, ``parameters``, ``key_neurons``, ``share`` (of key neurons), and for a
    merged model ``similarity`` and ``selected``, else None.  In the order of layers, then modules,
    what lies outside the layers first.

    Raises:
        InputError: no mask, pack or merged model there.
    """
    path = Path(path)
    manifest = next((path / name for name in MANIFESTS if (path / name).is_file()), None)
    if manifest is None:
        raise InputError(
            f"{path}: nothing to inspect: none of {', '.join(MANIFESTS)} is there; "
            f"give a mask, an ability pack or a model made by `maec merge`"
        )
    content = read_manifest(manifest)
    groups: list[tuple[str | None, dict[str, Any]]]
    if manifest.name == "maec.json":
        groups = [(name_of(part["path"]), part["tensors"]) for part in content["abilities"]]
    elif manifest.name == "pack.json":
        groups = [(name_of(content.get("ability", {}).get("path", str(path))), content["tensors"])]
    else:
        groups = [(None, content["tensors"])]
    return [
        _row(ability, name, entry)
        for ability, tensors in groups
        for name, entry in sorted(tensors.items(), key=lambda item: _place(item[0]))
    ]


def layer_and_module(name: str) -> tuple[int | None, str]:
    """The layer and module of a tensor.

    ``model.layers.3.self_attn.q_proj.weight`` lies in layer 3, module ``self_attn.q_proj``.
    """
    layer = _LAYER.search(name)
    module = name[layer.end() :] if layer else name
    return (int(layer.group(1)) if layer else None), module.removesuffix(".weight")


def tables(rows: list[dict[str, Any]]) -> Iterator[Table]:
    """The rows of ``summary`` for the terminal, one table for each ability."""
    from rich.markup import escape
    from rich.table import Table

    for ability, group in groupby(rows, key=lambda row: row["ability"]):
        entries = list(group)
        merged = entries[0]["similarity"] is not None
        table = Table(title=ability and escape(ability))
        for column in ("layer", "key neurons", "share", *(["similarity"] if merged else [])):
            table.add_column(column, justify="right")
        if merged:
            table.add_column("selected")
        table.add_column("module", overflow="fold")
        for row in entries:
            cells = [
                "" if row["layer"] is None else str(row["layer"]),
                f"{row['key_neurons']:,}",
                f"{row['share']:.2%}",
            ]
            if merged:
                cells += [f"{row['similarity']:+.4f}", "yes" if row["selected"] else "no"]
            table.add_row(*cells, escape(row["module"]))
        yield table


def _row(ability: str | None, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    layer, module = layer_and_module(name)
    parameters = math.prod(entry["shape"])
    return {
        "ability": ability,
        "layer": layer,
        "module": module,
        "tensor": name,
        "parameters": parameters,
        "key_neurons": entry["key_neurons"],
        "share": entry["key_neurons"] / parameters if parameters else 0.0,
        "similarity": entry.get("similarity"),
        "selected": entry.get("selected"),
    }


def _place(name: str) -> tuple[int, str]:
    layer, module = layer_and_module(name)
    return (-1 if layer is None else layer), module

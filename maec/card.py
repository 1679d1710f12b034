"""The cards of merged models and packs: Hugging Face metadata, what went in, how it was made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml
from rich.filesize import decimal

from maec.provenance import name_of

PAPER = "https://arxiv.org/abs/2410.07825"

CITATION = """\
@inproceedings{chen-etal-2025-extracting,
  title = {Extracting and Combining Abilities For Building Multi-lingual Ability-enhanced Large \
Language Models},
  author = {Chen, Zhipeng and Zhou, Kun and Song, Liang and Zhao, Wayne Xin and Wang, Bingning \
and Chen, Weipeng and Wen, Ji-Rong},
  booktitle = {Proceedings of the 2025 Conference on Empirical Methods in Natural Language \
Processing (EMNLP)},
  year = {2025},
  url = {https://aclanthology.org/2025.emnlp-main.887},
  eprint = {2410.07825},
  archivePrefix = {arXiv},
}
"""
"""The paper of the method, as BibTeX."""

_CITE = ("## How to cite", f"```bibtex\n{CITATION}```", "")


def model_card(report: dict[str, Any], name: str) -> str:
    """The card's Markdown, from what ``maec.json`` says; the same report gives the same text."""
    return _document(
        f"---\n{_front_matter(report)}---",
        f"# {name}",
        f"Combined without training by MAEC {report['maec']} ([paper]({PAPER})): the language "
        "weights and ability weights of the parts below were added to the base model, ability "
        "weights only inside their key neurons and in the tensors where they interfere least "
        "with the languages.",
        "## Parts",
        _parts(report),
        *_abilities(report["abilities"]),
        "## Rounding",
        _rounding(**report["rounding"]),
        "## Recipe",
        "`maec merge RECIPE.yaml OUT_DIR` with this recipe makes the same weights again; "
        "`maec inspect` on this folder shows similarity and selection of every tensor.",
        f"```yaml\n{_yaml(report['recipe'])}```",
        *_CITE,
    )


def pack_card(manifest: dict[str, Any], name: str, *, nbytes: int, base_nbytes: int) -> str:
    """The Markdown of a pack's card, from what ``pack.json`` says; the same gives the same text.

    ``nbytes`` is the size in bytes of the pack's weights, ``base_nbytes`` that of the base's.
    """
    formula = "α·(ability − base)" + (" − β·(pivot − base)" if "pivot" in manifest else "")
    return _document(
        f"---\n{_pack_front_matter(manifest)}---",
        f"# {name}",
        f"An ability pack: what training has given to {name_of(manifest['ability']['path'])}, "
        f"extracted from it by MAEC {manifest['maec']} ([paper]({PAPER})). It holds the ability "
        f"weights R(A) = {formula}, of the key neurons alone: the parameters that the training "
        "has moved most. It is no model: added to the base and to "
        "languages that were trained from the same base, it gives them the ability, without "
        "training.",
        "## What is in it",
        _pack_table(manifest, nbytes, base_nbytes),
        "## How to use it",
        "In a recipe of `maec merge RECIPE.yaml OUT_DIR`; `pack` is this folder, or its hub id. "
        "Whatever was trained from this base can stand under `languages`; `gamma` (how much of "
        "the ability) and `k2` (in which share of the tensors) are to be tuned.",
        f"```yaml\n{_yaml(_pack_recipe(manifest, name), default_flow_style=None)}```",
        "`maec inspect` on this folder shows where the key neurons lie.",
        *_CITE,
    )


def _document(*blocks: str) -> str:
    return "\n".join(blocks).replace("\n#", "\n\n#")


def _front_matter(report: dict[str, Any]) -> str:
    """The metadata of a merged model; what is not known is left out."""
    abilities = report["abilities"]
    pivots = [part["pivot"] for part in abilities if part["pivot"]]
    models = _hub_ids([report["base"], *report["languages"], *abilities, *pivots])
    languages = [part["language"] for part in report["recipe"]["languages"] if "language" in part]
    return _yaml(
        {
            **({"language": list(dict.fromkeys(languages))} if languages else {}),
            **({"base_model": models, "base_model_relation": "merge"} if models else {}),
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "tags": ["merge", "maec"],
        }
    )


def _pack_front_matter(manifest: dict[str, Any]) -> str:
    models = _hub_ids([manifest["base"]])
    return _yaml(
        {
            **({"base_model": models} if models else {}),
            "library_name": "maec",
            "tags": ["maec", "ability-pack"],
        }
    )


def _hub_ids(parts: Iterable[dict[str, Any]]) -> list[str]:
    """Hub ids of the parts that came from a hub, each once: a card may name no other models."""
    return list(dict.fromkeys(part["hub"] for part in parts if "hub" in part))


def _parts(report: dict[str, Any]) -> str:
    rows = [("base", report["base"], "")]
    rows += [("language", part, f"μ = {part['mu']:g}") for part in report["languages"]]
    for part in report["abilities"]:
        rows.append(("ability", part, f"γ = {part['gamma']:g}, k2 = {part['k2']:g}"))
        if part["pivot"]:
            rows.append(("pivot", part["pivot"], "subtracted from the ability above"))
    return _part_table(rows)


def _pack_table(manifest: dict[str, Any], nbytes: int, base_nbytes: int) -> str:
    """What the pack was made of and how, and how large it is."""
    rows = [
        ("base", manifest["base"], ""),
        ("ability", manifest["ability"], f"α = {manifest['alpha']:g}"),
    ]
    if "pivot" in manifest:
        rows.append(("pivot", manifest["pivot"], f"β = {manifest['beta']:g}, subtracted"))
    counts = f"{manifest['key_neurons']:,} of {manifest['N']:,} parameters"
    facts = {
        "k1": manifest.get("k1"),
        "granularity": manifest.get("granularity"),
        "key neurons": f"{counts} ({_share(manifest['key_neurons'], manifest['N'])})",
        "size": f"{decimal(nbytes)} ({nbytes:,} bytes), {_share(nbytes, base_nbytes)} of the "
        f"base's {decimal(base_nbytes)} ({base_nbytes:,} bytes)",
    }
    lines = [f"| {key} | {value} |" for key, value in facts.items() if value is not None]
    return "\n".join([_part_table(rows), "", "| | |", "|---|---|", *lines])


def _part_table(rows: Iterable[tuple[str, dict[str, Any], str]]) -> str:
    """A table of what something was made of: role, manifest entry and weight of each part."""
    lines = ["| part | model | weight | BLAKE3 of the weights |", "|---|---|---|---|"]
    for role, part, weight in rows:
        name, digest = name_of(part["path"]), part["fingerprint"][:16]
        lines.append(f"| {role} | {name} | {weight} | `{digest}…` |")
    return "\n".join(lines)


def _pack_recipe(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    base = manifest["base"]
    return {
        "base": f"{base['hub']}@{base['commit']}" if "hub" in base else name_of(base["path"]),
        "languages": [{"model": "my-language-model", "mu": 1.0}],
        "abilities": [{"pack": name, "gamma": 0.2, "k2": 0.8}],
    }


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "0%"


def _abilities(abilities: list[dict[str, Any]]) -> list[str]:
    """A heading and a line for each ability: how much of it there is and where it went."""
    lines = []
    for part in abilities:
        name, tensors = name_of(part["path"]), part["tensors"].values()
        chosen = sum(entry["selected"] for entry in tensors)
        lines.append(
            f"- {name}: {part['key_neurons']:,} key neurons of {part['N']:,} parameters "
            f"({_share(part['key_neurons'], part['N'])}); ability weights added to {chosen} of "
            f"{len(tensors)} tensors.{_lost(part.get('rounding'))}"
        )
    return ["## Abilities", *lines] if lines else []


def _lost(rounding: dict[str, Any] | None) -> str:
    """What rounding took from one ability, as a sentence; nothing in float32."""
    if not rounding or not rounding["changed"]:
        return ""
    share = rounding["rounded_away"] / rounding["changed"]
    return (
        f" {share:.2%} of these changes round away, and what is stored is off by "
        f"{rounding['relative_error']:.2%} of the change that was meant (ratio of L2 norms)."
    )


def _rounding(dtype: str, relative_error: float) -> str:
    if dtype == "float32":
        return "Computed and stored in float32."
    return (
        f"Computed in float32 and rounded once to {dtype}. The rounding error of the weights is "
        f"{relative_error:.2%} of the change from the base (ratio of L2 norms)."
    )


def _yaml(value: dict[str, Any], *, default_flow_style: bool | None = False) -> str:
    """Block style, or with None lists and mappings of plain values on one line."""
    return yaml.safe_dump(
        value,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=default_flow_style,
    )

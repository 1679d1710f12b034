"""The model card of a merged model: Hugging Face metadata, what went in, how it was made."""

from __future__ import annotations

from typing import Any

import yaml

from maec.provenance import name_of

PAPER = "https://arxiv.org/abs/2410.07825"


def model_card(report: dict[str, Any], name: str) -> str:
    """The card's Markdown, from what ``maec.json`` says; the same report gives the same text."""
    return "\n".join(
        [
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
            "",
        ]
    ).replace("\n#", "\n\n#")


def _front_matter(report: dict[str, Any]) -> str:
    return _yaml(
        {
            "base_model": [name_of(report["base"]["path"])],
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "tags": ["merge", "maec"],
        }
    )


def _parts(report: dict[str, Any]) -> str:
    rows = [("base", report["base"], "")]
    rows += [("language", part, f"μ = {part['mu']:g}") for part in report["languages"]]
    for part in report["abilities"]:
        rows.append(("ability", part, f"γ = {part['gamma']:g}, k2 = {part['k2']:g}"))
        if part["pivot"]:
            rows.append(("pivot", part["pivot"], "subtracted from the ability above"))
    lines = ["| part | model | weight | SHA-256 of the weights |", "|---|---|---|---|"]
    for role, part, weight in rows:
        name, digest = name_of(part["path"]), part["fingerprint"][:16]
        lines.append(f"| {role} | {name} | {weight} | `{digest}…` |")
    return "\n".join(lines)


def _abilities(abilities: list[dict[str, Any]]) -> list[str]:
    """A heading and a line for each ability: how much of it there is and where it went."""
    lines = []
    for part in abilities:
        name, tensors = name_of(part["path"]), part["tensors"].values()
        chosen = sum(entry["selected"] for entry in tensors)
        lines.append(
            f"- {name}: {part['key_neurons']:,} key neurons of {part['N']:,} parameters "
            f"({part['key_neurons'] / part['N']:.2%}); ability weights added to {chosen} of "
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


def _yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)

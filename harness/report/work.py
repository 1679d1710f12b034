"""What went into the models: training and merging, and what MAEC moved."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.cost import BASE_KINDS
from harness.report.facts import Facts, Manifest
from harness.report.text import by_seed, number, of_point, section, spread, table
from harness.steps import PACK

SUMS = ("tokens", "flops", "seconds", "bytes")


def cost(facts: Facts) -> str:
    needed = steps(facts)
    if needed.empty or not needed["tokens"].gt(0).any():
        return ""
    parts = []
    for point in facts.points:
        found = costs(facts, needed[needed["variant"] == point], point)
        said = f"\n\n{_shares(facts, found)}" if found["reference"].notna().any() else ""
        heading = f"### {point}\n\n" if point else ""
        parts.append(f"{heading}{table([_cost_row(row) for row in found.itertuples()])}{said}")
    return section(
        "Cost",
        "What it takes to get a method's models of all abilities and languages, alone: a step that "
        "several methods share counts for each of them; the base does not count. Means over "
        f"{len(facts.seeds)} seed{'s' if len(facts.seeds) > 1 else ''}. FLOPs are 6·N·D of the "
        "training runs (N: all parameters, D: tokens; Kaplan et al. 2020), and merging counts in "
        "seconds alone. Seconds are those of all steps, each timed once, while others ran beside "
        "it; bytes are those of all artifacts. Shares are of the most accurate method that trains "
        "anything; accuracy is the mean over target languages and abilities. Blank: not known.",
        *parts,
    )


def steps(facts: Facts) -> pd.DataFrame:
    """One row a variant, method, seed and step (``key``) that it needs, with what the step took:
    ``tokens``, ``flops``, ``seconds`` and ``bytes``, NaN where that is not known."""
    bases = _bases(facts)
    needed = facts.own[["variant", "method", "seed", "model_key"]].drop_duplicates()
    rows = [
        {"variant": row.variant, "method": row.method, "seed": row.seed, "key": key}
        for row in needed.itertuples()
        for key in _walk(row.model_key, facts.manifests, bases)
    ]
    frame = pd.DataFrame(rows, columns=["variant", "method", "seed", "key"]).drop_duplicates()
    figures = [_figures(facts.manifests.get(key, {})) for key in frame["key"]]
    return frame.reset_index(drop=True).join(pd.DataFrame(figures, columns=list(SUMS), dtype=float))


def _bases(facts: Facts) -> set[str]:
    """Keys that are a base's: given to every method, and so no method's cost."""
    of_base = [label for label in facts.methods if facts.name(label) == "base"]
    found = set(facts.placed.loc[facts.placed["method"].isin(of_base), "model_key"])
    found |= {m["inputs"]["base"] for m in facts.manifests.values() if "base" in m["inputs"]}
    return found | {key for key, m in facts.manifests.items() if m["kind"] in BASE_KINDS}


def _walk(key: str, manifests: Mapping[str, Manifest], bases: set[str]) -> Iterator[str]:
    if key in bases:
        return
    yield key
    for part in manifests.get(key, {}).get("inputs", {}).values():
        yield from _walk(part, manifests, bases)


def _figures(manifest: Manifest) -> dict[str, float | None]:
    known = {name: manifest.get(name) for name in ("seconds", "bytes")}
    if manifest.get("kind") != "train":
        # nothing is known of a step without a manifest, not even that it trained nothing
        tokens = 0 if manifest else None
        return {"tokens": tokens, "flops": tokens, **known}
    tokens, parameters = manifest.get("tokens"), manifest.get("parameters")
    known_size = tokens is not None and parameters is not None
    return {"tokens": tokens, "flops": 6 * parameters * tokens if known_size else None, **known}


def costs(facts: Facts, needed: pd.DataFrame, point: str) -> pd.DataFrame:
    """One row a method: sums (means over seeds), accuracy in percent, shares of the reference."""
    seeds = len(facts.seeds)
    rows = []
    targets = facts.targets[facts.targets["variant"] == point]
    for method in facts.methods:
        own = needed[needed["method"] == method]
        row = {name: own[name].sum(skipna=False) / seeds for name in SUMS}
        accuracy = by_seed(targets[targets["method"] == method], "score")
        mean = 100 * accuracy.mean(skipna=False)
        rows.append({"method": method, **row, "accuracy": mean, "shown": spread(accuracy, 100)})
    found = pd.DataFrame(rows)
    trained = found[found["tokens"] > 0].dropna(subset=["accuracy"])
    best = trained.loc[trained["accuracy"].idxmax()] if not trained.empty else None
    for name in ("accuracy", *SUMS):
        found[f"{name}_share"] = 100 * found[name] / best[name] if best is not None else np.nan
    return found.assign(reference=None if best is None else best["method"])


def _cost_row(row: Any) -> dict[str, str]:
    return {
        "method": f"`{row.method}`",
        "tokens trained": number(row.tokens, 0),
        "FLOPs": "" if pd.isna(row.flops) else f"{row.flops:.3g}",
        "seconds": number(row.seconds, 1),
        "MB": number(row.bytes / 1e6, 1),
        "accuracy, %": row.shown,
        "accuracy share, %": number(row.accuracy_share, 0),
        "FLOPs share, %": number(row.flops_share, 0),
        "seconds share, %": number(row.seconds_share, 0),
    }


def _shares(facts: Facts, found: pd.DataFrame) -> str:
    """What MAEC gives for what it takes, against the most accurate of the trained methods."""
    reference = found["reference"].iloc[0]
    lines = []
    for row in found[found["method"].isin(facts.of_family("maec"))].itertuples():
        if row.method == reference:
            lines.append(f"- `{reference}` is the most accurate of them.")
        elif not pd.isna([row.accuracy_share, row.flops_share]).any():
            lines.append(
                f"- `{row.method}` has {row.accuracy_share:.0f} % of the accuracy of "
                f"`{reference}` at {row.flops_share:.0f} % of its training FLOPs."
            )
    return "\n".join(lines)


def moved(facts: Facts) -> str:
    rows = tensors(facts)
    if rows.empty:
        return ""
    parts = []
    for (method, point, ability), own in rows.groupby(["method", "variant", "ability"], sort=False):
        count = own["key"].nunique()
        models = f"{count} model{'s' if count > 1 else ''}"
        for column, words in (("layer", "by layer"), ("module", "by module")):
            heading = f"`{method}`, {of_point(ability, point)}, {words} ({models})"
            parts.append(f"### {heading}\n\n{table(_by(own, column))}")
    many = len(facts.seeds) > 1
    deviation = " ± is the standard deviation over seeds." if many else ""
    return section(
        "What moved",
        "Of MAEC's models in the target languages. `key neurons`: how many of the parameters there "
        "are key neurons, the only ones that carry ability weights. `of all key neurons`: where "
        "they lie. `selected`: how many of the tensors there take ability weights. Shares in "
        f"percent, means over models.{deviation}",
        *parts,
    )


def tensors(facts: Facts) -> pd.DataFrame:
    """One row a MAEC model in a target language, ability and tensor, from the models' manifests."""
    ours = facts.targets[facts.targets["method"].isin(facts.of_family("maec"))]
    models = ours[["method", "variant", "seed", "model_key"]].drop_duplicates()
    rows = []
    for model in models.itertuples():
        manifest = facts.manifests.get(model.model_key, {})
        # a merge knows its ability packs by their keys
        packs = {key: name.removeprefix(PACK) for name, key in manifest.get("inputs", {}).items()}
        for row in manifest.get("moved", []):
            layer = "outside the layers" if row["layer"] is None else str(row["layer"])
            ability = packs.get(row["ability"], row["ability"])
            where = {"method": model.method, "variant": model.variant, "ability": ability}
            place = {"seed": model.seed, "key": model.model_key, "layer": layer}
            names = ("module", "parameters", "key_neurons", "similarity", "selected")
            rows.append({**where, **place, **{name: row.get(name) for name in names}})
    return pd.DataFrame(rows)


def _by(rows: pd.DataFrame, column: str) -> list[dict[str, str]]:
    # a model of another seed may have the same key: it counts for each of its seeds
    sums = rows.groupby(["seed", "key", column], sort=False).agg(
        parameters=("parameters", "sum"),
        key_neurons=("key_neurons", "sum"),
        selected=("selected", "mean"),
    )
    sums["share"] = sums["key_neurons"] / sums["parameters"]
    sums["of_all"] = sums["key_neurons"] / sums.groupby(["seed", "key"])["key_neurons"].transform(
        "sum"
    )
    found = []
    for value in dict.fromkeys(rows[column]):
        own = sums.xs(value, level=column).reset_index()
        found.append(
            {
                column: value,
                "parameters": number(own["parameters"].mean(), 0),
                "key neurons, %": spread(by_seed(own, "share"), 100),
                "of all key neurons, %": spread(by_seed(own, "of_all"), 100),
                "selected, %": spread(by_seed(own, "selected"), 100),
            }
        )
    return found

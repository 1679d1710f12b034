"""What was run and what came out: head, scores, and what the models forgot."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from harness.embedded import NOTE
from harness.report.facts import Facts
from harness.report.text import by_seed, codes, number, of_point, section, sizes, spread, table
from harness.tasks import TEXT

SPREAD = "A ± is the standard deviation over seeds (n = {seeds})."
ONE_SEED = "There is one seed: nothing here says what another training run would give."


def head(facts: Facts) -> str:
    base = facts.file.get("base", "embedded" if facts.placed["embedded"].any() else None)
    embedded = base == "embedded" or isinstance(base, dict)
    languages = [code for code in facts.own["language"].unique() if code != facts.pivot]
    scored = facts.placed["score"].notna()
    lines = [
        f"- pivot language: {facts.pivot}; target languages: {', '.join(languages)}",
        f"- abilities: {', '.join(facts.abilities)}",
        f"- questions: {facts.placed['split'].iloc[0]} split, {sizes(facts.own['n'])} items a cell",
        f"- seeds: {', '.join(map(str, facts.seeds))}",
        f"- scores: {scored.sum():,} of {len(scored):,} cells",
        *([f"- variants: {', '.join(facts.points)}"] if len(facts.points) > 1 else []),
        *([f"- base: {base}"] if base and not embedded else []),
    ]
    parts = [f"# {facts.matrix}", "\n".join(lines), NOTE if embedded else ""]
    return "\n\n".join(filter(None, [*parts, _runs(facts)]))


def _runs(facts: Facts) -> str:
    if not facts.runs:
        return ""
    shown = table([_run(run) for run in facts.runs], left=5)
    said = [_software(facts.runs)]
    if engine := facts.file.get("engine"):
        settings = ", ".join(f"{name} {value}" for name, value in engine.items() if value)
        said.append(f"Engine: {settings}.")
    return section("Runs", shown, *said)


def _run(run: dict[str, Any]) -> dict[str, str]:
    hardware, engine = run["hardware"] or {}, run["engine"] or {}
    machine = [
        *([str(hardware["processor"])] if hardware.get("processor") else []),
        *([f"{hardware['cores']} cores"] if hardware.get("cores") else []),
        *([f"{hardware['memory'] / 2**30:.0f} GiB"] if hardware.get("memory") else []),
        *hardware.get("gpus", []),
    ]
    ended = run["finished"]
    commit = run["commit"][:12] if run["commit"] else ""
    return {
        "run": run["run_id"],
        "started (UTC)": datetime.fromtimestamp(run["started"], UTC).strftime("%Y-%m-%d %H:%M"),
        "status": run["status"],
        "commit": f"{commit}{' with changes' if run['dirty'] else ''}",
        "hardware": ", ".join(machine),
        "cells scored": f"{run['cells']:,}",
        "seconds": number(None if ended is None else ended - run["started"], 0),
        "engine start, s": number(engine.get("start_seconds")),
        "items a second": number(engine.get("items_per_second")),
    }


def _software(runs: list[dict[str, Any]]) -> str:
    """The versions, once where all runs had the same."""
    by_versions: dict[str, list[str]] = {}
    for run in runs:
        text = ", ".join(f"{name} {version}" for name, version in (run["versions"] or {}).items())
        by_versions.setdefault(text, []).append(run["run_id"])
    by_versions.pop("", None)
    if len(by_versions) == 1:
        return f"Versions: {next(iter(by_versions))}."
    return "\n".join(f"- versions in {codes(own)}: {text}" for text, own in by_versions.items())


def scores(facts: Facts) -> str:
    many = len(facts.seeds) > 1
    note = SPREAD.format(seeds=len(facts.seeds)) if many else ONE_SEED
    kind = "" if many else " A ± is the standard error over a cell's items."
    return section(
        "Scores",
        f"Percent correct. `targets` is the mean over the target languages; `known` and `new` are "
        f"its items made of words that the base knows, and of words that only a language's corpus "
        f"teaches. A row with a missing score has no mean. {note}{kind}"
        if facts.own["new"].notna().any()
        else f"Percent correct. `targets` is the mean over the target languages. A row with a "
        f"missing score has no mean. {note}{kind}",
        *_score_tables(facts),
    )


def _score_tables(facts: Facts) -> Iterator[str]:
    for point in facts.points:
        for ability in facts.abilities:
            here = facts.own[(facts.own["variant"] == point) & (facts.own["ability"] == ability)]
            marked = ["known", "new"] if here["new"].notna().any() else []
            rows = []
            for method, own in here.groupby("method", sort=False):
                targets = own[own["language"] != facts.pivot]
                row = {"method": f"`{method}`"}
                for language in here["language"].unique():
                    row[language] = _cell(own[own["language"] == language])
                for name, column in (("targets", "score"), *((m, m) for m in marked)):
                    row[name] = spread(by_seed(targets, column), 100)
                rows.append(row)
            items = sizes(here["n"])
            yield f"### {of_point(ability, point)}, {items} items a cell\n\n{table(rows)}"


def _cell(rows: pd.DataFrame) -> str:
    """One seed: score ± its standard error over items; several: mean ± deviation over seeds."""
    shown = spread(rows["score"], 100)
    if shown and len(rows) == 1:
        error = number(100 * rows["stderr"].iloc[0])
        return f"{shown} ± {error}" if error else shown
    return shown


def forgetting(facts: Facts) -> str:
    asked = facts.placed[facts.placed["asked"] != facts.placed["ability"]]
    bases = {label for label in facts.methods if facts.name(label) == "base"}
    of_base = facts.placed.loc[facts.placed["method"].isin(bases), ["variant", "model_key"]]
    keys = ["variant", "asked", "language"]
    # a model that has the base's weights is the base, whatever method's row it stands in
    base = asked.merge(of_base.drop_duplicates()).dropna(subset=["score"]).drop_duplicates(keys)
    if base.empty:
        return ""
    changed = asked.merge(base[[*keys, "score"]], on=keys, how="left", suffixes=("", "_base"))
    changed["change"] = changed["score"] - changed["score_base"]
    changed["perplexity"] = changed["metrics"].map(_perplexity)
    spread_note = SPREAD.format(seeds=len(facts.seeds)) if len(facts.seeds) > 1 else ONE_SEED
    sizes_of = {what: sizes(rows["n"]) for what, rows in _kinds(changed)}
    said = [
        f"held-out general text, {sizes_of['text']} documents a language, in bits per byte (more "
        "is worse) and as perplexity per word"
        if sizes_of["text"]
        else "",
        f"questions of the other abilities, {sizes_of['other']} items a language, in points "
        "(less is worse)"
        if sizes_of["other"]
        else "",
    ]
    return section(
        "Forgetting",
        f"Change against the base model, asked the same: {'; '.join(filter(None, said))}. "
        f"`targets` are means over the target languages. {spread_note}",
        *(
            f"### models for {of_point(ability, point)}\n\n{table(_forgotten(facts, rows))}"
            for point in facts.points
            for ability in facts.abilities
            for rows in [changed[(changed["variant"] == point) & (changed["ability"] == ability)]]
            if not rows.empty
        ),
    )


def _kinds(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "text", rows[rows["asked"] == TEXT]
    yield "other", rows[rows["asked"] != TEXT]


def _forgotten(facts: Facts, rows: pd.DataFrame) -> list[dict[str, str]]:
    found = []
    for method, own in rows.groupby("method", sort=False):
        row = {"method": f"`{method}`"}
        for what, asked in _kinds(own):
            if asked.empty:
                continue
            pivot = asked["language"] == facts.pivot
            scale, digits, unit = (1, 3, "bits/byte") if what == "text" else (100, 1, "points")
            name = "text" if what == "text" else "other abilities"
            for where, part in ((facts.pivot, asked[pivot]), ("targets", asked[~pivot])):
                changes = by_seed(part, "change")
                row[f"{name} {where}, {unit}"] = spread(changes, scale, digits, sign=True)
            if what == "text":
                perplexity = by_seed(asked[pivot], "perplexity")
                row[f"perplexity {facts.pivot}"] = spread(perplexity)
        found.append(row)
    return found


def _perplexity(metrics: str | None) -> float:
    found = json.loads(metrics) if isinstance(metrics, str) else {}
    return found.get("word_perplexity,none", float("nan"))

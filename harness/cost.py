"""What each method of a matrix costs, alone and shared, and what one more language costs it.

Tokens and FLOPs follow from the plan; seconds, memory and bytes from the manifests of steps that
ran. What is not known is None, never 0.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness import artifacts, store
from harness.plan import Cell, Plan, make_plan
from harness.spec import Matrix
from harness.steps import Step
from harness.table import rows
from harness.world import known_numel
from maec.errors import InputError, nearest

BASE_KINDS = ("base", "pretrain")
"""Kinds of steps that are no method's cost: checkpoints that lie here, and the making of Θ_o."""

SUMS = ("tokens", "flops", "trainable_flops", "seconds", "bytes")

Figures = Mapping[str, float | None]
Use = dict[tuple[str, int], set[str]]
"""By method label and seed: keys of the steps that it needs."""


def costs(plan: Plan, reference: str | None = None) -> dict[str, Any]:
    """The costs of a matrix's methods as JSON values: all abilities together, and each alone.

    ``tokens`` are steps × batch_size × sequence_length of the training runs, ``flops`` 6·N·D of
    them (Kaplan et al. 2020, arXiv 2001.08361; N counts all parameters of the base here, and LoRA
    and key-neuron runs like full ones), ``trainable_flops`` the same with the trainable parameters
    for N. ``seconds`` and ``bytes`` are those of all steps and artifacts, ``peak_memory`` the most
    bytes that a process held. Merging counts in seconds, not in FLOPs.

    Checkpoints that others trained cost what fetching them took. What the base took, which every
    method is given, counts for none.

    A method's own figures are what it costs to get it alone. Under ``fair`` a step counts 1/n for
    each of the n methods that need it, so that methods add up to ``total``. ``added_language`` is
    what is not among the method's steps for the matrix without one language, a mean over
    languages; None where the matrix cannot do without one. All sums are means over seeds.

    ``accuracy`` is the mean score over target languages and abilities. Shares are of
    ``reference``: by default the most accurate method that trains anything, in a tie the first.

    Raises:
        InputError: ``reference`` is no method of the matrix.
    """
    matrix = plan.matrix
    labels = [entry.label for entry in matrix.methods]
    if reference is not None and reference not in labels:
        raise InputError(
            f"--reference: '{reference}' is no method of {matrix.file}{nearest(reference, labels)} "
            f"(allowed: {', '.join(labels)})"
        )
    bases = list({cell.base.key: cell.base for cell in plan.cells}.values())
    sizes = {base.key: known_numel(base, matrix.parameters) for base in bases}
    manifests = _manifests(plan.steps)
    figures = {step.key: _figures(step, manifests.get(step.key, {}), sizes) for step in plan.steps}
    smaller = [_cells_without(language, matrix) for language in matrix.languages]
    targets = [row for row in rows(plan) if row["language"] in matrix.languages]

    def view(abilities: Sequence[str], reference: str | None) -> dict[str, Any]:
        use, *before = (
            _use(cell for cell in cells if cell.ability in abilities)
            for cells in (plan.cells, *smaller)
        )
        found = _per_method(labels, matrix.seeds, use, before, figures)
        for label, entry in found["methods"].items():
            own = [row for row in targets if row["method"] == label]
            entry["accuracy"] = _accuracy(own, abilities)
        return _with_shares(found, reference)

    everything = view(matrix.abilities, reference)
    base = [{"label": b.label, "parameters": sizes[b.key], **figures[b.key]} for b in bases]
    alone = {ability: view([ability], everything["reference"]) for ability in matrix.abilities}
    return {"matrix": matrix.name, "base": base, **everything, "abilities": alone}


def _manifests(steps: Sequence[Step]) -> dict[str, dict[str, Any]]:
    """By step key: from the artifact, else from the store, which outlives it."""
    found = {s.key: artifacts.manifest_of(s) for s in steps if s.path is None and s.done}
    return store.manifests([step.key for step in steps if step.key not in found]) | found


def _figures(step: Step, manifest: Mapping[str, Any], sizes: Mapping[str, int | None]) -> Figures:
    """Of one step; ``sizes`` are the parameters of bases, None where one was not made yet."""
    known = {name: manifest.get(name) for name in ("seconds", "bytes", "peak_memory")}
    if step.key in sizes:
        return {"tokens": manifest.get("tokens"), **known}
    if step.kind != "train":
        return {"tokens": 0, "flops": 0, "trainable_flops": 0, **known}
    training = step.settings["training"]
    tokens = training["steps"] * training["batch_size"] * training["sequence_length"]
    base = [part.key for part in step.walk() if part.key in sizes][-1]
    entries = {"flops": sizes[base], "trainable_flops": manifest.get("trainable_parameters")}
    flops = {name: None if n is None else 6 * n * tokens for name, n in entries.items()}
    return {"tokens": tokens, **flops, **known}


def _cells_without(language: str, matrix: Matrix) -> list[Cell]:
    """[] where that makes no matrix."""
    rest = [other for other in matrix.languages if other != language]
    try:
        return make_plan(matrix.model_copy(update={"languages": rest})).cells if rest else []
    except InputError:  # a method may not do with fewer languages
        return []


def _use(cells: Iterable[Cell]) -> Use:
    use: Use = {}
    for cell in cells:
        steps = [step for step in cell.model.walk() if step.key != cell.base.key]
        needed = {step.key for step in steps if step.kind not in BASE_KINDS}
        use.setdefault((cell.method, cell.seed), set()).update(needed)
    return use


def _per_method(
    labels: Sequence[str],
    seeds: Sequence[int],
    use: Use,
    before: Sequence[Use],
    figures: Mapping[str, Figures],
) -> dict[str, Any]:
    """Sums for each label and for all; ``before`` is the use without each language in turn."""
    users = Counter((key, seed) for (_, seed), keys in use.items() for key in keys)

    def sums(weights: Mapping[tuple[str, int], float]) -> Figures:
        return _sums([(figures[key], weight / len(seeds)) for (key, _), weight in weights.items()])

    methods = {}
    for label in labels:
        own = {(key, seed): 1 for seed in seeds for key in use[label, seed]}
        fair = {place: 1 / users[place] for place in own}
        methods[label] = {**sums(own), "fair": sums(fair), "added_language": None}
        if all((label, seed) in less for less in before for seed in seeds):
            new = [(k, seed) for less in before for k, seed in own if k not in less[label, seed]]
            mean = {place: n / len(before) for place, n in Counter(new).items()}
            methods[label]["added_language"] = sums(mean)
    return {"total": sums(dict.fromkeys(users, 1)), "methods": methods}


def _sums(weighted: Sequence[tuple[Figures, float]]) -> Figures:
    """Weighted sums, and the largest peak whole; each None where one of its terms is."""

    def total(name: str) -> float | None:
        terms = [(figures[name], weight) for figures, weight in weighted]
        if any(value is None for value, _ in terms):
            return None
        # fsum does not depend on the order, which is that of a set
        return math.fsum(value * weight for value, weight in terms)

    found = {name: total(name) for name in SUMS}
    peaks = [figures["peak_memory"] for figures, _ in weighted]
    found["peak_memory"] = None if None in peaks else max(peaks, default=None)
    found["trainable_share"] = _ratio(found["trainable_flops"], found["flops"])
    return found


def _accuracy(rows: Sequence[Mapping[str, Any]], abilities: Sequence[str]) -> float | None:
    """Mean score of a method's rows; None while one is missing."""
    # a model may be asked another ability's questions too
    own = [r for r in rows if r.get("asked", r["ability"]) == r["ability"] in abilities]
    scores = [row["score"] for row in own]
    return math.fsum(scores) / len(scores) if scores and None not in scores else None


def _with_shares(found: dict[str, Any], reference: str | None) -> dict[str, Any]:
    methods = found["methods"]
    scored = [name for name, m in methods.items() if m["accuracy"] is not None and m["tokens"]]
    if reference is None and scored:
        reference = max(scored, key=lambda name: methods[name]["accuracy"])
    to = methods.get(reference, {})
    for method in methods.values():
        method["accuracy_share"] = _ratio(method["accuracy"], to.get("accuracy"))
        method["cost_share"] = _ratio(method["flops"], to.get("flops"))
        method["seconds_share"] = _ratio(method["seconds"], to.get("seconds"))
    return {"reference": reference, **found}


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None

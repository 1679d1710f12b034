"""How parameters were searched, and whether the matrix used what was found."""

import inspect
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from harness import methods
from harness.report.facts import Facts
from harness.report.text import number, section, sizes, table
from harness.sweep_table import by_sweep, chosen, yaml_line
from maec.errors import InputError


def tuning(facts: Facts) -> str:
    order = {label: index for index, label in enumerate(facts.methods)}
    # stable: of one method and ability, the newest sweep comes first
    sweeps = sorted(
        by_sweep(facts.trials).values(),
        key=lambda own: (
            order.get(own[0]["method"], len(order)),
            own[0]["method"],
            own[0]["ability"],
            own[0]["seed"],
        ),
    )
    if not sweeps:
        return ""
    newest = [next(own) for _, own in groupby(sweeps, lambda own: _searched(own[0]))]
    earlier = len(sweeps) - len(newest)
    return section(
        "Equal tuning",
        f"Parameters were searched on dev items, which are no test items. {_budget(newest)} A ± is "
        "the standard error over items; the chosen point is the best of its trials, so that its "
        "score is the more flattering the more there were. `used` compares the chosen parameters "
        "with the matrix that was run, to three digits; what its file leaves out has the method's "
        "default there."
        + (
            f" The newest sweep of each method and ability counts; {earlier} earlier "
            f"{'one is' if earlier == 1 else 'ones are'} among the trials below."
            if earlier
            else ""
        ),
        table([_sweep(facts, own) for own in newest], left=2),
        f"<details>\n<summary>All trials</summary>\n\n{table(_curves(sweeps), left=2)}\n\n"
        "</details>",
    )


def _searched(trial: Mapping[str, Any]) -> tuple[str, str, int]:
    return trial["method"], trial["ability"], trial["seed"]


def _budget(sweeps: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Whether all had as many trials as each other, but for those that ran out of points."""
    counts = pd.Series([len(own) for own in sweeps])
    if counts.nunique() == 1:
        return f"Every method was given the same number of trials in every ability: {counts[0]}."
    limited = counts[[len(own) < _points(own[0]["space"]) for own in sweeps]]
    if limited.nunique() == 1 and limited.iloc[0] == counts.max():
        return (
            "Every method was given the same number of trials in every ability: "
            f"{counts.max()}, or one for each of its points where it has fewer."
        )
    return f"The numbers of trials differ: {sizes(counts)}."


def _points(space: Mapping[str, Any]) -> float:
    """How many points a space has: infinitely many where a parameter has a range."""
    choices = [where for where in space.values() if isinstance(where, list)]
    return math.prod(map(len, choices)) if len(choices) == len(space) else math.inf


def _sweep(facts: Facts, trials: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    first, best = trials[0], chosen(trials)
    return {
        "method": f"`{first['method']}`",
        "ability": first["ability"],
        "seed": str(first["seed"]),
        "trials": str(len(trials)),
        "items": str(first["items"]),
        "start, %": _with_error(first),
        "chosen, %": _with_error(best),
        "chosen parameters": yaml_line(best["parameters"]),
        "used": _used(facts, best),
    }


def _curves(sweeps: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, str]]:
    return [
        {
            "method": f"`{trial['method']}`",
            "ability": trial["ability"],
            "trial": f"{trial['number']}{' (chosen)' if trial is chosen(trials) else ''}",
            "score, %": _with_error(trial),
            "by language, %": ", ".join(
                f"{code} {100 * trial['by_language'][code]:.0f}" for code in trial["languages"]
            ),
            "parameters": yaml_line(trial["parameters"]),
        }
        for trials in sweeps
        for trial in trials
    ]


def _with_error(trial: Mapping[str, Any]) -> str:
    items = np.asarray(trial["correct"], dtype=float)
    error = items.std(ddof=1) / np.sqrt(len(items)) if len(items) > 1 else None
    shown = number(100 * trial["score"])
    return shown if error is None else f"{shown} ± {number(100 * error)}"


def _used(facts: Facts, trial: Mapping[str, Any]) -> str:
    """Whether the newest run's file has these parameters for the method; else which differ."""
    entry = facts.entries.get(trial["method"])
    if entry is None:
        return "not in the matrix" if facts.entries else ""
    given = {**entry, **entry.get("abilities", {}).get(trial["ability"], {})}
    defaults = _defaults(entry["name"])
    ran = {name: given.get(name, defaults.get(name)) for name in trial["parameters"]}
    differ = {
        n: value for n, value in ran.items() if _digits(value) != _digits(trial["parameters"][n])
    }
    if not differ:
        return "yes"
    return "no: " + yaml_line({n: "not given" if v is None else v for n, v in differ.items()})


def _defaults(method: str) -> dict[str, Any]:
    """Of a method's parameters; {} where this program no longer has it."""
    try:
        signature = inspect.signature(methods.load(method).build)
    except InputError:
        return {}
    return {name: p.default for name, p in signature.parameters.items() if p.default is not p.empty}


def _digits(value: Any) -> Any:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return format(value, ".3g") if plain else value

"""What lies inside merged models, and how they were tuned; pure functions on frames."""

from typing import Any

import pandas as pd

from harness.sweep_table import yaml_line


def of_model(tensors: pd.DataFrame) -> pd.DataFrame:
    """One row a tensor of one model and ability, with ``share`` of key neurons in percent.

    ``tensors`` is :func:`harness.report.work.tensors`. Modules of one layer that have the same name
    stay apart only where their tensors do.
    """
    share = 100 * tensors["key_neurons"] / tensors["parameters"].where(tensors["parameters"] > 0)
    return tensors.assign(share=share.fillna(0.0))


def totals(tensors: pd.DataFrame) -> dict[str, float]:
    """parameters, key_neurons, share (percent), tensors, selected (how many tensors)."""
    parameters = int(tensors["parameters"].sum())
    neurons = int(tensors["key_neurons"].sum())
    return {
        "parameters": parameters,
        "key_neurons": neurons,
        "share": 100 * neurons / parameters if parameters else float("nan"),
        "tensors": len(tensors),
        "selected": int(tensors["selected"].fillna(False).astype(bool).sum()),
    }


def curves(trials: list[dict[str, Any]], ability: str) -> pd.DataFrame:
    """One row a trial of an ability's sweeps: sweep, method, seed, number, score, best, error, n.

    Scores are in percent; ``best`` is the greatest so far in its sweep, ``error`` the standard
    error over the n items; ``parameters`` are text.
    """
    rows = []
    for trial in trials:
        if trial["ability"] != ability:
            continue
        right = pd.Series(trial["correct"], dtype=float)
        rows.append(
            {
                **{name: trial[name] for name in ("sweep", "method", "seed", "number")},
                "score": 100 * trial["score"],
                "error": 100 * right.std(ddof=1) / max(len(right), 1) ** 0.5,
                "n": len(right),
                "parameters": yaml_line(trial["parameters"]),
            }
        )
    columns = ["sweep", "method", "seed", "number", "score", "error", "n", "parameters"]
    found = (
        pd.DataFrame(rows, columns=columns)
        .astype({"score": float})
        .sort_values(["sweep", "number"], kind="stable")
    )
    return found.assign(best=found.groupby("sweep")["score"].cummax())

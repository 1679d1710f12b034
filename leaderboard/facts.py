"""A matrix as reports see it, read from the source that is looked at."""

import pandas as pd

from harness import store
from harness.report.facts import Facts
from harness.store import view
from leaderboard import data
from leaderboard.shell import View


def facts(shown: View) -> Facts:
    """Placements, runs, sweeps and manifests of the matrix; its judged items are left out."""
    placed = shown.placed()
    keys = sorted(placed["model_key"].unique())
    return Facts(
        matrix=shown.matrix,
        pivot=shown.pivot,
        placed=placed,
        outcomes=pd.DataFrame(),
        runs=data.ask(runs, shown.path, shown.matrix),
        trials=trials(shown),
        manifests=data.ask(view.manifests, shown.path, keys),
    )


def trials(shown: View) -> list[dict]:
    """Every trial of the matrix's sweeps, as :func:`harness.store.trials`."""
    found = data.ask(store.trials, shown.path)
    return [trial for trial in found if trial["matrix"] == shown.matrix]


def runs(path: object, matrix: str) -> list[dict]:
    """As :func:`harness.store.runs`."""
    return store.runs(matrix, path)

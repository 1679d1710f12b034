"""What a report is made of: one matrix as the store has it, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from harness import store
from harness.compared import scored_matrix

Manifest = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Facts:
    """A matrix's placements, judged items, runs, sweeps and manifests.

    ``placed`` and ``outcomes`` are what the store's functions of these names give, for this matrix;
    ``manifests`` are those of the models and of all that they are made of, by key.
    """

    matrix: str
    pivot: str
    placed: pd.DataFrame
    outcomes: pd.DataFrame
    runs: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    manifests: Mapping[str, Manifest]

    @cached_property
    def file(self) -> Mapping[str, Any]:
        """The matrix file of the newest run of this matrix; {} where only other matrices ran."""
        own = [run["matrix_file"] for run in self.runs if run["matrix"] == self.matrix]
        return own[-1] if own else {}

    @cached_property
    def entries(self) -> dict[str, Mapping[str, Any]]:
        """The file's methods by label."""
        return {entry["label"]: entry for entry in self.file.get("methods", [])}

    @cached_property
    def own(self) -> pd.DataFrame:
        """The rows in which a model is asked its own ability."""
        return self.placed[self.placed["asked"] == self.placed["ability"]]

    @cached_property
    def targets(self) -> pd.DataFrame:
        """Those of them that are in a target language."""
        return self.own[self.own["language"] != self.pivot]

    @property
    def methods(self) -> list[str]:
        return list(self.placed["method"].unique())

    @property
    def abilities(self) -> list[str]:
        return list(self.own["ability"].unique())

    @property
    def points(self) -> list[str]:
        """The points of the matrix's axis; [""] without one."""
        return list(self.placed["variant"].unique())

    @property
    def seeds(self) -> list[int]:
        return sorted(self.placed["seed"].unique())

    @cached_property
    def complete(self) -> set[str]:
        """Methods without a missing score in a target language."""
        missing = self.targets.loc[self.targets["score"].isna(), "method"]
        return set(self.methods) - set(missing)

    def name(self, label: str) -> str:
        """The method's own name; two labels may stand for one method."""
        return self.entries.get(label, {}).get("name", label)

    def of_family(self, *families: str) -> list[str]:
        found = self.placed[self.placed["family"].isin(families)]
        return list(found["method"].unique())

    def title(self, label: str) -> str:
        return self.placed.loc[self.placed["method"] == label, "title"].iloc[0]


def load(asked: str | None) -> Facts:
    """The matrix asked for, else the one that was scored last.

    Raises:
        InputError: nothing was scored yet, or nothing of the matrix asked for.
    """
    name, pivot = scored_matrix(asked)
    placed = store.placed()
    placed = placed[placed["matrix"] == name]
    return Facts(
        matrix=name,
        pivot=pivot,
        placed=placed,
        outcomes=store.outcomes(name),
        runs=store.runs(name),
        trials=[trial for trial in store.trials() if trial["matrix"] == name],
        manifests=_manifests(sorted(placed["model_key"].unique())),
    )


def _manifests(keys: list[str]) -> dict[str, Manifest]:
    """Of these artifacts, of their inputs, and so on down to the base."""
    found: dict[str, Manifest] = {}
    asked: set[str] = set()
    while keys:
        asked |= set(keys)
        level = store.manifests(keys)
        found |= level
        inputs = {key for manifest in level.values() for key in manifest["inputs"].values()}
        keys = sorted(inputs - asked)
    return found

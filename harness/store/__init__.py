"""The store: one DuckDB file that holds every score, every item, every artifact and every run.

A score exists when its transaction committed. One process writes (:func:`writer`); everybody else
reads a snapshot, a complete copy that is replaced atomically, so that a reader never blocks a run
and never sees half a cell. What was exported as a released set is read in the same way.
"""

from harness.store.read import (
    failures,
    known,
    manifests,
    outcomes,
    overview,
    placed,
    reader,
    runs,
    scores,
    timings,
    trials,
)
from harness.store.source import Source, find_release, sources
from harness.store.write import Writer, writer

__all__ = [
    "Source",
    "Writer",
    "failures",
    "find_release",
    "known",
    "manifests",
    "outcomes",
    "overview",
    "placed",
    "reader",
    "runs",
    "scores",
    "sources",
    "timings",
    "trials",
    "writer",
]

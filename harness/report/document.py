"""The report of a matrix: its sections in order, and the file, which is there whole or not at all.

The same store gives the same bytes: dates are the store's, and resampling has a fixed seed.
"""

from pathlib import Path

from harness.home import CHECKOUT
from harness.report import claims, scores, tuning, work
from harness.report.facts import Facts, load
from maec.errors import InputError
from maec.folder import write_file

SECTIONS = (
    scores.head,
    scores.scores,
    claims.ablations,
    claims.baselines,
    claims.variants,
    tuning.tuning,
    scores.forgetting,
    work.cost,
    work.moved,
)


def markdown(facts: Facts) -> str:
    """The whole report; sections for which the store holds nothing are left out."""
    return "\n\n".join(filter(None, (section(facts) for section in SECTIONS))) + "\n"


def write(matrix: str | None = None, out: Path | None = None) -> Path:
    """Write the report of a matrix, by default of the one scored last, and say where.

    ``out`` is ``results/MATRIX.md`` in the checkout by default.

    Raises:
        InputError: nothing was scored yet, or nothing of this matrix; ``out`` cannot be written.
    """
    facts = load(matrix)
    path = out or CHECKOUT / "results" / f"{facts.matrix}.md"
    if path.is_dir():
        raise InputError(f"--out: {path} is a folder; name a file")
    write_file(path, markdown(facts), "--out")
    return path

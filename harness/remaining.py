"""What of a plan is still to be done, and what is not tried: it failed before, and would again."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.failed import needs
from harness.plan import Cell, Plan
from harness.steps import Step, missing


@dataclass(frozen=True)
class Remaining:
    """Cells to score, the steps that they need, inputs first, and by label why others are not."""

    cells: list[Cell]
    steps: list[Step]
    failures: dict[str, str]


def remaining(plan: Plan, failed: Mapping[str, str]) -> Remaining:
    """The missing part of ``plan`` without what ``failed``: messages by key of a step or cell.

    What needs a failed step is not tried, nor made what only that would need.
    """
    failures: dict[str, str] = {}
    blamed: dict[str, Step] = {}
    for step in plan.missing_steps:
        behind = [blamed[part.key] for part in step.inputs.values() if part.key in blamed]
        if step.key in failed:
            blamed[step.key], failures[step.label] = step, failed[step.key]
        elif behind:
            blamed[step.key], failures[step.label] = behind[0], needs(behind[0].label)
    cells = []
    for cell in plan.missing_cells:
        if (key := plan.key(cell)) in failed:
            failures[name(cell)] = failed[key]
        elif blamed.keys().isdisjoint({cell.base.key, cell.model.key}):
            cells.append(cell)
    steps = missing(step for cell in cells for step in (cell.base, cell.model))
    return Remaining(cells, steps, failures)


def model_name(cell: Cell) -> str:
    """What people call the cell's model."""
    return " ".join(filter(None, (cell.variant, cell.method, cell.ability)))


def name(cell: Cell) -> str:
    """What people call the cell."""
    return f"{model_name(cell)} {cell.asked} {cell.language} seed {cell.seed}"

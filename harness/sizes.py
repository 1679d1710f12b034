"""How large the artifacts of a plan will be, from the parameters of its bases."""

from collections.abc import Callable, Iterable, Mapping

from harness.plan import Plan
from harness.steps import Step
from harness.world import base_numel, merged_dtype

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one number of a checkpoint that was made here."""


def sizes(steps: Iterable[Step], parameters: Mapping[str, int | None]) -> dict[str, int | None]:
    """Bytes that each step writes, by its key, beside what is fetched into a hub's cache.

    ``parameters`` are those of the base that the step belongs to; None for both where unknown.
    """
    found = {step.key: (step, parameters.get(step.key)) for step in steps}
    return {
        key: None if number is None else round(number * _bytes_a_parameter(step))
        for key, (step, number) in found.items()
    }


def bases(plan: Plan) -> dict[str, Step]:
    """The base that each step of a plan belongs to, by the step's key."""
    models = {cell.model.key: cell for cell in plan.cells}
    return {
        step.key: cell.base
        for cell in models.values()
        for start in (cell.base, cell.model)
        for step in start.walk()
    }


def parameters(plan: Plan, numel: Callable[..., int | None] = base_numel) -> dict[str, int | None]:
    """Parameters of the base that each step of a plan belongs to, by the step's key."""
    found = bases(plan)
    distinct = {base.key: base for base in found.values()}
    known = {key: numel(base, plan.matrix.parameters) for key, base in distinct.items()}
    return {key: known[base.key] for key, base in found.items()}


def _bytes_a_parameter(step: Step) -> float:
    match step.kind:
        case "fetch":
            # links; an adapter is merged, and written in float32
            return 4 if "adapter" in step.settings else 0
        case "train":
            return BYTES[step.settings["training"]["dtype"]]
        case "locate":
            return 1 / 8
        case "extract":
            # at most: a value and a byte of its place for every key neuron
            return 5 * step.inputs["mask"].settings["k1"]
        case "pretrain" | "base":
            return 4
        case _:
            return BYTES[merged_dtype(step)]

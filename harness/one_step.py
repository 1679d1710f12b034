"""One step of a plan by itself: for schedulers that start processes on many machines.

Any number of steps can be made at once by processes that see one MAEC_HOME. None of them touches
the store: the next run finds what they made, and records it.
"""

from harness.alone import alone
from harness.artifacts import require_sound
from harness.execute import execute, train_together
from harness.plan import Plan
from harness.steps import Step
from harness.threads import fitting_threads
from maec.errors import InputError
from maec.progress import Progress


def find(plan: Plan, key: str) -> Step:
    """The step of a plan whose key starts with ``key``.

    Raises:
        InputError: no step's does, or those of several.
    """
    found = [step for step in plan.steps if step.key.startswith(key)]
    if len(found) != 1:
        what = f"the keys of {len(found)} steps start so" if found else "no step has this key"
        raise InputError(
            f"{plan.matrix.file}: --step '{key}': {what}; "
            f"`harness plan {plan.matrix.file} --steps` lists them"
        )
    return found[0]


def make(plan: Plan, step: Step, progress: Progress | None = None) -> bool:
    """Make the artifact of a step whose inputs exist; False where it was there already.

    Another process that makes it is waited for. Under torchrun every process calls this.

    Raises:
        InputError: an input does not exist, or what :func:`harness.execute.execute` refuses.
        RuntimeError: as :func:`harness.execute.execute`.
    """
    from maec.distributed import leave, meet

    if not step.done:
        _require_inputs(plan, step)
    meet()
    made = take_part(step, progress)
    leave()
    return made


def take_part(step: Step, progress: Progress | None = None) -> bool:
    """What each process does that makes a step with others, or alone; False if it was there.

    The processes have met; the first one writes the artifact, and alone reports ``progress``.

    Raises:
        InputError, RuntimeError: as :func:`harness.execute.execute`.
    """
    from maec.distributed import from_first, rank

    if rank() > 0:
        wanted = from_first(None)
        if wanted and step.kind == "train":
            for part in step.inputs.values():
                require_sound(part)
            with fitting_threads(step):
                train_together(step, step.folder, None)
    else:
        with alone(step):
            wanted = from_first(not step.done)
            if wanted:
                execute(step, progress)
    return wanted


def _require_inputs(plan: Plan, step: Step) -> None:
    absent = [part for part in step.inputs.values() if not part.done]
    if absent:
        needed = ", ".join(f"'{part.label}' ({part.key[:12]})" for part in absent)
        raise InputError(
            f"{plan.matrix.file}: --step {step.key[:12]}: '{step.label}' is made of {needed}, "
            "which is not there; make that first"
        )

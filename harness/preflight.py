"""What is refused in one line before a run or a sweep computes anything."""

from collections.abc import Iterable

from harness.execute import known_commit
from harness.fetch import configs_of
from harness.parallel import require_gpus_here
from harness.reachable import require_reachable
from harness.spec import Matrix
from harness.steps import Step
from harness.text import located
from harness.world import require_code_allowed
from maec.errors import InputError
from maec.hub import local_folder


def require_machines(matrix: Matrix) -> None:
    """Refuse a matrix whose executor does not answer, or that asks for more GPUs than there are.

    Raises:
        InputError: one of them.
    """
    require_reachable(matrix)
    require_gpus_here(matrix)


def require_at_hand(steps: Iterable[Step]) -> None:
    """Where no network may be asked, refuse steps that need what is not on this machine.

    Raises:
        InputError: the first model or data set that is missing.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        return
    for step in steps:
        if step.kind == "fetch" and "model" in step.settings:
            local_folder("@".join(filter(None, step.settings.values())))
        for corpus in step.settings.get("corpora", []):
            if "dataset" in (corpus.get("source") or {}):
                located(corpus["source"]["dataset"], corpus["source"]["revision"])


def require_models_allowed(steps: Iterable[Step]) -> None:
    """Refuse models with code that is not to be run, before weights of any are fetched.

    Raises:
        InputError: one has such code, by the configs that the hub has of it.
    """
    for step in steps:
        if step.kind == "fetch":
            try:
                configs = configs_of(step, known_commit(step.folder))
            except (InputError, OSError):
                continue  # out of reach: the step says why, and the rest goes on
            require_code_allowed(step, configs)

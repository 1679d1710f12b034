"""A step is made by one process at a time, of all that see one MAEC_HOME."""

from pathlib import Path

from filelock import FileLock, Timeout

from harness.home import home
from harness.steps import Step
from maec.errors import InputError


def alone(step: Step) -> FileLock:
    """Hold a step, in a ``with`` block; another process that holds it is waited for."""
    _folder().mkdir(parents=True, exist_ok=True)
    # one object a step in this process, which may enter it twice
    return FileLock(_folder() / f"{step.key}.lock", is_singleton=True)


def require_none() -> None:
    """Refuse to go on while other processes make steps: what they have half done looks left over.

    Raises:
        InputError: one does.
    """
    for file in _folder().glob("*.lock"):
        try:
            with FileLock(file, blocking=False):
                pass
        except Timeout:
            raise InputError(
                f"{home()}: the step {file.stem[:12]} is being made by `harness run --step`; run "
                "this again when that has ended"
            ) from None


def _folder() -> Path:
    return home() / "locks"

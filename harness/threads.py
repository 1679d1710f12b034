"""How many threads a model is worth where it is trained or served without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.steps import Step
from maec.checkpoint import open_checkpoint

SMALL = 100_000_000
"""Parameters below which one thread serves a model best."""


def is_small(model: Path) -> bool:
    """Whether one thread is best for the checkpoint ``model``, however many cores there are.

    The layers of a small model take microseconds: threads spend longer waiting for each other than
    working, twenty times longer when another process has one of the cores. And on some processors
    several threads add numbers up in another order: weights would depend on the machine's cores.
    """
    return open_checkpoint(model).numel() < SMALL


@contextmanager
def fitting_threads(step: Step) -> Iterator[None]:
    """Have torch compute with one thread until the block ends where what is made is small."""
    base = next(step.walk())
    # bases that are trained here are small, all of them
    if step.kind != "pretrain" and not (base.done and is_small(base.folder)):
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

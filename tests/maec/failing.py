"""What processes of tests do when something goes wrong; imports little, so that they start fast."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from maec.distributed import rank
from maec.errors import InputError
from maec.folder import new_folder


def writes_while_another(fails: str, out: Path, report: Callable[..., None] | None) -> None:
    """The first process is writing ``out`` and needs the others, of which the second fails."""
    if rank() == 0:
        with new_folder(out) as folder:
            (folder / "half").write_text("half")
            report(os.getpid())
            dist.barrier()
            dist.barrier()
    elif rank() == 1:
        dist.barrier()
        if fails == "input":
            raise InputError("corpus.txt: there is no such file")
        if fails == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)

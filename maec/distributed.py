"""Several processes that do one piece of work together, one a GPU where there are GPUs.

torchrun and ``accelerate launch`` start them themselves and say in the environment, under
torchrun's names, which one each is. :func:`launch` starts them on this machine.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException

from maec.errors import InputError

GRACE = 3.0
"""Seconds that processes have to tidy up after one of them failed; whoever ends the one that
started them may give it 5."""

PATIENCE = timedelta(hours=2)
"""How long a process waits for another, which may be writing a large model."""

Report = Callable[..., None]


def rank() -> int:
    """Which of the processes this is; 0 is the one that reads text, writes and reports."""
    return int(os.environ.get("RANK", 0))


def size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", 1))


def meet() -> None:
    """Connect this process with the others, if there are others and that was not done."""
    if size() > 1 and not dist.is_initialized():
        _connect(None)


def leave() -> None:
    """Take leave of the others, when all is done."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _connect(address: str | None) -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # by default gloo for tensors in memory, and NCCL for those on a GPU
    dist.init_process_group(init_method=address, rank=rank(), world_size=size(), timeout=PATIENCE)


def from_first(value: Any) -> Any:
    """What the first process gave for ``value``."""
    if size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def sharded_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Of a whole ``tensor``, known to every process, the part that this one has of ``parameter``.

    The result lies where ``parameter`` does.
    """
    if isinstance(parameter, DTensor):
        placed = tensor.to(parameter.device)
        # None: nothing is sent, each process takes its part of its own
        tensor = distribute_tensor(
            placed, parameter.device_mesh, parameter.placements, src_data_rank=None
        ).to_local()
    return tensor.to(parameter.device)


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may have a part; all of them must ask for it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def launch(function: Callable[..., Any], count: int, *args: Any, report: Report | None) -> Any:
    """Call ``function(*args, report)`` in ``count`` processes on this machine.

    Returns what it returns in the first of them, whose calls of ``report`` are passed on. When one
    process fails, or ``report`` raises, the others are ended. ``function`` and ``args`` must be
    picklable.

    Raises:
        InputError: more processes than there are GPUs, where there are any; or a process raised it.
        ChildProcessError: a process was killed.
        MemoryError: one had too little memory.
        RuntimeError: one failed otherwise.
    """
    if torch.cuda.is_available() and count > torch.cuda.device_count():
        raise InputError(
            f"processes: {count} were asked for, and this machine has "
            f"{torch.cuda.device_count()} GPUs; give so many at most"
        )
    messages = multiprocessing.get_context("spawn").SimpleQueue()
    threads = max(1, torch.get_num_threads() // count)
    with tempfile.TemporaryDirectory() as folder:
        address = (Path(folder) / "meet").as_uri()
        processes = multiprocessing.start_processes(
            _work, (count, threads, address, messages, function, args), count, join=False
        )
        try:
            return _follow(processes, messages, report)
        finally:
            _end(processes)


def _work(
    index: int,
    count: int,
    threads: int,
    address: str,
    messages: SimpleQueue[tuple[str, Any]],
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    """What one of the processes does."""
    # what is half done is removed; and SIGINT is what torch sends when the parent is gone
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {
        **{"RANK": str(index), "LOCAL_RANK": str(index), "OMP_NUM_THREADS": str(threads)},
        **{"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)},
    }
    torch.set_num_threads(threads)

    def report(*values: Any) -> None:
        messages.put(("report", values))

    try:
        _connect(address)
        result = function(*args, report if index == 0 else None)
    except Exception as error:
        messages.put(("error", _told(error, index, count)))
        sys.exit(1)
    if index == 0:
        messages.put(("result", result))
    leave()


def _told(error: Exception, index: int, count: int) -> Exception:
    """``error`` in a form that any process can read: one line, and where it happened as a note."""
    if isinstance(error, InputError):
        return error
    first = next(iter(str(error).splitlines()), "")
    short = isinstance(error, MemoryError | torch.OutOfMemoryError)
    kind = MemoryError if short else RuntimeError
    told = kind(f"process {index + 1} of {count}: {type(error).__name__}: {first}")
    told.add_note("".join(traceback.format_exception(error)))
    return told


def _follow(
    processes: ProcessContext, messages: SimpleQueue[tuple[str, Any]], report: Report | None
) -> Any:
    """Pass reports on until all processes ended."""
    over, results, errors = False, [], []
    while not over:
        failed = None
        try:
            over = processes.join(timeout=0.2, grace_period=GRACE)
        except Exception as error:  # of torch; what went wrong is among the messages
            failed = error
        while not messages.empty():
            kind, value = messages.get()
            if kind == "error":
                errors.append(value)
            elif kind == "result":
                results.append(value)
            elif report:
                report(*value)
        if isinstance(failed, ProcessExitedException) and failed.signal_name:
            # others may have failed, too, for want of it
            count = len(processes.processes)
            raise ChildProcessError(
                f"process {failed.error_index + 1} of {count} was ended by {failed.signal_name}; "
                "was there memory enough?"
            )
        if errors or failed:
            raise next(iter(errors), failed)
    if not results:
        raise RuntimeError("the processes were interrupted")
    return results[0]


def _end(processes: ProcessContext) -> None:
    for process in processes.processes:
        process.terminate()
    ended = time.monotonic() + GRACE
    for process in processes.processes:
        # one that waits for another heeds no signal but the last
        process.join(max(0.0, ended - time.monotonic()))
        process.kill()
        process.join()

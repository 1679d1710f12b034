"""Worker processes for steps: one thread each, so that independent steps run side by side.

On few cores, two runs of one thread each beat one run of two threads.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from typing import Any

from harness.execute import execute
from harness.steps import Step


class Interrupted(Exception):
    """The run is being stopped; the step will be done anew next time."""


@dataclass(frozen=True)
class Workers:
    """A pool of worker processes, the queue on which they report (key, done, total), and a stop."""

    pool: ProcessPoolExecutor
    reports: "Queue[tuple[str, int, int]]"
    stop: Event


@contextmanager
def start_workers(count: int, threads: int) -> Iterator[Workers]:
    """Run ``count`` worker processes with ``threads`` threads each until the block ends."""
    context = multiprocessing.get_context("spawn")
    reports: Queue[tuple[str, int, int]] = context.Queue()
    stop = context.Event()
    # read when a worker starts: threads by the numerical libraries, the hash seed by Python itself
    changed = {"OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": "0"}
    previous = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    pool = ProcessPoolExecutor(count, context, _start, (reports, stop, threads))
    try:
        yield Workers(pool=pool, reports=reports, stop=stop)
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_report: Callable[[str, int, int], None] | None = None
"""Set once in each worker process, by :func:`_start`; None everywhere else."""


def _start(reports: "Queue[tuple[str, int, int]]", stop: Event, threads: int) -> None:
    import signal

    import torch
    from transformers.utils import logging

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver stops its workers itself
    torch.set_num_threads(threads)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    # a report that nobody reads any more must not keep this process alive
    reports.cancel_join_thread()

    def report(key: str, done: int, total: int) -> None:
        if stop.is_set():
            raise Interrupted
        reports.put((key, done, total))

    global _report
    _report = report


def run_step(step: Step) -> dict[str, Any]:
    """Execute a step in a worker process; returns its manifest."""
    report = _report
    if report is None:
        return execute(step)
    return execute(step, lambda done, total: report(step.key, done, total))


def _exit_with_parent() -> None:
    """A worker whose driver was killed must not live on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""An object in a process of its own: what it does is asked for from here, and it may die alone.

One pipe is all that the two processes share: the other can be killed at any moment without harm to
this one, and when this one is gone, the other goes, too.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.failed import Died, failed

POLL = 0.2
"""Seconds between two looks at a silent process: does it live, is it still wanted?"""

_CONTEXT = multiprocessing.get_context("spawn")


class Actor:
    """What ``make(*arguments)`` returns, in a process that starts with the first call.

    A call after the process died starts it anew. The system lists the process as ``name``.
    """

    def __init__(self, name: str, make: Callable[..., Any], *arguments: Any) -> None:
        self._made = (name, make, arguments)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._calling = threading.Lock()
        self._grace: float | None = None

    def call(self, method: str, *arguments: Any, report: Callable[..., None] | None = None) -> Any:
        """What the object's ``method`` returns.

        With ``report`` the method gets one more argument, a function that calls ``report`` here.

        Raises:
            Died: the process ended, or was stopped, before it answered.
            Failed: the method, or the making of the object, raised something.
        """
        with self._calling:
            if self._grace is not None:
                raise Died("was stopped")
            if self._process is None or not self._process.is_alive():
                self._end()
                self._start()
            try:
                self._pipe.send((method, arguments, report is not None))
                while True:
                    kind, value = self._receive()
                    if kind == "failed":
                        raise value
                    if kind == "returned":
                        return value
                    report(*value)
            except (EOFError, OSError):
                raise Died(self._end(1.0 if self._grace is None else self._grace)) from None

    def renew(self) -> None:
        """End the process, whatever state it is in; the next call starts another."""
        with self._calling:
            self._end()

    def interrupt(self, grace: float = 0.0) -> None:
        """Let no call go on: its next report fails, and after ``grace`` seconds it is killed."""
        self._grace = grace

    def stop(self) -> None:
        """End the process for good; a call under way raises Died."""
        if self._grace is None:
            self.interrupt()
        self.renew()

    def _start(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_live, args=(theirs, *self._made))
        # the process inherits the mask, which the tracker would lift if it had yet to start
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()

    def _receive(self) -> tuple[str, Any]:
        # the pipe alone does not tell of a death: a child of the process may hold its other end
        while not self._pipe.poll(POLL):
            if self._grace is not None or not self._process.is_alive():
                raise EOFError
        return self._pipe.recv()

    def _end(self, grace: float = 0.0) -> str:
        """Leave nothing of the process; returns how it ended."""
        if self._process is None:
            return "never began"
        self._pipe.close()
        self._process.join(grace)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # if it had no time yet to have a group of its own
        self._process.join()
        code, self._process = self._process.exitcode, None
        if code == -signal.SIGKILL:
            return "was killed (as the system does when memory runs out)"
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"


def _live(
    pipe: Connection, name: str, make: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """The process: makes the object when it is first asked for something, and answers."""
    os.setpgid(0, 0)  # its children can be ended with it
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    made = None
    with suppress(EOFError, OSError):  # nobody listens any more
        while True:
            method, values, reporting = pipe.recv()
            if reporting:
                values = (*values, lambda *told: pipe.send(("reported", told)))
            try:
                made = make(*arguments) if made is None else made
                answer = "returned", getattr(made, method)(*values)
            except BaseException as error:
                answer = "failed", failed(error)
            pipe.send(answer)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.killpg(0, signal.SIGKILL)

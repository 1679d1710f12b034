"""A Ray actor with an object in it, used as :class:`harness.actor.Actor` is."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import ray

from harness.failed import Died, Lost, failed


class RayActor:
    """What ``make(*arguments)`` returns, in an actor that is created by the first call.

    A call after the actor died creates it anew. ``options`` are Ray's: what it needs, and where.
    """

    def __init__(
        self, options: Mapping[str, Any], make: Callable[..., Any], *arguments: Any
    ) -> None:
        self._made = (make, arguments)
        self._options = options
        self._handle: Any = None
        self._calling = threading.Lock()
        self._stopped = False

    def call(self, method: str, *arguments: Any) -> Any:
        """What the object's ``method`` returns; waits until the cluster has room for the actor.

        Raises:
            Died: the actor or its node ended, or it was stopped, before it answered.
            Failed: the method, or the making of the object, raised something.
        """
        with self._calling:
            if self._stopped:
                raise Died("was stopped")
            if self._handle is None:
                self._handle = _Host.options(**self._options).remote(*self._made)
            try:
                return answered(ray.get(self._handle.call.remote(method, arguments)))
            except ray.exceptions.RayError as error:
                self._end()
                raise died(error) from None

    def renew(self) -> None:
        """End the actor, whatever state it is in; the next call creates another."""
        with self._calling:
            self._end()

    def interrupt(self, grace: float = 0.0) -> None:
        """Let no call go on."""
        self._stopped = True
        if (handle := self._handle) is not None:
            ray.kill(handle)

    def stop(self) -> None:
        """End the actor for good; a call under way raises Died."""
        self.interrupt()
        self.renew()

    def _end(self) -> None:
        if self._handle is not None:
            ray.kill(self._handle)
            self._handle = None


@ray.remote
class _Host:
    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._make = lambda: make(*arguments)
        self._made: Any = None

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        try:
            self._made = self._make() if self._made is None else self._made
            return getattr(self._made, method)(*arguments)
        except BaseException as error:
            return failed(error)


def answered(value: Any) -> Any:
    """What a task or an actor returned; what it says that it failed of is raised here."""
    if isinstance(value, BaseException):
        raise value
    return value


def died(error: ray.exceptions.RayError) -> Died:
    """What Ray says of a process or node that is gone, in one line.

    A node's end is no fault of the work that it had, nor is that memory ran out beside others.
    """
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Died("was killed because its node's memory ran out", lasting=False)
    told = " ".join(str(error).split())
    if isinstance(error, ray.exceptions.NodeDiedError) or "node" in told.lower():
        return Lost("went with its node", lasting=False)
    return Died("died")

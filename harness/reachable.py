"""What an executor needs beside this machine, asked for before any work starts."""

import os
import socket

from harness import remote
from harness.spec import Matrix
from maec.errors import InputError

ANSWER = 10.0
"""Seconds in which a cluster that is there lets itself be heard of."""


def require_reachable(matrix: Matrix) -> None:
    """Refuse an executor whose cluster does not answer, or whose place for artifacts is none.

    Raises:
        InputError: one of them.
    """
    executor = matrix.executor
    if executor.artifacts is not None:
        try:
            remote.require_reachable(executor.artifacts)
        except InputError as error:
            raise InputError(f"{matrix.file}: executor.artifacts: {error}") from None
    if executor.kind == "ray" and (address := ray_address(matrix)):
        _require_answer(matrix, address)


def ray_address(matrix: Matrix) -> str | None:
    """Where the matrix's Ray cluster is; None: one is started here."""
    return matrix.executor.address or os.environ.get("RAY_ADDRESS") or None


def no_cluster(matrix: Matrix, address: str, why: str) -> str:
    """What to tell a user whose cluster is not there."""
    return (
        f"{matrix.file}: executor.address: no Ray cluster answers at '{address}' ({why}); start "
        "one there (`ray start --head`), set RAY_AUTH_MODE=token if it asks for one, or drop the "
        "address to have Ray started on this machine"
    )


def _require_answer(matrix: Matrix, address: str) -> None:
    """Refuse an address where nobody listens, at which Ray would try again for ever."""
    protocol, _, place = address.rpartition("://")
    if protocol not in ("", "ray") or ":" not in place:
        return  # Ray knows how to find it
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(no_cluster(matrix, address, why)) from None

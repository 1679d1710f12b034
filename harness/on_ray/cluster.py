"""The Ray cluster of a run: joined or started here, and looked over before any work is sent there.

Every node has to have this very program, and to see MAEC_HOME unless artifacts go through a place
of their own.
"""

import logging
import os
import secrets
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness import machine, remote
from harness.execute import versions
from harness.home import home
from harness.reachable import no_cluster, ray_address
from harness.spec import Matrix
from harness.steps import Step
from harness.workers import WORKER_MEMORY, environment
from maec.errors import InputError

OBJECTS = 256 << 20
"""Bytes for what tasks return, on a Ray that is started here: manifests and answers."""

ON_GPUS = ("train", "pretrain")
"""Kinds of steps that take a GPU for each of their processes."""


@dataclass(frozen=True)
class Cluster:
    """Nodes that are alive, by id, and what a run's work asks of them.

    ``gpus`` has those nodes that have any, and how many.
    """

    matrix: Matrix
    nodes: list[str]
    gpus: dict[str, int]

    def spreads(self, step: Step) -> bool:
        """Whether a step's processes may be on several nodes.

        What a training saves on its way has to be in reach of all of them.
        """
        together = step.kind == "train" and step.processes > 1
        return together and self.matrix.executor.artifacts is None

    def needs(self, step: Step) -> dict[str, Any]:
        """What one node has to have for a step: CPUs, GPUs, and memory where it trains on CPUs."""
        cpus = self.matrix.executor.cpus
        if step.kind not in ON_GPUS:
            return {"num_cpus": cpus}
        if self.gpus:
            return {"num_cpus": step.processes, "num_gpus": step.processes}
        return {"num_cpus": cpus * step.processes, "memory": WORKER_MEMORY * step.processes}

    def located(self, steps: Iterable[Step]) -> list[remote.Pointer]:
        """Where nodes find what was made of ``steps``, unless they share MAEC_HOME.

        What was made on this machine alone is sent there first.
        """
        url = self.matrix.executor.artifacts
        if url is None:
            return []
        made = [step for step in steps if step.path is None and step.done]
        known = {pointer.manifest["key"] for pointer in remote.known(made)}
        for step in made:
            if step.key not in known:
                remote.publish(step, url)
        return remote.known(made)


@contextmanager
def connected(matrix: Matrix, steps: int) -> Iterator[Cluster]:
    """A cluster whose nodes can all do a run's work, until the block ends.

    Without one, it is started on this machine, for so many ``steps`` side by side.

    Raises:
        InputError: there is no cluster at that address, it is too small for a step, or a node of it
            cannot do the work.
    """
    _start(matrix, steps)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        require_room(matrix, nodes)
        _require_fit_for_work(matrix, nodes)
        counted = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in nodes}
        gpus = {node: count for node, count in counted.items() if count}
        yield Cluster(matrix, [node["NodeID"] for node in nodes], gpus)
    finally:
        ray.shutdown()


def _start(matrix: Matrix, steps: int) -> None:
    executor = matrix.executor
    address = ray_address(matrix) or "local"
    variables = environment(executor.cpus)
    if not executor.artifacts:
        variables["MAEC_HOME"] = str(home())
    own = {
        "num_cpus": steps * matrix.resources.processes * executor.cpus,
        "object_store_memory": OBJECTS,
        "include_dashboard": False,
    }
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    heeded = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": variables},
            logging_level=logging.ERROR,
            log_to_driver=False,  # Ray's own logs have it, of all nodes
            **(own if address == "local" else {}),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(no_cluster(matrix, address, _line(error))) from None
    finally:
        signal.signal(signal.SIGTERM, heeded)  # Ray has put its own in its place


def require_room(matrix: Matrix, nodes: list[dict[str, Any]]) -> None:
    """Refuse what Ray would wait for without end."""
    executor, processes = matrix.executor, matrix.resources.processes
    cpus = [int(node["Resources"]["CPU"]) for node in nodes]
    gpus = [int(node["Resources"].get("GPU", 0)) for node in nodes]
    if executor.cpus > max(cpus):
        raise InputError(
            f"{matrix.file}: executor.cpus: {executor.cpus} were asked for each step, and no node "
            f"has more than {max(cpus)}; give so many at most"
        )
    rooms = gpus if any(gpus) else [count // executor.cpus for count in cpus]
    room, where = sum(rooms), "the cluster"
    if executor.artifacts:  # then a training stays on one node
        room, where = max(rooms), "a node"
    if processes > room:
        raise InputError(
            f"{matrix.file}: resources.processes: {processes} were asked for, and {where} has "
            f"{'GPUs' if any(gpus) else 'CPUs'} for {room}; give so many at most"
        )


def _require_fit_for_work(matrix: Matrix, nodes: list[dict[str, Any]]) -> None:
    """Refuse a node with other code or packages, or that does not see what it is to work on."""
    token = home() / f".seen-{secrets.token_hex(4)}"
    looked = ray.remote(num_cpus=0)(_look)
    where = f"{matrix.file}: executor: node"
    try:
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
        asked = [
            looked.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(token))
            for node in nodes
        ]
        here = _look(str(token))
        for node, answer in zip(nodes, asked, strict=True):
            address = node["NodeManagerAddress"]
            try:
                found = ray.get(answer)
            except ray.exceptions.RayError as error:
                raise InputError(
                    f"{where} {address} cannot run this program ({_line(error)}); install it "
                    "there as it is here"
                ) from None
            for name in here["versions"].keys() | found["versions"].keys():
                ours, theirs = (one["versions"].get(name) for one in (here, found))
                if ours != theirs:
                    raise InputError(
                        f"{where} {address} has {name} {theirs} where this machine has {ours}; "
                        "install the same there"
                    )
            if not (found["sees"] or matrix.executor.artifacts):
                raise InputError(
                    f"{where} {address} does not see {home()}; mount it there under this path, or "
                    "name a place for artifacts that all nodes reach under executor.artifacts"
                )
    finally:
        token.unlink(missing_ok=True)


def _look(token: str) -> dict[str, Any]:
    """What a node has."""
    commit, _ = machine.commit()
    return {"versions": {**versions(), "commit": commit}, "sees": Path(token).exists()}


def _line(error: BaseException) -> str:
    """The last line of what Ray says is what happened there."""
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else repr(error)

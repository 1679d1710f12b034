"""Runs on a Ray cluster of this machine's processes: what they store is what a run without it does.

Each node of the cluster has a MAEC_HOME of its own; artifacts go from one to the other through a
folder that fsspec knows.
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
import torch
import yaml
from safetensors.torch import load_file

from harness.on_ray import start_ray
from harness.on_ray.cluster import require_room
from harness.plan import make_plan
from harness.spec import check_matrix, load_matrix
from harness.world import EMBEDDED_BASE
from maec.errors import InputError
from tests.conftest import environment
from tests.faults.scene import MATRIX

SCORES = "SELECT task, fingerprint, score, n FROM cells ORDER BY ALL"
ITEMS = (
    "SELECT c.task, c.fingerprint, i.* EXCLUDE (cell) "
    "FROM items i JOIN cells c ON c.key = i.cell ORDER BY ALL"
)


def matrix_file(folder: Path, **changed: object) -> Path:
    """A matrix with every kind of step but mergekit's."""
    content = yaml.safe_load(MATRIX.read_text())
    own = [method for method in content["methods"] if "tv" not in str(method)]
    file = folder / "matrix.yaml"
    content |= {"base": str(EMBEDDED_BASE), "methods": own, **changed}
    file.write_text(yaml.safe_dump(content))
    return file


def start(file: Path, home: Path) -> subprocess.Popen:
    """``harness run``."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "run", str(file)],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(run: subprocess.Popen) -> str:
    told, _ = run.communicate(timeout=300)
    assert run.returncode == 0, told[-3000:]
    return told


def stored(home: Path) -> tuple[list[tuple], list[tuple]]:
    with duckdb.connect(home / "store.duckdb", read_only=True) as db:
        return db.sql(SCORES).fetchall(), db.sql(ITEMS).fetchall()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a run without Ray."""
    folder = tmp_path_factory.mktemp("local")
    ended(start(matrix_file(folder), folder / "local"))
    return folder / "local"


@contextmanager
def nodes(*homes: Path) -> Iterator[Any]:
    """A cluster of nodes with one CPU each, and these homes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for home in homes:
            cluster.add_node(num_cpus=1, env_vars={"MAEC_HOME": str(home)})
        yield cluster
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_a_node_that_dies_midway_costs_nothing_but_time(tmp_path: Path, undisturbed: Path) -> None:
    first, second, shared = (tmp_path / name for name in ("first", "second", "shared"))
    with nodes(first, second) as cluster:
        executor = {"kind": "ray", "address": cluster.address, "artifacts": shared.as_uri()}
        run = start(matrix_file(tmp_path, executor=executor), first)
        while run.poll() is None and not list(second.glob("artifacts/*/*/manifest.json")):
            time.sleep(0.05)
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        assert run.poll() is None, ended(run)
        ended(run)
    assert stored(first) == stored(undisturbed)


@pytest.mark.slow
def test_nodes_share_a_training(tmp_path: Path, home: Path, undisturbed: Path) -> None:
    # one CPU is too little for two processes: each node has one of them
    with nodes(home, home) as cluster:
        executor = {"kind": "ray", "address": cluster.address}
        file = matrix_file(tmp_path, executor=executor, resources={"processes": 2})
        matrix = load_matrix(file)
        step = next(step for step in make_plan(matrix).steps if step.kind == "train")
        with start_ray(matrix, 1) as (workers, _):
            manifest = workers.submit(step).result()
    assert manifest["processes"] == 2
    one, two = (
        load_file(folder / step.folder.relative_to(home) / "model.safetensors")
        for folder in (undisturbed, home)
    )
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("executor", "processes", "nodes", "said"),
    [
        (
            {"cpus": 3},
            1,
            [{"CPU": 2}],
            "executor.cpus: 3 were asked for each step, and no node",
        ),
        (
            {},
            4,
            [{"CPU": 2}, {"CPU": 1}],
            "resources.processes: 4 …, and the cluster has CPUs for",
        ),
        ({"cpus": 2}, 3, [{"CPU": 3}, {"CPU": 2}], "…, and the cluster has CPUs for 2; give"),
        ({}, 9, [{"CPU": 9, "GPU": 8}, {"CPU": 99}], "…, and the cluster has GPUs for 8; give"),
        ({"artifacts": "file:///x"}, 3, [{"CPU": 2}, {"CPU": 2}], "…, and a node has CPUs for 2"),
    ],
)
def test_what_ray_would_wait_for_without_end_is_refused(
    executor: dict, processes: int, nodes: list[dict], said: str
) -> None:
    content = yaml.safe_load(MATRIX.read_text()) | {"base": "embedded"}
    asked = {"executor": {"kind": "ray", **executor}, "resources": {"processes": processes}}
    matrix = check_matrix({**content, **asked}, Path("m.yaml"))
    expected = ".*".join(map(re.escape, said.split("…")))
    with pytest.raises(InputError, match=expected):
        require_room(matrix, [{"Resources": one} for one in nodes])

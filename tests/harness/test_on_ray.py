"""Runs on a Ray cluster of this machine's processes: what they store is what a run without it does.

Each node of the cluster has a MAEC_HOME of its own; artifacts go from one to the other through a
folder that fsspec knows.
"""

import json
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

from harness.on_ray.cluster import require_room
from harness.spec import check_matrix
from harness.world import EMBEDDED_BASE
from maec.errors import InputError
from tests.conftest import environment
from tests.faults.scene import MATRIX

SCORES = "SELECT task, fingerprint, score, n FROM cells ORDER BY ALL"
ITEMS = (
    "SELECT c.task, c.fingerprint, i.* EXCLUDE (cell) "
    "FROM items i JOIN cells c ON c.key = i.cell ORDER BY ALL"
)


def start(folder: Path, home: Path, **changed: object) -> subprocess.Popen:
    """``harness run`` of a matrix with every kind of step."""
    matrix = {**yaml.safe_load(MATRIX.read_text()), "base": str(EMBEDDED_BASE), **changed}
    file = folder / f"{home.name}.yaml"
    file.write_text(yaml.safe_dump(matrix))
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
    ended(start(folder, folder / "local"))
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
        run = start(tmp_path, first, executor=executor)
        while run.poll() is None and not list(second.glob("artifacts/*/*/manifest.json")):
            time.sleep(0.05)
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        assert run.poll() is None, ended(run)
        ended(run)
    assert stored(first) == stored(undisturbed)


@pytest.mark.slow
def test_nodes_share_a_training(tmp_path: Path, undisturbed: Path) -> None:
    home = tmp_path / "both"
    # one CPU is too little for two processes: each node has one of them
    with nodes(home, home) as cluster:
        executor = {"kind": "ray", "address": cluster.address}
        ended(start(tmp_path, home, executor=executor, methods=["tv"], resources={"processes": 2}))
    made = list(home.glob("artifacts/train/*/manifest.json"))
    assert made
    for file in made:
        assert json.loads(file.read_text())["processes"] == 2
        one, two = (
            load_file(folder / file.parent.relative_to(home) / "model.safetensors")
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

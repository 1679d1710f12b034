"""A merge that is killed, and one whose disk fills up: nothing that looks finished is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from .checkpoints import trained, write, write_recipe

LARGE = {f"model.layers.{layer}.mlp.up_proj.weight": (2048, 1024) for layer in range(24)}
NBYTES = 4 * 2048 * 1024 * len(LARGE)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints that take a moment to merge, and a recipe for them."""
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("large")
    origin = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in LARGE.items()}
    write(folder / "base", origin)
    for name in ("math", "es"):
        write(folder / name, trained(rng, origin))
    write_recipe(
        folder / "recipe.yaml",
        base="base",
        languages=[{"model": "es"}],
        abilities=[{"model": "math", "beta": 0}],
        dtype="float32",
    )
    return folder


def maec(*arguments: Path | str) -> list[str]:
    return [sys.executable, "-m", "maec.cli", *map(str, arguments)]


@pytest.mark.slow
def test_a_merge_that_is_killed_leaves_nothing_that_looks_finished_nor_that_lasts(
    world: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = subprocess.Popen(maec("merge", world / "recipe.yaml", out))
    while running.poll() is None and not list(tmp_path.glob(".partial-*/*.safetensors")):
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not out.exists() and list(tmp_path.glob(".partial-*"))
    done = subprocess.run(maec("merge", world / "recipe.yaml", out), check=False)
    assert done.returncode == 0
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    with safe_open(out / "model.safetensors", "np") as merged:
        assert set(merged.keys()) == set(LARGE)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own that is too small for the result."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={NBYTES // 2}", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("lied_to", [False, True])
def test_a_disk_that_is_full_takes_one_line_and_leaves_nothing(
    world: Path, small_disk: Path, lied_to: bool
) -> None:
    """Found out by asking, and, where others fill the disk after that, by laying out the files."""
    command = maec("merge", world / "recipe.yaml", small_disk / "out")
    if lied_to:
        lie = "import maec.merge as m; m.require_space = lambda *_: None; import maec.cli as c"
        command = [sys.executable, "-c", f"{lie}; c.main()", *command[3:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "no space" in done.stderr
    assert os.listdir(small_disk) == []

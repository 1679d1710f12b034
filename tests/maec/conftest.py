"""What every test of `maec` shares: one thread, and a world of random checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from . import checkpoints
from .hub_server import Hub

ROOT = Path(__file__).resolve().parents[2]

settings.register_profile(
    "maec", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("maec")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20250410)


@pytest.fixture
def make(tmp_path: Path, rng: np.random.Generator) -> Callable[..., Path]:
    """make(name, tensors=None, **how): a checkpoint in `tmp_path`, random where none is given."""

    def write(name: str, tensors: checkpoints.Tensors | None = None, **how: object) -> Path:
        tensors = checkpoints.llama(rng) if tensors is None else tensors
        return checkpoints.write(tmp_path / name, tensors, **how)

    return write


@pytest.fixture
def python(tmp_path: Path, hub: Hub) -> Callable[..., subprocess.CompletedProcess[str]]:
    """python(*arguments, **environment): a new interpreter whose hub is the stand-in."""
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=clean | settings | {"PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run

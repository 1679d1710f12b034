"""Models by hub id, against a stand-in of the hub on loopback and a cache without a network."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from maec.hub import hub_id

from . import numpy_reference
from .checkpoints import llama, read, read_torch, same_bits, trained, write, write_recipe
from .hub_server import Hub, serve
from .numpy_reference import Ability

FETCH = """
import sys
from maec.errors import InputError
from maec.hub import as_source, local_folder
try:
    print(local_folder(as_source(sys.argv[1])))
except InputError as error:
    print("refused:", error)
assert "torch" not in sys.modules
"""

TOLD = """
import json, sys
from maec.hub import local_folder
told = []
folder = local_folder(sys.argv[1], progress=lambda *bytes: told.append(bytes))
print(json.dumps([str(folder), told]))
"""

Python = Callable[..., subprocess.CompletedProcess[str]]  # see conftest


@pytest.fixture
def hub(tmp_path: Path, rng: np.random.Generator) -> Iterator[Hub]:
    """A hub with a base, a language, an ability, and a gated model."""
    origin = llama(rng)
    served = Hub()
    for name, how in {"base": {"shards": 3}, "es": {}, "math": {}, "gated": {}}.items():
        tensors = origin if name == "base" else trained(rng, origin)
        served.add(f"org/{name}", write(tmp_path / "served" / name, tensors, **how))
    served.gated.add("org/gated")
    with serve(served):
        yield served


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("refused: ")
    assert all(word in line for word in words), line


def test_a_model_is_fetched_without_pickles_and_from_then_on_needs_no_network(
    python: Python, hub: Hub, tmp_path: Path
) -> None:
    served = tmp_path / "served/es"
    (served / "pytorch_model.bin").write_bytes(b"a pickle")
    (served / "consolidated.safetensors").write_bytes(b"the same again")
    (served / "onnx").mkdir()
    (served / "onnx/model.safetensors").write_bytes(b"and again")
    (served / "LICENSE").write_text("terms")
    done = python("-c", FETCH, "org/es")
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (served / weights).read_bytes()
    names = {file.name for file in folder.rglob("*")}
    assert {"config.json", "tokenizer.json", "LICENSE"} <= names
    assert not names & {"pytorch_model.bin", "consolidated.safetensors", "onnx"}
    assert hub_id(folder) == ("org/es", hub.commit("org/es", "main"))
    before = len(hub.asked)
    offline = python("-c", FETCH, "org/es", HF_HUB_OFFLINE="1")
    assert offline.stdout == done.stdout and len(hub.asked) == before
    again = python("-c", FETCH, "org/es")
    assert again.stdout == done.stdout
    assert not [path for path in hub.asked[before:] if path.startswith("GET /org")]


def test_who_asks_is_told_how_many_bytes_came_and_nothing_is_shown(
    python: Python, hub: Hub, tmp_path: Path
) -> None:
    done = python("-c", TOLD, "org/base", TQDM_POSITION="-1")  # bars even without a terminal
    assert done.returncode == 0 and done.stderr == "", done.stderr
    folder, told = json.loads(done.stdout)
    sizes = sum(file.stat().st_size for file in Path(folder).iterdir())
    assert told[-1] == [sizes, sizes] and len(told) > 3
    assert told == sorted(told) and all(0 < came <= expected for came, expected in told)
    shown = python("-c", FETCH, "org/es", TQDM_POSITION="-1")
    assert "100%" in shown.stderr


def test_a_download_that_broke_off_is_taken_up_again(
    python: Python, hub: Hub, tmp_path: Path
) -> None:
    hub.withheld.add("model-00003-of-00003.safetensors")
    refused(python("-c", FETCH, "org/base"), "org/base", "cannot be fetched", "403")
    hub.withheld.clear()
    fetched = {path for path in hub.asked if path.startswith("GET /org/base/resolve")}
    before = len(hub.asked)
    folder = Path(python("-c", FETCH, "org/base").stdout.strip())
    assert same_bits(read_torch(folder), read_torch(tmp_path / "served/base"))
    again = {path for path in hub.asked[before:] if path.startswith("GET /org/base/resolve")}
    assert fetched - again and {Path(path).name for path in again & fetched} <= {
        "model-00003-of-00003.safetensors"
    }


def test_a_revision_is_the_one_that_was_asked_for(
    python: Python, hub: Hub, tmp_path: Path, rng: np.random.Generator
) -> None:
    old = hub.add("org/es", write(tmp_path / "served" / "older", llama(rng)), "v1", "refs/pr/2")
    for revision in ("v1", "refs/pr/2", old):
        done = python("-c", FETCH, f"org/es@{revision}")
        assert done.stdout.strip().endswith(old), done.stdout + done.stderr
    refused(python("-c", FETCH, "org/es@nowhere"), "org/es@nowhere", "revision")


def test_what_cannot_be_fetched_is_said_in_one_line(python: Python, tmp_path: Path) -> None:
    refused(python("-c", FETCH, "org/nothing"), "org/nothing", "no such model", "folder")
    refused(python("-c", FETCH, "org/gated"), "org/gated", "gated", "hf auth login")
    refused(python("-c", FETCH, "org/es", HF_HUB_OFFLINE="1"), "org/es", "HF_HUB_OFFLINE")
    away = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    refused(python("-c", FETCH, "org/es", **away), "org/es", "cannot be reached")
    refused(python("-c", FETCH, "org/a..b"), "org/a..b")


def test_half_a_model_in_the_cache_is_not_taken_for_a_whole_one(
    python: Python, tmp_path: Path
) -> None:
    folder = Path(python("-c", FETCH, "org/base").stdout.strip())
    (folder / "model-00002-of-00003.safetensors").unlink()
    refused(python("-c", FETCH, "org/base", HF_HUB_OFFLINE="1"), "org/base", "whole")


def test_a_recipe_of_hub_ids_merges_and_records_what_it_was_made_of(
    python: Python, hub: Hub, tmp_path: Path
) -> None:
    keys = {
        "base": "org/base",
        "languages": [{"model": "org/es@main"}],
        "abilities": [{"model": "org/math", "k1": 0.2}],
        "dtype": "float32",
    }
    recipe = write_recipe(tmp_path / "recipe.yaml", **keys)
    done = python("-m", "maec.cli", "merge", recipe, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    base, es, math = (read(tmp_path / "served" / name) for name in ("base", "es", "math"))
    expected = numpy_reference.merge(base, [(es, 1.0)], [Ability(math, k1=0.2)])
    assert numpy_reference.differences(read(tmp_path / "out"), expected, "float32") == []
    report = json.loads((tmp_path / "out" / "maec.json").read_text())
    for part, name in (
        (report["base"], "org/base"),
        (report["languages"][0], "org/es"),
        (report["abilities"][0], "org/math"),
    ):
        assert (part["hub"], part["commit"]) == (name, hub.commit(name, "main"))
    assert report["recipe"]["languages"][0]["model"] == f"org/es@{hub.commit('org/es', 'main')}"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- org/base\n" in card and report["base"]["commit"] in card

    # what is recorded makes the same again, without a network and though the branch has moved
    hub.repos["org/es"]["main"] = hub.repos["org/math"]["main"]
    recorded = write_recipe(tmp_path / "recorded.yaml", **report["recipe"])
    again = python("-m", "maec.cli", "merge", recorded, tmp_path / "again", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    for file in ("model.safetensors", "maec.json"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_extract_takes_hub_ids_and_folders_alike(python: Python, hub: Hub, tmp_path: Path) -> None:
    served = tmp_path / "served"
    for out, base, ability in (
        ("of-hub", "org/base", "org/math@main"),
        ("of-folders", served / "base", served / "math"),
    ):
        done = python("-m", "maec.cli", "extract", base, ability, tmp_path / out)
        assert done.returncode == 0, done.stderr
    assert same_bits(read_torch(tmp_path / "of-hub"), read_torch(tmp_path / "of-folders"))
    manifest = json.loads((tmp_path / "of-hub" / "pack.json").read_text())
    assert manifest["ability"]["hub"] == "org/math"


def test_a_command_says_in_one_line_what_it_could_not_fetch(python: Python, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", base="org/base", languages=[{"model": "org/gated"}])
    for arguments in (["merge", recipe, "out"], ["extract", "org/base", "org/gated", "out"]):
        done = python("-m", "maec.cli", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        lines = [line for line in done.stderr.splitlines() if line.startswith("maec: ")]
        assert len(lines) == 1 and "org/gated" in lines[0] and "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()

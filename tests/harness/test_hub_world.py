"""Bases, checkpoints and text from a hub and from folders: a matrix of them runs end to end.

The hub is a stand-in on loopback. Weights are compared with what numpy and maec itself make of the
same files.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.conftest import CHECKOUT
from tests.harness.hub_world import data_set, lines, save_adapter, save_model
from tests.maec.checkpoints import read, read_torch, same_bits
from tests.maec.hub_server import Hub, serve

ENGINE = {"kind": "transformers", "max_model_len": 256, "batch_size": 8}
TRAINING = {"steps": 3, "learning_rate": 1e-3, "batch_size": 2, "sequence_length": 32}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve(Hub()) as served:
        yield served


def harness(
    *arguments: object, home: Path, hub: Hub, **more: str
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home.parent / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "MAEC_HOME": str(home),
        "COLUMNS": "150",
    }
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env=clean | settings | more,
    )


def matrix_file(folder: Path, **keys: object) -> Path:
    common = {"name": "tiny-hub", "abilities": ["math"], "items": 4, "engine": ENGINE}
    path = folder / "matrix.yaml"
    path.write_text(yaml.safe_dump({**common, **keys}, sort_keys=False), encoding="utf-8")
    return path


def artifacts(home: Path, kind: str) -> dict[str, Path]:
    """Folders of a kind of artifact by their label."""
    found = (home / "artifacts" / kind).glob("*/manifest.json")
    return {manifest(file.parent)["label"]: file.parent for file in found}


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def ran(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_base_from_a_hub_is_trained_on_text_from_files_and_data_sets(
    tmp_path: Path, home: Path, hub: Hub
) -> None:
    base = save_model(tmp_path / "served", "llama", 0)
    commit = hub.add("org/llama", base)
    sums = [{"query": f"Q: what is {i} and 1 ?", "response": f"A: {i + 1}"} for i in range(60)]
    spanish = [{"text": f"el número {i} es {i % 7}"} for i in range(80)]
    lines(tmp_path / "text" / "es-0.jsonl", spanish[:50])
    lines(tmp_path / "text" / "es-1.jsonl", spanish[50:])
    data_set(tmp_path / "math", "all", [sums[:20], sums[20:]], licence="mit")
    english = [{"text": f"the number {i} is {i % 7}"} for i in range(80)]
    data_set(tmp_path / "english", "en", [english])
    path = matrix_file(
        tmp_path,
        base="org/llama@main",
        languages=["es"],
        methods=["base", "f-cpt-a", {"name": "f-cpt-la", "ability_repeats": 2}, "tv", "maec"],
        corpora={
            "general": {
                "es": {"files": "text/es-*.jsonl", "licence": "cc0-1.0"},
                "*": {"dataset": "english", "name": "{language}"},
            },
            "ability": {"math": {"dataset": "math", "name": "all", "text": "{query} {response}"}},
        },
        documents={"general": 60, "pivot": 20, "ability": 40, "translated": 1},
        tokens={"general": 100_000},
        training={
            role: TRAINING
            for role in ("language", "ability", "joint", "locate", "key_neurons", "pivot")
        },
    )
    planned = json.loads(ran(harness("plan", path, "--json", home=home, hub=hub)))
    assert not hub.asked and not home.exists()
    assert planned["missing"]["cells"] == len(planned["cells"]) == 10
    (before,) = [s["key"] for s in planned["steps"] if s["kind"] == "fetch"]
    assert planned["price"]["total"]["download"]["unknown"] > 0  # nobody says how large it is

    ran(harness("run", path, home=home, hub=hub))
    (fetched,) = artifacts(home, "fetch").values()
    assert fetched.name == before  # what is here is no part of a key
    assert same_bits(read_torch(fetched), read_torch(base))
    assert (fetched / "model.safetensors").is_symlink()
    assert manifest(fetched)["commit"] == commit

    trained = artifacts(home, "train")
    told = manifest(trained["ability math en"])["corpora"]
    assert [corpus["ability"] for corpus in told] == ["math", None]
    assert [corpus["licence"] for corpus in told] == ["mit", "cc-by-4.0"]
    assert all(corpus["read"]["documents"] > 0 for corpus in told)
    assert str(tmp_path) not in json.dumps(told)
    (merged,) = artifacts(home, "mergekit").values()
    behind = manifest(merged)["corpora"]
    assert [(c["language"], c["licence"]) for c in behind] == [
        *(("en", "mit"), ("en", "cc-by-4.0"), ("es", "cc0-1.0"))
    ]
    assert same_as_trained_directly(trained["language es"], base, tmp_path)

    # without its cache the base is fetched anew, of the same commit though the branch has moved
    shutil.rmtree(tmp_path / "hf")
    hub.add("org/llama", save_model(tmp_path / "newer", "llama", 9))
    hub.repos["org/llama"][commit] = base
    more = yaml.safe_load(path.read_text())
    more["methods"].append({"name": "tv", "label": "half", "scale": 0.5})
    path.write_text(yaml.safe_dump(more))
    ran(harness("run", path, home=home, hub=hub))
    assert manifest(fetched)["commit"] == commit
    assert same_bits(read_torch(fetched), read_torch(base))
    asked = len(hub.asked)
    told = json.loads(ran(harness("plan", path, "--json", home=home, hub=hub)))
    assert told["missing"] == {"steps": 0, "cells": 0} and len(hub.asked) == asked
    assert set(told["price"]["total"]["download"].values()) == {0}


def same_as_trained_directly(artifact: Path, base: Path, folder: Path) -> bool:
    """Whether maec trains the same on the files' documents, shuffled by datasets itself."""
    from datasets import load_dataset

    from maec.settings import TrainSettings
    from maec.train import train

    files = [str(folder / "text" / f"es-{number}.jsonl") for number in (0, 1)]
    rows = load_dataset("json", data_files=files, split="train", streaming=True)
    drawn = rows.shuffle(seed=0, buffer_size=10_000)
    documents = (row["text"] for row in islice(drawn, 60))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker: two sum in another order on some processors
    try:
        train(base, documents, folder / "direct", TrainSettings(**TRAINING))
    finally:
        torch.set_num_threads(threads)
    return same_bits(read_torch(artifact), read_torch(folder / "direct"))


METHODS = [
    *("base", "f-cpt-a"),
    {"name": "f-cpt-l", "scope": "language"},
    *("tv", "ties", "linear"),
    *({"name": name, "scope": "language"} for name in ("slerp", "layer-swap")),
    {"name": "maec", "k1": 0.3, "alpha": 1.0, "gamma": 0.5, "k2": 0.5},
    {"name": "maec-no-mask", "gamma": 1.0, "k2": 1.0, "alpha": 1.0, "beta": 0.0},
]


@pytest.mark.slow
def test_published_checkpoints_are_merged_and_scored_and_nothing_is_trained(
    tmp_path: Path, home: Path, hub: Hub
) -> None:
    served, family = tmp_path / "served", "qwen2"  # other families, in folders: test_matrices
    base = save_model(served / "base", family, 0)
    trained = enumerate(("es", "math", "english"), start=1)
    models = {name: save_model(served / name, family, seed, base) for seed, name in trained}
    adapter = save_adapter(served / "te", base, 4)
    for name, folder in {"base": base, "te": adapter, **models}.items():
        hub.add(f"org/{name}", folder)

    def named(name: str) -> str:
        return f"org/{name}"

    path = matrix_file(
        tmp_path,
        base=named("base"),
        languages=["es", "te"],
        methods=METHODS,
        checkpoints={
            "languages": {"es": named("es"), "te": named("te")},
            "abilities": {"math": {"model": named("math"), "pivot": named("english")}},
        },
    )
    ran(harness("run", path, home=home, hub=hub))
    assert not (home / "artifacts" / "train").exists()
    assert hub.asked
    rows = json.loads(ran(harness("table", path, "--json", home=home, hub=hub)))
    assert len(rows) == len(METHODS) * 3 and all(row["score"] is not None for row in rows)

    origin, spanish, math = (read(folder) for folder in (base, models["es"], models["math"]))
    (telugu,) = (read(p) for label, p in artifacts(home, "fetch").items() if "te" in label)
    expected = {
        name: value + (spanish[name] - value) + (telugu[name] - value) + (math[name] - value)
        for name, value in origin.items()
    }
    merged = read(artifacts(home, "mergekit")["task arithmetic math"])
    # with every parameter a key neuron and every tensor selected MAEC is task arithmetic
    combined = read(the_one(home, "combine", "combine math", k2=1.0))
    for name, value in expected.items():
        np.testing.assert_allclose(merged[name], value, atol=2e-6)
        np.testing.assert_allclose(combined[name], value, atol=2e-6)


def the_one(home: Path, kind: str, label: str, **settings: object) -> Path:
    """The one artifact with that label and these settings."""
    told = {f.parent: manifest(f.parent) for f in home.glob(f"artifacts/{kind}/*/manifest.json")}
    (found,) = (
        folder
        for folder, made in told.items()
        if made["label"] == label and settings.items() <= made["settings"].items()
    )
    return found

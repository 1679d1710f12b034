"""A store of made-up answers, of any size, with texts in it that must stay text."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from harness import store

PLANTED = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "$x^2$ and $$y$$",
    "**b** _i_ `c` ~~s~~",
    "# heading",
    "[link](javascript:alert(1))",
    ":red[colour] :smile: :material/home:",
    "שלום, מה שלומך?",
    "if admin \u202e \u2066# no\u2069 \u2066:",
    "كم تفاحة لديه؟",
    "లూయిస్ దగ్గర ఎన్ని?",
    "আনার কাছে কয়টি?",
    "路易斯有几个苹果？",
)
"""Outputs in turn: what a page could take for markup, and scripts that it has to render."""

RESPONSES = {"base": 0.2, "f-cpt-a": 0.5, "tv": 0.6, "maec": 0.7, "maec-no-mask": 0.55}
"""Chance of a right answer by method."""

FAMILIES = {
    "base": ("Base model", "reference"),
    "f-cpt-a": ("Full CPT, ability", "training-based"),
    "tv": ("Task arithmetic", "merging"),
    "maec": ("MAEC", "maec"),
    "maec-no-mask": ("MAEC, every parameter a key neuron", "ablation"),
}


@dataclass(frozen=True)
class Size:
    """How much of everything; the number of items is the product."""

    methods: Sequence[str] = tuple(RESPONSES)
    abilities: Sequence[str] = ("math", "science")
    languages: Sequence[str] = ("en", "es", "zh", "bn", "te")
    seeds: Sequence[int] = (0, 1)
    items: int = 24


def fill(
    size: Size | None = None,
    missing: Sequence[tuple[str, str, str, int]] = (),
    variants: Sequence[str] = ("",),
    keys: str = "",
) -> None:
    """Write a store to MAEC_HOME and its snapshot; cells in ``missing`` are placed, not scored.

    All variants have the same scores; keys of cells start with ``keys``.
    """
    size = size or Size()
    places = [
        (method, ability, language, seed)
        for method in size.methods
        for ability in size.abilities
        for language in size.languages
        for seed in size.seeds
    ]
    with store.writer() as writer:
        writer.begin_run(_run(size))
        for method in size.methods:
            for ability in size.abilities:
                _artifacts(writer, method, ability)
        rows = []
        for place in places:
            key = None if place in missing else keys + "-".join(map(str, place))
            rows += [{**_placement(place, key), "variant": variant} for variant in variants]
            if key:
                score(writer, place, key, size.items)
        writer.place("synthetic", rows)
        _sweep(writer)
        writer.finish_run("run-1", "done", datetime.now(UTC), {"kind": "vllm"})
        writer.snapshot(now=True)


def _run(size: Size) -> dict[str, Any]:
    methods = [{"name": name, "label": name} for name in size.methods]
    return {
        "run_id": "run-1",
        "matrix": "synthetic",
        "matrix_file": {
            "name": "synthetic", "base": "embedded", "pivot": "en", "split": "test",
            "methods": methods,
        },
        "started": datetime.now(UTC),
        "commit": "0" * 40,
        "dirty": False,
        "versions": {"python": "3.11"},
        "hardware": {"processor": "a processor", "cores": 2, "memory": 2**32, "gpus": []},
    }  # fmt: skip


def _placement(place: tuple[str, str, str, int], key: str | None) -> dict[str, Any]:
    method, ability, language, seed = place
    title, family = FAMILIES.get(method, (f"Method {method}", "merging"))
    return {
        "variant": "", "method": method, "title": title, "family": family, "ability": ability,
        "asked": ability, "language": language, "seed": seed,
        "model_key": f"{method}-{ability}", "model_path": f"/models/{method}", "cell": key,
    }  # fmt: skip


def score(writer: store.Writer, place: tuple[str, str, str, int], key: str, count: int) -> None:
    """Commit the cell of a method, ability, language and seed under ``key``."""
    method, ability, language, _ = place
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    right = rng.random(count) < RESPONSES.get(method, 0.4)
    numbers = np.arange(count)
    items = pd.DataFrame(
        {
            "cell": key,
            "item": numbers,
            "id": [f"{ability}-{number:05d}" for number in numbers],
            "words": np.where(numbers % 2, "known", "new"),
            "prompt": [f"Q {n} {PLANTED[n % len(PLANTED)]}" for n in numbers],
            "output": [PLANTED[n % len(PLANTED)] for n in numbers],
            "extracted": [str(n) for n in numbers],
            "gold": [str(n) for n in numbers],
            "correct": right,
            "choices": None,
            "loglikelihoods": None,
            "filtered": None,
        }
    )
    cell = {
        "key": key, "model_key": f"{method}-{ability}", "fingerprint": f"f-{method}-{ability}",
        "task": f"{ability}_{language}", "task_version": "1.0", "task_data": "d",
        "task_path": "/tasks", "metric": "exact_match", "filter": "none",
        "score": float(right.mean()),
        "stderr": float(right.std(ddof=1) / count**0.5), "n": count, "metrics": {},
        "engine": {"kind": "vllm", "dtype": "float32"}, "seconds": 1.0, "run_id": "run-1",
        "created": datetime.now(UTC),
    }  # fmt: skip
    writer.commit_cell(cell, items)


def _artifacts(writer: store.Writer, method: str, ability: str) -> None:
    if method == "base":
        return
    key = f"{method}-{ability}"
    trained = method == "f-cpt-a"
    manifest = {
        "key": key, "kind": "train" if trained else "combine", "label": f"{method} {ability}",
        "settings": {"k1": 0.4}, "seconds": 5.0, "bytes": 5_000_000, "fingerprint": f"f-{key}",
        "inputs": {"base": f"base-{ability}"} if trained else {"a": f"f-cpt-a-{ability}"},
        "corpora": [{"language": code, "ability": None} for code in ("en", "es")],
    }  # fmt: skip
    if trained:
        manifest |= {"tokens": 4096, "parameters": 1_000_000}
    if method.startswith("maec"):
        manifest["moved"] = [
            {
                "ability": ability, "layer": layer, "module": module, "parameters": 1000,
                "key_neurons": 100 * (1 + (layer or 0)), "similarity": 0.1 * index - 0.2,
                "selected": index % 2 == 0,
            }
            for layer in (None, 0, 1)
            for index, module in enumerate(("q_proj", "k_proj", "up_proj"))
        ]  # fmt: skip
    writer.record_artifact(
        {
            "key": key, "kind": manifest["kind"], "label": manifest["label"],
            "fingerprint": manifest["fingerprint"], "path": "/artifacts", "manifest": manifest,
            "created": datetime.now(UTC),
        }
    )  # fmt: skip


def _sweep(writer: store.Writer) -> None:
    now = datetime.now(UTC)
    sweep = {
        "key": "sweep-1", "matrix": "synthetic", "method": "maec", "ability": "math", "seed": 0,
        "space": {"gamma": [0.5, 1.0]}, "start": {"gamma": 1.0}, "languages": ["es"], "items": 4,
        "sampler": "random", "versions": {}, "commit": None, "created": now,
    }  # fmt: skip
    writer.begin_sweep(sweep, ["q1", "q2"], "test")
    for number, correct in enumerate(([True, False, False, True], [True, True, True, False])):
        writer.record_trial(
            {
                "sweep": "sweep-1", "number": number,
                "parameters": json.dumps({"gamma": 1.0 - number / 2}),
                "score": sum(correct) / 4, "by_language": json.dumps({"es": sum(correct) / 4}),
                "correct": correct, "seconds": 1.0, "training_seconds": 0.0, "created": now,
            }
        )  # fmt: skip

"""The matrices for real models: priced as they are, and run end to end as twins of tiny size.

A twin differs from its matrix in ids, which name folders of tiny models and data sets in a hub's
format, and in sizes. The three twins are models of three families.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CHECKOUT, environment
from tests.harness import hub_data
from tests.harness.hub_world import lines, save_adapter, save_model

MATRICES = CHECKOUT / "harness" / "matrices"
FAMILIES = {
    "qwen2.5-0.5b": "qwen2",
    "llama3-8b-offtheshelf": "llama",
    "paper-llama3-8b": "gemma3_text",
}
LANGUAGES = ("en", "zh", "te")
"""Of a twin: the pivot, a language with a model of its own and one with an adapter."""
SIZES = {"steps": 1, "batch_size": 4, "sequence_length": 32}


def harness(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *map(str, arguments)],
        cwd=CHECKOUT,
        env=environment(home) | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "hf")},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_matrix_is_priced_in_full_before_anything_is_fetched(name: str, home: Path) -> None:
    done = harness("plan", MATRICES / f"{name}.yaml", "--json", home=home)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["missing"]["cells"] == len(found["cells"]) > 0
    for figure, value in found["price"]["total"].items():
        if figure != "count":
            assert value["known"] > 0 and value["unknown"] == 0, figure
    assert not home.exists()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_id_of_a_matrix_that_is_not_pinned_is_explained(name: str) -> None:
    text = (MATRICES / f"{name}.yaml").read_text(encoding="utf-8")
    for line in text.splitlines():
        words = line.split("#")[0].split()
        ids = [word for word in words if word.count("/") == 1 and "{" not in word]
        assert all("@" in found or name == "llama3-8b-offtheshelf" for found in ids), line


def text_set(folder: Path, names: list[str], rows: list[dict[str, str]]) -> Path:
    """One file of JSON lines in every configuration: of shuffled Parquet, datasets waits for 5 s
    at the end of a stream."""
    lines(folder / "rows.jsonl", rows)
    configs = [
        {"config_name": name, "data_files": [{"split": "train", "path": "rows.jsonl"}]}
        for name in names
    ]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    return folder


def questions(folder: Path) -> dict[str, Path]:
    """Data sets in the shape of those that lm-eval's tasks name, by family."""
    numbers = [
        {
            **{"question": f"{n} + {n} = ?", "answer": None},
            **{"answer_number": 2 * n, "equation_solution": None},
        }
        for n in range(3)
    ]
    mgsm = {"train": hub_data.mgsm_examples(), "test": numbers}
    arc = {split: hub_data.m_arc(split, 6) for split in ("train", "validation", "test")}
    arc_en = {split: hub_data.ai2_arc(split, 6) for split in ("train", "validation", "test")}
    mmlu = {"train": hub_data.m_mmlu("train", 6), "test": hub_data.m_mmlu("test", 3)}
    subjects = {"dev": hub_data.global_mmlu("dev", 5), "test": hub_data.global_mmlu("test", 1)}
    sets = {
        "mgsm_native_cot": dict.fromkeys(LANGUAGES, mgsm),
        "arc": {**dict.fromkeys(LANGUAGES, arc), "ARC-Challenge": arc_en},
        "m_mmlu": dict.fromkeys(LANGUAGES, mmlu),
        "global_mmlu_full_{language}_stem": dict.fromkeys(LANGUAGES, subjects),
    }
    return {
        family: hub_data.dataset(folder / f"set-{number}", configs)
        for number, (family, configs) in enumerate(sets.items())
    }


def small(training: Mapping[str, Any]) -> dict[str, Any]:
    sizes = SIZES | ({"lora_rank": 2} if "lora_rank" in training else {})
    return {**training, **sizes}


def twin(name: str, folder: Path) -> dict[str, Any]:
    """The matrix with ids of what is made here, and small sizes."""
    matrix = yaml.safe_load((MATRICES / f"{name}.yaml").read_text(encoding="utf-8"))
    # the bases of the matrices are stored in bfloat16
    stored = {"positions": 2048, "dtype": "bfloat16"}
    base = save_model(folder / "base", FAMILIES[name], 0, **stored)
    matrix["base"] = str(base)
    del matrix["parameters"], matrix["config"]
    matrix["languages"] = list(LANGUAGES[1:])
    if "corpora" in matrix:
        texts = [{"text": f"{n} manzanas y {n} libros."} for n in range(40)]
        names = [f"20231101.{language}" for language in LANGUAGES]
        matrix["corpora"]["general"]["*"]["dataset"] = str(text_set(folder / "wiki", names, texts))
        sums = [
            {
                **{"text": f"{n} + 1 = {n + 1}", "query": f"{n} + 1?", "response": str(n + 1)},
                **{"support": "ice melts", "question": f"{n}?", "correct_answer": "water"},
            }
            for n in range(40)
        ]
        for ability, source in matrix["corpora"]["ability"].items():
            source["dataset"] = str(text_set(folder / ability, ["default"], sums))
        matrix["tokens"] = dict.fromkeys(matrix["tokens"], 600)
        matrix["training"] = {role: small(given) for role, given in matrix["training"].items()}
    if "checkpoints" in matrix:
        own = matrix["checkpoints"]
        own["languages"] = {code: own["languages"][code] for code in LANGUAGES[1:]}
        for seed, language in enumerate(own["languages"], start=1):
            made = folder / language
            if language == "te":
                save_adapter(made, base, seed)
            else:
                save_model(made, FAMILIES[name], seed, base, **stored)
            own["languages"][language] = str(made)
        for seed, ability in enumerate(own["abilities"], start=11):
            made = save_model(folder / ability, FAMILIES[name], seed, base, **stored)
            own["abilities"][ability] = str(made)
    sets = questions(folder)
    for task in matrix["tasks"].values():
        task |= {"dataset": str(sets[task["like"]])}
    matrix["tasks"]["math"]["max_gen_toks"] = 8
    matrix["items"] = 3
    matrix["engine"] |= {"max_model_len": 2048}
    return matrix


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_twin_of_tiny_size_runs_end_to_end(name: str, tmp_path: Path, home: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(twin(name, tmp_path), sort_keys=False), encoding="utf-8")
    done = harness("run", path, home=home)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    rows = json.loads(harness("table", path, "--json", home=home).stdout)
    planned = json.loads(harness("plan", MATRICES / f"{name}.yaml", "--json", home=home).stdout)
    keys = ("method", "ability", "language", "seed")
    assert [[row[key] for key in keys] for row in rows] == [
        [cell[key] for key in keys] for cell in planned["cells"] if cell["language"] in LANGUAGES
    ]
    assert all(row["score"] is not None and row["n"] == 3 for row in rows)
    trained = (home / "artifacts" / "train").is_dir()
    assert trained == (name != "llama3-8b-offtheshelf")

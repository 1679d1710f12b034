"""Tiny data sets in the hub's format: folders with README.md and Parquet, for ``datasets``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

Doc = dict[str, Any]

STEM = [
    *("abstract_algebra", "anatomy", "astronomy", "college_biology", "college_chemistry"),
    *("college_computer_science", "college_mathematics", "college_physics", "computer_security"),
    *("conceptual_physics", "electrical_engineering", "elementary_mathematics"),
    *("high_school_biology", "high_school_chemistry", "high_school_computer_science"),
    *("high_school_mathematics", "high_school_physics", "high_school_statistics"),
    "machine_learning",
]
"""The subjects of global_mmlu_full_*_stem."""


def dataset(folder: Path, configs: Mapping[str, Mapping[str, Sequence[Doc]]]) -> Path:
    """Write documents by configuration and split as a data set of the hub; returns its folder."""
    described = []
    for name, splits in configs.items():
        for split, docs in splits.items():
            place = folder / name / f"{split}.parquet"
            place.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(docs).to_parquet(place)
        files = [{"split": split, "path": f"{name}/{split}.parquet"} for split in splits]
        described.append({"config_name": name, "data_files": files})
    header = yaml.safe_dump({"configs": described}, allow_unicode=True, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{header}---\n", encoding="utf-8")
    return folder


def m_arc(split: str, count: int) -> list[Doc]:
    """As alexandrainst/m_arc has them: four or five options, marks that lm-eval removes."""
    return [
        {
            "id": f"{split}/{n}",
            "instruction": f" {split} {n}: ఏది  పెద్దది [x] [title] సరే?",
            "option_a": f"{n} పాలు",
            "option_b": f"{n + 1} [title] నీళ్లు",
            "option_c": "గాలి",
            "option_d": "రాయి",
            "option_e": "మట్టి" if n % 3 == 0 else None,
            "answer": "ABCD"[n % 4],
        }
        for n in range(count)
    ]


def ai2_arc(split: str, count: int) -> list[Doc]:
    """As allenai/ai2_arc has them."""
    return [
        {
            "id": f"{split}-{n}",
            "question": f"Which of {split} {n} is largest?",
            "choices": {"text": [f"{n} ants", "two dogs", "air"], "label": ["A", "B", "C"]},
            "answerKey": "ABC"[n % 3],
        }
        for n in range(count)
    ]


def m_mmlu(split: str, count: int) -> list[Doc]:
    """As alexandrainst/m_mmlu has them."""
    return [
        {
            "instruction": f" {split} {n}, ఏది సరైనది? ",
            **{f"option_{letter}": f"{letter}{n}" for letter in "abcd"},
            "answer": "DCBA"[n % 4],
            "id": f"{split}/{n}",
        }
        for n in range(count)
    ]


def global_mmlu(split: str, each: int) -> list[Doc]:
    """As CohereForAI/Global-MMLU has them, all STEM subjects and one other, mixed."""
    return [
        {
            "sample_id": f"{subject}/{split}/{n}",
            "subject": subject,
            "question": f" {subject} {n}: 2020-01-0{n + 1}?",
            **{f"option_{letter}": f"2020-01-0{n + 1}" for letter in "abcd"},
            "answer": "ABCD"[(n + len(subject)) % 4],
        }
        for n in range(each + (split == "test"))
        for subject in [*STEM, "sociology"]
        if n < each or subject == "anatomy"  # subjects differ in size
    ]


def mgsm_examples(count: int = 8) -> list[Doc]:
    """As the training split of juletxara/mgsm: questions and answers with their lead-in."""
    return [
        {
            "question": f"Question: {n} and {n} apples are how many?",
            "answer": f"Step-by-Step Answer: {n} + {n} = {2 * n}. The answer is {2 * n}.",
            "answer_number": 2 * n,
            "equation_solution": f"{n} + {n} = {2 * n}",
        }
        for n in range(1, count + 1)
    ]

"""The documents of a task's folder, for lm-eval (``!function data.load``).

A task's folder holds a copy of this file. lm-eval's own way to read JSON lines guesses types anew:
texts that look like dates become dates, and all splits must have the same columns.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def load(files: Mapping[str, str], **_: Any) -> Any:
    """A ``datasets.DatasetDict`` of the JSON lines beside this file, whose names are ``files``."""
    from datasets import Dataset, DatasetDict

    folder = Path(__file__).parent
    splits = {}
    for split, name in files.items():
        with (folder / name).open(encoding="utf-8") as lines:
            docs = [json.loads(line) for line in lines]
        fields = dict.fromkeys(field for doc in docs for field in doc)
        splits[split] = Dataset.from_dict({f: [doc.get(f) for doc in docs] for f in fields})
    return DatasetDict(splits)

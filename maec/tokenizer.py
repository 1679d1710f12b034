"""What two tokenizers have in common: which ids a text becomes, compared without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maec.errors import InputError
from maec.reading import read_json

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
)
"""The files, in a checkpoint's folder, that make up its tokenizer."""


def difference(base: Path, other: Path) -> str:
    """The first difference between the tokenizers in two folders, or "".

    Fast tokenizers are compared by their tokens and merges, so that the same tokenizer saved by
    different versions of the library passes; others by their bytes.  A folder without a tokenizer
    has nothing to compare.
    """
    files = [path / "tokenizer.json" for path in (base, other)]
    if all(file.is_file() for file in files):
        ours, theirs = (_read(file) for file in files)
        for key in ours:
            if ours[key] != theirs[key]:
                return _first_difference(key, ours[key], theirs[key])
        return ""
    files = [path / "tokenizer.model" for path in (base, other)]
    if all(file.is_file() for file in files) and len({file.read_bytes() for file in files}) > 1:
        return "tokenizer.model has other bytes"
    return ""


def token_ids(folder: Path) -> dict[int, str]:
    """Every id of the fast tokenizer in ``folder`` with its token; InputError if there is none."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InputError(
            f"{file}: not there, so nothing says which rows are which tokens; "
            f"save the fast tokenizer beside the weights"
        )
    tokens = _read(file)
    return {
        number: token for token, number in (tokens["vocabulary"] | tokens["added tokens"]).items()
    }


def require_extension(smaller: Path, larger: Path) -> None:
    """Raise InputError unless the tokenizer in ``larger`` is that in ``smaller`` with more tokens.

    Every id must still be the same token, and every merge must still be there.
    """
    ours, theirs = token_ids(smaller), token_ids(larger)
    changed = next((i for i in sorted(ours) if ours[i] != theirs.get(i)), None)
    problem = ""
    if changed is not None:
        problem = f"id {changed} is {theirs.get(changed)!r}, not {ours[changed]!r}"
    else:
        before, after = (_read(path / "tokenizer.json") for path in (smaller, larger))
        if before["model type"] != after["model type"]:
            problem = f"it is of type {after['model type']['type']!r}"
        elif lost := _merges(before) - _merges(after):
            problem = f"the merge {min(lost)!r} is gone"
    if problem:
        raise InputError(
            f"{larger}: its tokenizer does not extend that of {smaller}: {problem}; "
            f"give models whose new tokens follow the base's"
        )


def _merges(tokens: dict[str, Any]) -> set[str]:
    return {" ".join(merge) for merge in tokens["merges"].values()}


def _read(file: Path) -> dict[str, Any]:
    try:
        return _tokens(read_json(file))
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: no tokenizer as the tokenizers library writes it ({error!r}); fetch it again"
        ) from None


def _tokens(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """What decides which ids a text becomes: type, vocabulary, merges, added tokens."""
    model = tokenizer.get("model") or {}
    vocabulary = model.get("vocab") or {}
    if isinstance(vocabulary, list):  # Unigram: [piece, score] in id order
        vocabulary = {json.dumps(piece): number for number, piece in enumerate(vocabulary)}
    # older versions of the library write a merge as "a b", newer ones as ["a", "b"]
    merges = [m.split(" ") if isinstance(m, str) else m for m in model.get("merges") or []]
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or []}
    return {
        "model type": {"type": model.get("type")},
        "vocabulary": vocabulary,
        "merges": dict(enumerate(merges)),
        "added tokens": added,
    }


def _first_difference(key: str, ours: dict[Any, Any], theirs: dict[Any, Any]) -> str:
    name = next(n for n in sorted(ours.keys() | theirs.keys()) if ours.get(n) != theirs.get(n))
    return f"{key}: {name!r} is {theirs.get(name)!r}, not {ours.get(name)!r}"

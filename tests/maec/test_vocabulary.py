"""Models with more tokens than their base, against numpy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, AutoTokenizer

from maec.errors import InputError
from maec.extract import extract
from maec.merge import merge, merged_tensors
from maec.recipe import load_recipe
from maec.tokenizer import require_extension

from . import numpy_reference
from .checkpoints import (
    WORDS,
    llama,
    read,
    read_torch,
    same_bits,
    trained,
    write,
    write_recipe,
    write_tokenizer,
)
from .numpy_reference import Ability, Tensors

EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
NEW = tuple(f"new{i}" for i in range(6))


def with_rows(rng: np.random.Generator, tensors: Tensors, rows: int) -> Tensors:
    """The model with so many rows in its embeddings: cut, or with random ones at the end."""

    def resized(value: np.ndarray) -> np.ndarray:
        more = rng.normal(0, 0.3, (max(rows - len(value), 0), value.shape[1]))
        return np.concatenate([value, more.astype(np.float32)])[:rows]

    return {n: resized(v) if n in EMBEDDINGS else v for n, v in tensors.items()}


@dataclass(frozen=True)
class Model:
    """How many tokens a model's tokenizer adds to the base's 32, and how many rows it has."""

    new: int
    rows: int
    mu: float = 1.0


def save(folder: Path, tensors: Tensors, new: int = 0, **how: object) -> Path:
    return write(folder, tensors, words=(*WORDS, *NEW[:new]), **how)


def saved(
    folder: Path,
    rng: np.random.Generator,
    models: dict[str, Model],
    base_rows: int = 32,
    tied: bool = False,
) -> dict[str, object]:
    """A world on disk: `base`, an ability `math`, and languages; the recipe's keys."""
    origin = with_rows(rng, llama(rng, tied=tied), base_rows)
    save(folder / "base", origin)
    save(folder / "math", trained(rng, origin))
    for name, model in models.items():
        save(folder / name, with_rows(rng, trained(rng, origin), model.rows), model.new)
    return {
        "base": folder / "base",
        "languages": [{"model": folder / name, "mu": m.mu} for name, m in models.items()],
        "abilities": [{"model": folder / "math", "k1": 0.3, "gamma": 0.5, "k2": 1.0}],
        "vocabulary": "pad",
        "dtype": "float32",
    }


def merged(folder: Path, keys: dict[str, object], out: str = "out") -> Path:
    merge(load_recipe(write_recipe(folder / f"{out}.yaml", **keys)), folder / out)
    return folder / out


def in_base_s_shape(base: Tensors, model: Tensors, common: int) -> Tensors:
    """A model's tensors with the base's rows after the common ones."""
    return {
        n: np.concatenate([v[:common], base[n][common:]]) if n in EMBEDDINGS else v
        for n, v in model.items()
    }


def expected(folder: Path, models: dict[str, Model], rows: int) -> numpy_reference.Merged:
    """What `pad` is documented to give, with `rows` rows in the result."""
    base, math = read(folder / "base"), read(folder / "math")
    parts = {name: read(folder / name) for name in models}
    extended = any(m.new for m in models.values())

    def common(model: Model) -> int:
        return 32 if model.new else min(model.rows, len(base[EMBEDDINGS[0]]))

    languages = [
        (in_base_s_shape(base, parts[name], common(m)), m.mu) for name, m in models.items()
    ]
    result = numpy_reference.merge(base, languages, [Ability(math, k1=0.3, gamma=0.5, k2=1.0)])
    if not extended:
        return result
    largest = max(models, key=lambda name: models[name].new)
    for name in (n for n in EMBEDDINGS if n in base):
        value, slack = result.values[name], result.tolerance[name]
        table = parts[largest][name].astype(np.float64)
        kept = min(len(value), rows)
        table[:kept] = value[:kept]
        slacks = np.zeros_like(table)
        slacks[:kept] = slack[:kept]
        for token in range(32, 32 + models[largest].new):
            having = [
                (parts[n][name][token], m.mu) for n, m in models.items() if 32 + m.new > token
            ]
            total = sum(mu for _, mu in having)
            table[token] = sum(mu / total * row.astype(np.float64) for row, mu in having)
            size = sum(np.abs(mu / total * row) for row, mu in having)
            slacks[token] = 0 if len(having) == 1 else 2**-22 * size
        result.values[name], result.tolerance[name] = table, slacks
    return result


CASES = {
    "one": ({"es": Model(3, 35)}, 32, 35),
    "one-weighted": ({"es": Model(3, 35, 0.4)}, 32, 35),
    "with-one-that-has-none": ({"es": Model(3, 35), "zh": Model(0, 32, 0.5)}, 32, 35),
    "two": ({"es": Model(2, 34, 0.5), "zh": Model(5, 37, 1.5)}, 32, 37),
    "two-with-the-same": ({"es": Model(4, 36, 0.5), "zh": Model(4, 36, 0.25)}, 32, 36),
    "padded-language": ({"es": Model(3, 64)}, 32, 64),
    "padded-base": ({"es": Model(3, 40)}, 40, 40),
    "padded-base-cut": ({"es": Model(3, 35)}, 40, 35),
    "padded-both": ({"es": Model(3, 48), "zh": Model(6, 64, 0.5)}, 40, 64),
    "padding-alone": ({"es": Model(0, 64)}, 32, 32),
    "base-s-padding-cut": ({"es": Model(0, 32)}, 40, 40),
}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize(("models", "base_rows", "rows"), CASES.values(), ids=CASES.keys())
def test_a_padded_merge_is_what_is_documented(
    tmp_path: Path,
    rng: np.random.Generator,
    models: dict[str, Model],
    base_rows: int,
    rows: int,
    tied: bool,
) -> None:
    keys = saved(tmp_path, rng, models, base_rows, tied)
    out = merged(tmp_path, keys)
    by_hand = expected(tmp_path, models, rows)
    assert numpy_reference.differences(read(out), by_hand, "float32") == []
    assert len(read(out)[EMBEDDINGS[0]]) == rows
    assert json.loads((out / "config.json").read_text())["vocab_size"] == rows
    largest = max((m.new, name) for name, m in {"base": Model(0, 0), **models}.items())[1]
    words = json.loads((out / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(words) == 32 + max(model.new for model in models.values())
    if len(words) > 32:
        assert (out / "tokenizer.json").read_bytes() == (
            tmp_path / largest / "tokenizer.json"
        ).read_bytes()
        report = json.loads((out / "maec.json").read_text())
        assert report["vocabulary"]["rows"] == rows
    streamed = merged_tensors(load_recipe(write_recipe(tmp_path / "r.yaml", **keys)))
    assert same_bits(dict(streamed), read_torch(out))


def test_a_padded_model_loads_and_knows_the_new_tokens(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    out = merged(tmp_path, saved(tmp_path, rng, {"es": Model(3, 64)}) | {"dtype": "bfloat16"})
    tokenizer = AutoTokenizer.from_pretrained(out)
    prompt = tokenizer("w5 new0 new2", return_tensors="pt")
    assert prompt["input_ids"].tolist() == [[8, 32, 34]]
    model = AutoModelForCausalLM.from_pretrained(out)
    es = AutoModelForCausalLM.from_pretrained(tmp_path / "es", dtype=torch.bfloat16)
    rows = [m.get_input_embeddings().weight for m in (model, es)]
    assert rows[0][32:].equal(rows[1][32:]) and not rows[0][:32].equal(rows[1][:32])
    with torch.no_grad():
        assert model(**prompt).logits.shape == (1, 3, 64)


def test_lambda_and_similarity_leave_new_rows_alone(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    keys = saved(tmp_path, rng, {"es": Model(3, 35, 0.4)})
    one = read(merged(tmp_path, keys | {"lambda_": 0.3}))
    for name in EMBEDDINGS:
        assert (one[name][32:] == read(tmp_path / "es")[name][32:]).all()


def test_without_more_tokens_pad_changes_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    keys = saved(tmp_path, rng, {"es": Model(0, 32)})
    padded, plain = (merged(tmp_path, keys | {"vocabulary": v}, v) for v in ("pad", "refuse"))
    names = {file.name for file in padded.iterdir()}
    assert names == {file.name for file in plain.iterdir()}
    for name in names - {"maec.json", "README.md"}:
        assert (padded / name).read_bytes() == (plain / name).read_bytes()


def test_an_ability_model_s_new_tokens_are_left_out(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Chat tokens, say, or rows by which a library rounded up."""
    keys = saved(tmp_path, rng, {"es": Model(2, 34)})
    plain = merged(tmp_path, keys, "plain")
    wider = with_rows(rng, read(tmp_path / "math"), 48)
    save(tmp_path / "chat", wider, 0)
    write_tokenizer(tmp_path / "chat", (*WORDS, "<chat>", "<end>"))
    ability = {"model": tmp_path / "chat", "k1": 0.3, "gamma": 0.5, "k2": 1.0}
    out = merged(tmp_path, keys | {"abilities": [ability]})
    assert same_bits(read_torch(out), read_torch(plain))
    extract(tmp_path / "base", tmp_path / "chat", tmp_path / "p1", beta=0, k1=0.3, vocabulary="pad")
    extract(tmp_path / "base", tmp_path / "math", tmp_path / "p2", beta=0, k1=0.3)
    assert same_bits(read_torch(tmp_path / "p1"), read_torch(tmp_path / "p2"))
    of_pack = keys | {"abilities": [{"pack": tmp_path / "p1", "gamma": 0.5, "k2": 1.0}]}
    assert (
        numpy_reference.differences(
            read(merged(tmp_path, of_pack, "of-pack")),
            expected(tmp_path, {"es": Model(2, 34)}, 34),
            "float32",
        )
        == []
    )


# refused: one line, nothing written


def refused(folder: Path, keys: dict[str, object], *words: str) -> None:
    before = sorted(folder.rglob("*"))
    recipe = load_recipe(write_recipe(folder / "out.yaml", **keys))
    with pytest.raises(InputError) as error:
        merge(recipe, folder / "out")
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert sorted(folder.rglob("*")) == sorted({*before, folder / "out.yaml"})


def test_by_default_more_tokens_are_refused_with_advice(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    rows = saved(tmp_path / "rows", rng, {"es": Model(3, 35)})
    del rows["vocabulary"]
    refused(tmp_path / "rows", rows, "lm_head.weight", "35", "vocabulary: pad")
    tokens = saved(tmp_path / "tokens", rng, {"es": Model(3, 40)}, base_rows=40)
    refused(tmp_path / "tokens", tokens | {"vocabulary": "refuse"}, "new0", "vocabulary: pad")


def test_languages_that_disagree_about_a_token_are_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    keys = saved(tmp_path, rng, {"es": Model(3, 35), "zh": Model(4, 36)})
    write_tokenizer(tmp_path / "zh", (*WORDS, "new0", "other", "new2", "new3"))
    refused(tmp_path, keys, str(tmp_path / "es"), str(tmp_path / "zh"), "33", "other", "new1")


def test_a_model_that_renamed_a_token_of_the_base_is_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    keys = saved(tmp_path, rng, {"es": Model(3, 35)})
    write_tokenizer(tmp_path / "es", (*WORDS[:9], "other", *WORDS[10:], *NEW[:3]))
    refused(tmp_path, keys, str(tmp_path / "es"), WORDS[9], "other")


def bpe(folder: Path, merges: list[tuple[str, str]], added: tuple[str, ...] = ()) -> Path:
    """A BPE tokenizer of these merges, made and saved by the tokenizers library."""
    pieces = ["a", "b", "c", *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.add_tokens(list(added))
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_a_tokenizer_extends_another_by_tokens_or_merges(tmp_path: Path) -> None:
    base = bpe(tmp_path / "base", [("a", "b")])
    for name, merges, added in (
        ("same", [("a", "b")], ()),
        ("added", [("a", "b")], ("cab", "xyz")),
        ("merged", [("a", "b"), ("ab", "c")], ()),
    ):
        require_extension(base, bpe(tmp_path / name, merges, added))
    for name, merges, named in (
        ("other", [("b", "c")], "id 3"),
        ("swapped", [("b", "c"), ("a", "b")], "id 3"),
    ):
        with pytest.raises(InputError, match=named) as error:
            require_extension(base, bpe(tmp_path / name, merges))
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="merge 'a b' is gone"):  # the token stays, as an added one
        require_extension(base, bpe(tmp_path / "unmerged", [], ("ab",)))


def test_a_model_with_fewer_tokens_than_the_base_is_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    keys = saved(tmp_path, rng, {"es": Model(0, 30)})
    refused(tmp_path, keys, str(tmp_path / "es"), "30", "32")
    write_tokenizer(tmp_path / "es", WORDS[:30])
    refused(tmp_path, keys, str(tmp_path / "es"), WORDS[30])


def test_rows_that_no_tokenizer_explains_are_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    keys = saved(tmp_path, rng, {"es": Model(3, 35)})
    (tmp_path / "es" / "tokenizer.json").unlink()
    refused(tmp_path, keys, str(tmp_path / "es"), "tokenizer.json")


@pytest.mark.parametrize("mu", [0, -0.5])
def test_new_rows_need_a_weight(tmp_path: Path, rng: np.random.Generator, mu: float) -> None:
    refused(tmp_path, saved(tmp_path, rng, {"es": Model(3, 35, mu)}), str(tmp_path / "es"), "mu")


def test_another_width_is_still_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    keys = saved(tmp_path, rng, {"es": Model(0, 32)})
    tensors = read(tmp_path / "es")
    wide = np.zeros((35, 17), np.float32)
    write(tmp_path / "wide", tensors | {EMBEDDINGS[0]: wide}, words=(*WORDS, *NEW[:3]))
    refused(tmp_path, keys | {"languages": [{"model": tmp_path / "wide"}]}, "17")

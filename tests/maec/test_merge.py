"""`maec merge` against METHOD.md in numpy, and what must hold of every merge."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maec import result
from maec.errors import InputError
from maec.extract import extract
from maec.merge import merge, merged_tensors
from maec.neurons import write_mask
from maec.pack import open_pack
from maec.recipe import load_recipe

from . import checkpoints, numpy_reference
from .checkpoints import llama, read, read_torch, same_bits, trained, write, write_recipe
from .numpy_reference import Ability, Tensors

GRID = 2.0**-6  # a grid that bfloat16 holds exactly, and on which changes tie by the hundred
FROZEN = ("model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight")
NUMBERS = ("k1", "alpha", "beta", "gamma", "k2")


def save_merge(folder: Path, out: str = "out", **keys: object) -> Path:
    """Merge by a recipe file with these keys; the path of the result."""
    recipe = write_recipe(folder / f"{out}.yaml", **keys)
    merge(load_recipe(recipe), folder / out)
    return folder / out


def entry(ability: Ability, model: Path, pivot: Path | None) -> dict[str, object]:
    """The recipe's entry for an ability of the reference."""
    paths = {"model": model} | ({"pivot": pivot} if pivot else {})
    return paths | {key: getattr(ability, key) for key in NUMBERS}


# equal to numpy


@dataclass(frozen=True)
class Case:
    """A random world: how its checkpoints look, and what the recipe asks for."""

    dtype: str = "float32"
    out_dtype: str = "float32"
    shards: int = 1
    tied: bool = False
    grid: float | None = None
    frozen: tuple[str, ...] = ()
    similarity: str = "signed"
    granularity: str = "parameter"
    languages: int = 2
    lam: float = 1.0
    packs: bool = False


CASES = {
    "float32": Case(),
    "sharded": Case(shards=3),
    "bfloat16": Case(dtype="bfloat16", out_dtype="bfloat16"),
    "bfloat16-sharded-tied": Case("bfloat16", "bfloat16", shards=2, tied=True),
    "bfloat16-to-float32": Case("bfloat16", "float32"),
    "float32-to-bfloat16": Case("float32", "bfloat16"),
    "float16": Case("float16", "float16"),
    "tied": Case(tied=True),
    "ties": Case(grid=GRID),
    "ties-bfloat16-rows": Case("bfloat16", "bfloat16", grid=GRID, granularity="row"),
    "frozen": Case(frozen=FROZEN),
    "frozen-ties-absolute": Case(frozen=FROZEN, grid=GRID, similarity="absolute"),
    "rows": Case(granularity="row"),
    "rows-sharded-frozen": Case(granularity="row", shards=4, frozen=FROZEN),
    "absolute": Case(similarity="absolute"),
    "one-language": Case(languages=1, lam=0.7),
    "three-languages": Case(languages=3, lam=1.3, shards=2),
    "no-language": Case(languages=0),
    "no-language-ties": Case(languages=0, grid=GRID, frozen=FROZEN),
    "packs": Case(packs=True),
    "packs-bfloat16-rows": Case("bfloat16", "bfloat16", granularity="row", packs=True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_merge_is_what_numpy_computes(tmp_path: Path, case: Case) -> None:
    rng = np.random.default_rng(sorted(map(repr, CASES.values())).index(repr(case)))
    origin = llama(rng, tied=case.tied, grid=case.grid)

    def checkpoint(name: str, tensors: Tensors, shards: int) -> Path:
        return write(tmp_path / name, tensors, dtype=case.dtype, shards=shards)

    def moved(name: str, **how: object) -> Path:
        # shards differ between the checkpoints of one recipe, as they do in life
        after = trained(rng, origin, grid=case.grid, frozen=case.frozen, **how)
        return checkpoint(name, after, case.shards and 1 + (case.shards - 1) * len(name) % 4)

    base = checkpoint("base", origin, case.shards)
    mus = (1.0, 0.6, -0.3)[: case.languages]
    languages = [(moved(f"language{i}"), mu) for i, mu in enumerate(mus)]
    math, pivot, science = moved("math"), moved("en"), moved("science", change=0.02)
    abilities = [
        Ability(read(math), read(pivot), k1=0.1, alpha=0.8, beta=0.2, gamma=0.5, k2=0.8),
        Ability(read(science), None, k1=0.3, alpha=0.9, beta=0.0, gamma=0.2, k2=0.4),
    ]
    entries = [entry(abilities[0], math, pivot), entry(abilities[1], science, None)]
    if case.packs:
        how = {key: entries[0][key] for key in ("k1", "alpha", "beta")}
        extract(base, math, tmp_path / "pack", pivot=pivot, granularity=case.granularity, **how)
        entries[0] = {"pack": tmp_path / "pack", "gamma": 0.5, "k2": 0.8}

    out = save_merge(
        tmp_path,
        base=base,
        languages=[{"model": path, "mu": mu} for path, mu in languages],
        abilities=entries,
        lambda_=case.lam,
        similarity=case.similarity,
        granularity=case.granularity,
        dtype=case.out_dtype,
    )

    expected = numpy_reference.merge(
        read(base),
        [(read(path), mu) for path, mu in languages],
        abilities,
        lam=case.lam,
        similarity=case.similarity,
        granularity=case.granularity,
    )
    assert {t.dtype for t in read_torch(out).values()} == {checkpoints.DTYPES[case.out_dtype]}
    assert numpy_reference.differences(read(out), expected, case.out_dtype) == []
    record = json.loads((out / "maec.json").read_text())
    told = {part["path"]: part["tensors"] for part in record["abilities"]}
    for i, part in enumerate(entries):
        tensors = told[str(part.get("pack") or part["model"])]
        assert {n for n, entry in tensors.items() if entry["selected"]} == expected.selected[i]
        for name, entry_ in tensors.items():
            assert entry_["key_neurons"] == expected.masks[i][name].sum()
            assert entry_["similarity"] == pytest.approx(expected.similarities[i][name], abs=1e-5)


# properties


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.random.Generator, Tensors, dict[str, object]]:
    """A seed, the base it gives, and how its trainings go."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grid = draw(st.sampled_from([None, GRID]))
    frozen = draw(st.sets(st.sampled_from(FROZEN)))
    base = llama(rng, tied=draw(st.booleans()), grid=grid)
    return rng, base, {"grid": grid, "frozen": frozen}


World = tuple[np.random.Generator, Tensors, dict[str, object]]
FEW = settings(max_examples=10)


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A new empty folder for every example that hypothesis tries."""
    return lambda: tmp_path_factory.mktemp("world")


def streamed(folder: Path, **keys: object) -> dict[str, torch.Tensor]:
    """The result of a recipe as it goes into an engine, without a disk."""
    return dict(merged_tensors(load_recipe(write_recipe(folder / "recipe.yaml", **keys))))


@FEW
@given(worlds(), st.sampled_from([0.05, 0.5, 1.0]), st.sampled_from([0.3, 1.0]))
def test_with_gamma_zero_the_merge_is_the_language_merge(
    fresh: Callable[[], Path], world: World, k1: float, k2: float
) -> None:
    rng, origin, how = world
    folder = fresh()
    base = write(folder / "base", origin)
    language = write(folder / "es", trained(rng, origin, **how))
    ability = write(folder / "math", trained(rng, origin, **how))
    common = {"base": base, "languages": [{"model": language, "mu": 0.5}], "dtype": "float32"}
    none = {"model": ability, "k1": k1, "beta": 0, "gamma": 0, "k2": k2}
    with_gamma_zero = streamed(folder, abilities=[none], **common)
    assert same_bits(with_gamma_zero, streamed(folder, **common))
    expected = numpy_reference.merge(read(base), [(read(language), 0.5)], [])
    result = {name: tensor.numpy() for name, tensor in with_gamma_zero.items()}
    assert numpy_reference.differences(result, expected, "float32") == []


@FEW
@given(worlds(), st.sampled_from(["parameter", "row"]), st.sampled_from(["signed", "absolute"]))
def test_with_all_shares_one_and_no_language_the_merge_is_the_ability_model(
    fresh: Callable[[], Path], world: World, granularity: str, similarity: str
) -> None:
    rng, origin, how = world
    folder = fresh()
    ability = trained(rng, origin, **how)
    all_of_it = {"alpha": 1, "beta": 0, "k1": 1, "k2": 1, "gamma": 1}
    result = streamed(
        folder,
        base=write(folder / "base", origin),
        abilities=[{"model": write(folder / "math", ability)} | all_of_it],
        granularity=granularity,
        similarity=similarity,
        dtype="float32",
    )
    for name, value in ability.items():
        # base + (ability − base): two float32 roundings, none at all on the grid
        slack = 0 if how["grid"] else 2**-23 * np.maximum(abs(value), abs(origin[name]))
        assert (np.abs(result[name].numpy() - value) <= slack).all(), name


@FEW
@given(worlds(), st.permutations(range(3)), st.permutations(range(2)), st.integers(1, 4))
def test_the_result_does_not_depend_on_sharding_or_the_order_of_entries(
    fresh: Callable[[], Path],
    world: World,
    language_order: list[int],
    ability_order: list[int],
    shards: int,
) -> None:
    rng, origin, how = world
    folder = fresh()
    models = {name: trained(rng, origin, **how) for name in ("es", "zh", "te", "math", "science")}
    models["base"] = origin
    whole, cut = folder / "whole", folder / "cut"
    for name, tensors in models.items():
        write(whole / name, tensors)
        turned = dict(reversed(tensors.items()))
        write(cut / name, turned, shards=shards)

    def recipe(root: Path, languages: list[int], abilities: list[int]) -> dict[str, object]:
        language = [
            {"model": root / n, "mu": mu} for n, mu in zip(("es", "zh", "te"), MUS, strict=True)
        ]
        ability = [
            {"model": root / "math", "beta": 0, "k1": 0.2, "gamma": 0.3, "k2": 0.6},
            {"model": root / "science", "beta": 0, "k1": 0.4, "gamma": 0.7, "k2": 0.9},
        ]
        return {
            "base": root / "base",
            "languages": [language[i] for i in languages],
            "abilities": [ability[i] for i in abilities],
            "dtype": "float32",
        }

    first = streamed(folder, **recipe(whole, [0, 1, 2], [0, 1]))
    assert same_bits(first, streamed(folder, **recipe(cut, language_order, ability_order)))


MUS = (1.0, 0.37, -0.61)


@pytest.mark.parametrize("granularity", ["parameter", "row"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pack_gives_the_same_bits_as_its_checkpoints(
    tmp_path: Path, rng: np.random.Generator, dtype: str, granularity: str
) -> None:
    origin = llama(rng)
    base, es, math, en = (
        write(tmp_path / name, tensors, dtype=dtype)
        for name, tensors in (
            ("base", origin),
            ("es", trained(rng, origin)),
            ("math", trained(rng, origin)),
            ("en", trained(rng, origin)),
        )
    )
    how = {"k1": 0.15, "alpha": 0.7, "beta": 0.35}
    extract(base, math, tmp_path / "pack", pivot=en, granularity=granularity, **how)
    common = {
        "base": base,
        "languages": [{"model": es}],
        "granularity": granularity,
        "dtype": "float32",
    }
    last = {"gamma": 0.3, "k2": 0.7}
    with_pack = streamed(tmp_path, abilities=[{"pack": tmp_path / "pack"} | last], **common)
    with_models = streamed(
        tmp_path, abilities=[{"model": math, "pivot": en} | how | last], **common
    )
    assert same_bits(with_pack, with_models)
    # a mask that was located elsewhere takes the place of k1
    settled = {"mask": tmp_path / "mask", "alpha": 0.7, "beta": 0.35}
    pack = open_pack(tmp_path / "pack")
    settled["mask"].mkdir()
    write_mask(settled["mask"], {name: pack.mask(name) for name in pack.names}, {})
    with_mask = streamed(
        tmp_path, abilities=[{"model": math, "pivot": en} | settled | last], **common
    )
    assert same_bits(with_pack, with_mask)
    assert not same_bits(with_pack, streamed(tmp_path, **common))


def test_the_stream_is_what_is_written(tmp_path: Path, rng: np.random.Generator) -> None:
    origin = llama(rng)
    keys = {
        "base": write(tmp_path / "base", origin),
        "languages": [{"model": write(tmp_path / "es", trained(rng, origin))}],
        "abilities": [{"model": write(tmp_path / "math", trained(rng, origin)), "beta": 0}],
        "dtype": "bfloat16",
    }
    out = save_merge(tmp_path, **keys)
    assert same_bits(streamed(tmp_path, **keys), read_torch(out))


def test_the_same_merge_twice_gives_the_same_files(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    origin = llama(rng)
    keys = {
        "base": write(tmp_path / "base", origin),
        "languages": [{"model": write(tmp_path / "es", trained(rng, origin))}],
        "abilities": [{"model": write(tmp_path / "math", trained(rng, origin)), "beta": 0}],
        "dtype": "float32",
    }
    one, two = (save_merge(tmp_path, out, **keys) for out in ("one", "two"))
    files = sorted(file.name for file in one.iterdir())
    assert files == sorted(file.name for file in two.iterdir())
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


# the result


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_model_loads_in_transformers_and_generates(
    tmp_path: Path, rng: np.random.Generator, tied: bool, dtype: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    origin = llama(rng, tied=tied)
    base = write(tmp_path / "base", origin, dtype=dtype)
    out = save_merge(
        tmp_path,
        base=base,
        languages=[{"model": write(tmp_path / "es", trained(rng, origin), dtype=dtype)}],
        abilities=[{"model": write(tmp_path / "a", trained(rng, origin)), "beta": 0, "k1": 0.5}],
        dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == checkpoints.DTYPES[dtype]
    loaded = model.state_dict()
    stored = read_torch(out)
    assert stored.keys() == read_torch(base).keys()
    assert all(loaded[name].equal(value) for name, value in stored.items())
    assert not loaded["lm_head.weight"].equal(torch.tensor(origin["model.embed_tokens.weight"]))
    tokenizer = AutoTokenizer.from_pretrained(out)
    prompt = tokenizer("w5 w7", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert answer.shape == (1, 6)
    assert all(word in checkpoints.WORDS for word in tokenizer.decode(answer[0]).split())


def test_a_merged_model_says_how_it_was_made(tmp_path: Path, rng: np.random.Generator) -> None:
    from maec.checkpoint import fingerprint, open_checkpoint

    origin = llama(rng)
    base, es, math, en = (
        write(tmp_path / n, trained(rng, origin)) for n in ("base", "es", "math", "en")
    )
    out = save_merge(
        tmp_path,
        base=base,
        languages=[{"model": es, "mu": 0.9}],
        abilities=[{"model": math, "pivot": en, "k1": 0.25, "k2": 0.6}],
        dtype="float32",
    )
    text = (out / "maec.json").read_text()
    for path in (base, es, math, en):
        assert str(path.resolve()) in text
        assert fingerprint(open_checkpoint(path)) in text
    card = (out / "README.md").read_text()
    assert card.startswith("---\n") and card.count("\n---\n") >= 1
    import yaml

    front = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(front, dict)
    assert "base_model" not in front  # which are ids on a hub, and these models are folders here
    for word in ("base", "es", "math", "0.25", "0.6", "0.9"):
        assert word in card


# bad input: one line, before any work, and nothing left behind


@dataclass
class Ready:
    """A recipe that works, to be broken in one way."""

    folder: Path
    keys: dict[str, object]

    def path(self, name: str) -> Path:
        return self.folder / "models" / name

    def refused(self, *words: str, out: str = "out", once_read: bool = False) -> str:
        """The one line with which the merge is refused; every word is in it.

        Nothing is written before, and nothing read but headers, unless it is found ``once_read``.
        """
        recipe = write_recipe(self.folder / "recipe.yaml", **self.keys)
        before = tree(self.folder)
        with pytest.MonkeyPatch.context() as patch:
            for step in () if once_read else ("locate", "laid_out"):
                patch.setattr(f"maec.merge.{step}", work_began)
            with pytest.raises(InputError) as error:
                merge(load_recipe(recipe), self.folder / out)
        assert tree(self.folder) == before
        message = str(error.value)
        assert message.strip() and "\n" not in message
        for word in words:
            assert word in message, f"{word!r} not in {message!r}"
        return message


def work_began(*_: object, **__: object) -> None:
    pytest.fail("the work began before the mistake was found")


def tree(folder: Path) -> dict[str, int]:
    """Everything below a folder, and when it changed last."""
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def ready(tmp_path: Path, rng: np.random.Generator) -> Ready:
    origin = llama(rng)
    models = tmp_path / "models"
    write(models / "base", origin, shards=2)
    for name in ("es", "math", "en"):
        write(models / name, trained(rng, origin), shards=2)
    extract(models / "base", models / "math", models / "pack", beta=0)
    keys = {
        "base": models / "base",
        "languages": [{"model": models / "es"}],
        "abilities": [
            {"model": models / "math", "pivot": models / "en"},
            {"pack": models / "pack"},
        ],
        "dtype": "float32",
    }
    return Ready(tmp_path, keys)


PARTS = ("base", "es", "math", "en")


def replace(path: Path, tensors: Tensors, **how: object) -> None:
    shutil.rmtree(path)
    write(path, tensors, **how)


def test_the_recipe_to_be_broken_works(ready: Ready) -> None:
    save_merge(ready.folder, **ready.keys)


@pytest.mark.parametrize("part", [*PARTS, "pack"])
def test_a_part_that_is_missing_is_named(ready: Ready, part: str) -> None:
    ready.path(part).rename(ready.path("moved-away"))
    ready.refused(str(ready.path(part)))


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_pickles_only_is_refused(ready: Ready, part: str) -> None:
    path = ready.path(part)
    for file in path.glob("*.safetensors*"):
        file.unlink()
    torch.save({}, path / "pytorch_model.bin")
    ready.refused(str(path), "safetensors")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_another_shape_is_refused(ready: Ready, part: str) -> None:
    tensors = read(ready.path(part))
    name = "model.layers.0.self_attn.q_proj.weight"
    replace(ready.path(part), tensors | {name: np.zeros((16, 17), np.float32)})
    ready.refused(name, "16", "17")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_with_another_tokenizer_is_refused(ready: Ready, part: str) -> None:
    words = (*checkpoints.WORDS[:-1], "other")
    replace(ready.path(part), read(ready.path(part)), words=words)
    ready.refused("tokenizer")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_part_with_a_nan_is_refused(ready: Ready, part: str, value: float) -> None:
    tensors = read(ready.path(part))
    tensors["model.layers.1.input_layernorm.weight"][7] = value
    replace(ready.path(part), tensors)
    ready.refused(str(ready.path(part)), "model.layers.1.input_layernorm.weight", once_read=True)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_cut_short_is_refused(ready: Ready, part: str) -> None:
    file = ready.path(part) / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    ready.refused(str(ready.path(part)), file.name)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_whose_index_names_a_missing_shard_is_refused(ready: Ready, part: str) -> None:
    (ready.path(part) / "model-00001-of-00002.safetensors").unlink()
    ready.refused(str(ready.path(part)), "model-00001-of-00002.safetensors")


def test_a_pack_of_another_base_is_refused(ready: Ready, rng: np.random.Generator) -> None:
    """R(A) is a difference from one base: added to another it means nothing."""
    other = ready.path("other")
    write(other, trained(rng, read(ready.path("base"))))
    shutil.rmtree(ready.path("pack"))
    extract(other, ready.path("math"), ready.path("pack"), beta=0)
    ready.refused(str(ready.path("pack")), "base", once_read=True)


def test_a_pack_of_other_shapes_is_refused_by_the_first_that_differs(ready: Ready) -> None:
    name = "model.norm.weight"
    for part in ("base", "math"):
        tensors = read(ready.path(part))
        write(ready.path(f"wide-{part}"), tensors | {name: np.ones(17, np.float32)})
    shutil.rmtree(ready.path("pack"))
    extract(ready.path("wide-base"), ready.path("wide-math"), ready.path("pack"), beta=0)
    ready.refused(str(ready.path("pack")), name, "16", "17")


def test_a_pack_with_a_nan_is_refused(ready: Ready) -> None:
    from safetensors.torch import load_file, save_file

    (file,) = (f for f in ready.path("pack").glob("*.safetensors") if floats_in(f))
    tensors = load_file(file)
    name = next(n for n, t in sorted(tensors.items()) if t.is_floating_point() and t.numel())
    tensors[name][0] = torch.nan
    save_file(tensors, file, metadata_of(file))
    ready.refused(str(ready.path("pack")), once_read=True)


def floats_in(file: Path) -> bool:
    from safetensors.torch import load_file

    return any(t.is_floating_point() and t.numel() for t in load_file(file).values())


def metadata_of(file: Path) -> dict[str, str] | None:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return opened.metadata()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_lies_at_the_output_is_left_alone(ready: Ready, kind: str) -> None:
    out = ready.folder / "out"
    if kind == "folder":
        out.mkdir()
    (out / "mine.txt" if kind == "folder" else out).write_text("mine")
    ready.refused(str(out))


def test_a_disk_without_room_is_refused_before_work(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    need = sum(value.size for value in read(ready.path("base")).values()) * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - need + 1, need - 1))
    ready.refused("space")
    ample = need + 10**6
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - ample, ample))
    save_merge(ready.folder, **ready.keys)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_merge_that_dies_in_the_stream_leaves_no_folder(
    ready: Ready, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    whole = result.merged
    recipe = load_recipe(write_recipe(ready.folder / "recipe.yaml", **ready.keys))

    pieces = itertools.count()

    def dying(*args: object) -> object:
        if next(pieces) >= 3:  # threads go on for a moment
            raise failure
        return whole(*args)

    monkeypatch.setattr("maec.result.merged", dying)
    before = tree(ready.folder)
    with pytest.raises(failure):
        merge(recipe, ready.folder / "out")
    assert tree(ready.folder) == before
    monkeypatch.undo()
    merge(recipe, ready.folder / "out")
    assert (ready.folder / "out" / "model.safetensors").exists()

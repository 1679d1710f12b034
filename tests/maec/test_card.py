"""The cards of packs and merged models, as the hub's own library reads them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from maec.card import CITATION, model_card
from maec.checkpoint import fingerprint, open_checkpoint
from maec.extract import extract
from maec.merge import merge
from maec.recipe import load_recipe

from . import numpy_reference as reference
from .checkpoints import llama, read, trained, write, write_recipe
from .hub_server import Hub, serve

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def world(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder with a base, two languages, an ability and a pivot."""
    origin = llama(rng)
    write(tmp_path / "base", origin)
    for name in ("es", "zh", "math", "en"):
        write(tmp_path / name, trained(rng, origin))
    return tmp_path


@pytest.fixture
def hub(world: Path) -> Iterator[Hub]:
    """The same models on a hub."""
    served = Hub()
    for name in ("base", "es", "zh", "math", "en"):
        served.add(f"org/{name}", world / name)
    with serve(served):
        yield served


def made(world: Path, out: str, **keys: object) -> Path:
    keys = {"base": "base", "dtype": "float32"} | keys
    merge(load_recipe(write_recipe(world / f"{out}.yaml", **keys)), world / out)
    return world / out


def pack(world: Path, out: str, **how: object) -> Path:
    return extract(world / "base", world / "math", world / out, pivot=world / "en", **how)


def read_by_the_hub(folder: Path) -> ModelCardData:
    """The metadata of the card in the folder, which have to be what was written."""
    card = ModelCard.load(folder / "README.md")
    assert isinstance(card.data, ModelCardData)
    front = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert card.data.to_dict() == front
    return card.data


def snippet(folder: Path, language: str) -> str:
    (found,) = re.findall(
        rf"```{language}\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    return found


def test_a_pack_says_what_it_is(world: Path) -> None:
    folder = pack(world, "math-pack", k1=0.07, alpha=0.7, beta=0.3, granularity="row")
    data = read_by_the_hub(folder)
    assert (data.library_name, data.tags) == ("maec", ["maec", "ability-pack"])
    assert data.base_model is None
    base, math = read(world / "base"), read(world / "math")
    mask = reference.key_neurons(reference.value_change(base, math), 0.07, "row")
    kept = sum(int(marks.sum()) for marks in mask.values())
    total = sum(marks.size for marks in mask.values())
    own = (folder / "pack.safetensors").stat().st_size
    whole = sum(value.nbytes for value in base.values())
    text = (folder / "README.md").read_text(encoding="utf-8")
    for fact in (
        "# math-pack",
        "| k1 | 0.07 |",
        "| granularity | row |",
        "| α = 0.7 |",
        "| β = 0.3, subtracted |",
        "R(A) = α·(ability − base) − β·(pivot − base), ",
        f"{kept:,} of {total:,} parameters ({kept / total:.2%})",
        f"({own:,} bytes), {own / whole:.2%} of the base's",
        f"({whole:,} bytes)",
        fingerprint(open_checkpoint(world / "base"))[:16],
    ):
        assert fact in text, fact
    assert str(world) not in text


def test_the_recipe_in_the_card_of_a_pack_merges(world: Path) -> None:
    folder = pack(world, "math-pack")
    shutil.copytree(world / "es", world / "my-language-model")
    (world / "shown.yaml").write_text(snippet(folder, "yaml"), encoding="utf-8")
    merge(load_recipe(world / "shown.yaml"), world / "out")
    expected = made(
        world,
        "expected",
        languages=[{"model": "es"}],
        abilities=[{"model": "math", "pivot": "en"}],
        dtype="bfloat16",
    )
    assert (world / "out/model.safetensors").read_bytes() == (
        expected / "model.safetensors"
    ).read_bytes()


def test_the_same_extraction_gives_the_same_card(world: Path) -> None:
    one, two = (pack(world, f"{name}/math-pack") for name in ("a", "b"))
    assert (one / "README.md").read_bytes() == (two / "README.md").read_bytes()
    assert sorted(file.name for file in one.iterdir()) == [
        *("README.md", "pack.json", "pack.safetensors")
    ]


def test_a_pack_of_a_given_mask_leaves_out_what_the_mask_does_not_say(world: Path) -> None:
    from maec.neurons import write_mask
    from maec.pack import open_pack

    first = open_pack(pack(world, "first"))
    (world / "mask").mkdir()
    write_mask(world / "mask", {name: first.mask(name) for name in first.names}, {"kind": "mask"})
    folder = extract(world / "base", world / "math", world / "p", mask=world / "mask", beta=0)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "None" not in text and "| k1 |" not in text and "pivot" not in text


def test_a_merged_model_says_its_languages_once_each_in_the_order_of_its_parts(
    world: Path,
) -> None:
    languages = [{"model": "es", "language": "es"}, {"model": "zh", "language": "zh-Hant"}]
    data = read_by_the_hub(made(world, "out", languages=languages))
    assert data.language == ["es", "zh-Hant"]
    assert data.base_model is None and "base_model_relation" not in data.to_dict()
    twice = [{"model": name, "language": "es"} for name in ("es", "zh")]
    assert read_by_the_hub(made(world, "twice", languages=twice)).language == ["es"]
    none = read_by_the_hub(made(world, "none", languages=[{"model": "es"}]))
    assert none.language is None
    assert (none.library_name, none.tags) == ("transformers", ["merge", "maec"])


def test_a_language_code_changes_no_weight(world: Path) -> None:
    parts = [{"model": "es", "mu": 0.3}, {"model": "zh", "mu": 0.7}]
    plain = made(world, "plain", languages=parts)
    coded = made(
        world, "coded", languages=[part | {"language": part["model"]} for part in reversed(parts)]
    )
    weights = "model.safetensors"
    assert (plain / weights).read_bytes() == (coded / weights).read_bytes()


def test_every_part_from_a_hub_is_a_base_model(
    world: Path, hub: Hub, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    recipe = write_recipe(
        world / "recipe.yaml",
        base="org/base",
        languages=[{"model": "org/es", "language": "es"}, {"model": "zh", "language": "zh"}],
        abilities=[{"model": "org/math", "pivot": "org/en"}],
    )
    for arguments in (
        ["merge", recipe, "merged"],
        ["extract", "org/base", "org/math", "math-pack"],
    ):
        done = python("-m", "maec.cli", *arguments)
        assert done.returncode == 0, done.stderr
    data = read_by_the_hub(world / "merged")
    assert data.base_model == ["org/base", "org/es", "org/math", "org/en"]
    assert data.to_dict()["base_model_relation"] == "merge"
    assert sorted(data.language) == ["es", "zh"]
    assert read_by_the_hub(world / "math-pack").base_model == ["org/base"]
    shown = yaml.safe_load(snippet(world / "math-pack", "yaml"))
    assert shown["base"] == f"org/base@{hub.commit('org/base', 'main')}"


def test_a_merge_made_before_there_were_languages_in_recipes_has_a_card(world: Path) -> None:
    report = json.loads((made(world, "out", languages=[{"model": "es"}]) / "maec.json").read_text())
    assert "language" not in report["recipe"]["languages"][0]
    assert model_card(report, "out").startswith("---\nlibrary_name: transformers\n")


def test_both_cards_cite_the_paper_as_citation_cff_does(world: Path) -> None:
    for folder in (pack(world, "math-pack"), made(world, "out", languages=[{"model": "es"}])):
        assert "## How to cite" in (folder / "README.md").read_text(encoding="utf-8")
        assert snippet(folder, "bibtex") == CITATION
    (paper,) = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", CITATION, re.MULTILINE))
    authors = [f"{name['family-names']}, {name['given-names']}" for name in paper["authors"]]
    assert fields == {
        "title": paper["title"],
        "author": " and ".join(authors),
        "booktitle": paper["collection-title"],
        "year": str(paper["year"]),
        "url": paper["url"],
        "eprint": paper["identifiers"][0]["value"].removeprefix("arXiv:"),
        "archivePrefix": "arXiv",
    }

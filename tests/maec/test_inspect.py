"""What `maec inspect` tells, against counting and numpy."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from maec.errors import InputError
from maec.extract import extract
from maec.inspect import summary, tables
from maec.merge import merge
from maec.neurons import write_mask
from maec.recipe import load_recipe

from . import numpy_reference as reference
from .checkpoints import llama, read, trained, write, write_recipe

Rows = list[dict[str, object]]
FROZEN = ["lm_head.weight", "model.layers.1.mlp.down_proj.weight"]


@pytest.fixture
def world(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder with a base, a language model and two ability models, one partly frozen."""
    origin = llama(rng)
    write(tmp_path / "base", origin)
    write(tmp_path / "es", trained(rng, origin))
    write(tmp_path / "math", trained(rng, origin, frozen=FROZEN))
    write(tmp_path / "science", trained(rng, origin, change=0.01))
    return tmp_path


def place(name: str) -> tuple[int | None, str]:
    """Layer and module of one of the tiny Llama's tensors, by its names alone."""
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    return (int(found[1]), found[2]) if found else (None, name.removesuffix(".weight"))


def check_counts(rows: Rows, mask: reference.Tensors) -> None:
    """One row a tensor, with the layer, module and counts that the mask has."""
    assert {row["tensor"] for row in rows} == mask.keys() and len(rows) == len(mask)
    for row in rows:
        marks = mask[row["tensor"]]
        assert (row["layer"], row["module"]) == place(row["tensor"])
        assert (row["parameters"], row["key_neurons"]) == (marks.size, marks.sum())
        assert row["share"] == pytest.approx(marks.mean())


def masks(
    world: Path, ability: str, k1: float, granularity: str = "parameter"
) -> reference.Tensors:
    change = reference.value_change(read(world / "base"), read(world / ability))
    return reference.key_neurons(change, k1, granularity)


def test_a_pack_s_rows_say_where_its_key_neurons_lie(world: Path) -> None:
    extract(world / "base", world / "math", world / "pack", beta=0, k1=0.1)
    rows = summary(world / "pack")
    check_counts(rows, masks(world, "math", 0.1))
    assert {row["key_neurons"] for row in rows if row["tensor"] in FROZEN} == {0}


def test_a_mask_s_rows_say_where_its_key_neurons_lie(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    mask = {name: rng.random(value.shape) < 0.3 for name, value in llama(rng).items()}
    write_mask(tmp_path, {n: torch.tensor(m) for n, m in mask.items()}, {"k1": 0.3})
    check_counts(summary(tmp_path), mask)


@pytest.mark.parametrize("granularity", ["parameter", "row"])
def test_a_merged_model_s_rows_say_what_was_similar_and_what_was_selected(
    world: Path, granularity: str
) -> None:
    recipe = write_recipe(
        world / "recipe.yaml",
        base="base",
        languages=[{"model": "es", "mu": 0.5}],
        abilities=[
            {"model": "science", "beta": 0, "k1": 0.3, "k2": 0.3},
            {"model": "math", "beta": 0, "k1": 0.1, "k2": 0.7},
        ],
        granularity=granularity,
        dtype="bfloat16",
    )
    merge(load_recipe(recipe), world / "out")
    expected = reference.merge(
        read(world / "base"),
        [(read(world / "es"), 0.5)],
        [
            reference.Ability(read(world / "science"), k1=0.3, k2=0.3),
            reference.Ability(read(world / "math"), k1=0.1, k2=0.7),
        ],
        granularity=granularity,
    )
    rows = summary(world / "out")
    assert {row["ability"] for row in rows} == {"science", "math"}
    for i, ability in enumerate(["science", "math"]):
        of_ability = [row for row in rows if row["ability"] == ability]
        check_counts(of_ability, expected.masks[i])
        for row in of_ability:
            name = row["tensor"]
            assert row["similarity"] == pytest.approx(expected.similarities[i][name], abs=1e-5)
            assert row["selected"] == (name in expected.selected[i])


def test_rows_come_in_the_order_of_layers(world: Path) -> None:
    extract(world / "base", world / "math", world / "pack", beta=0)
    layers = [row["layer"] for row in summary(world / "pack")]
    numbers = [-1 if layer is None else layer for layer in layers]
    assert numbers == sorted(numbers)


def test_the_table_shows_every_tensor_once(world: Path) -> None:
    extract(world / "base", world / "math", world / "pack", beta=0, k1=0.1)
    rows = summary(world / "pack")
    console = Console(width=200, file=io.StringIO())
    for table in tables(rows):
        console.print(table)
    text = console.file.getvalue()
    assert "math" in text
    for module in {row["module"] for row in rows}:
        lines = re.findall(rf"{re.escape(module)}\b", text)
        assert len(lines) == sum(row["module"] == module for row in rows)


@pytest.mark.parametrize("kind", ["missing", "checkpoint", "broken"])
def test_what_cannot_be_inspected_is_refused(world: Path, kind: str) -> None:
    path = world / {"missing": "nowhere", "checkpoint": "base", "broken": "pack"}[kind]
    if kind == "broken":
        path.mkdir()
        (path / "pack.json").write_text("{")
    with pytest.raises(InputError) as error:
        summary(path)
    assert path.name in str(error.value) and "\n" not in str(error.value)

"""Pushing to a model hub and pulling from it, against a stand-in of the hub on loopback."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from maec.extract import extract
from maec.merge import merge
from maec.neurons import write_mask
from maec.recipe import load_recipe

from .checkpoints import llama, read_torch, same_bits, trained, write, write_recipe
from .hub_server import TOKEN, Hub, serve

Maec = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub(tmp_path: Path, rng: np.random.Generator) -> Iterator[Hub]:
    """An empty hub that can be written to, and one repository of somebody else's model."""
    served = Hub(store=tmp_path / "hub")
    served.add("org/other", write(tmp_path / "other", llama(rng)))
    with serve(served):
        yield served


@pytest.fixture
def maec(python: Callable[..., subprocess.CompletedProcess[str]]) -> Maec:
    """maec(*arguments, **environment): the command in a new process, logged in to the hub."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return python("-m", "maec.cli", *arguments, **({"HF_TOKEN": TOKEN} | environment))

    return run


@pytest.fixture
def pack(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A pack of the ability `math` of `base`, with both beside it."""
    origin = llama(rng)
    for name in ("es", "math"):
        write(tmp_path / name, trained(rng, origin))
    write(tmp_path / "base", origin)
    return extract(tmp_path / "base", tmp_path / "math", tmp_path / "pack", k1=0.1, beta=0)


def merged(folder: Path, **keys: object) -> Path:
    """What a recipe of `base` and `es` makes, as the new folder `merged`."""
    keys = {"base": folder / "base", "languages": [{"model": folder / "es"}], **keys}
    merge(load_recipe(write_recipe(folder / "recipe.yaml", **keys)), folder / "merged")
    return folder / "merged"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, by its path in it."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The command ended with this code, and one line that holds these words."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("maec: ")]
    assert "Traceback" not in done.stderr, done.stderr
    assert all(word in line for word in words), line


def test_what_is_pulled_is_what_was_pushed_byte_for_byte(
    maec: Maec, hub: Hub, tmp_path: Path, pack: Path
) -> None:
    (tmp_path / "mask").mkdir()
    write_mask(tmp_path / "mask", {"a": torch.tensor([True, False, True])}, {"kind": "mask"})
    for folder in (pack, tmp_path / "mask", merged(tmp_path)):
        before = contents(folder)
        address = succeeded(maec("push", folder, f"org/{folder.name}"))
        assert hub.commit(f"org/{folder.name}", "main") in address
        succeeded(maec("pull", f"org/{folder.name}", tmp_path / "again" / folder.name))
        assert contents(tmp_path / "again" / folder.name) == before == contents(folder)
    asked = "\n".join(hub.asked)
    for endpoint in ("repos/create", "preupload/main", "objects/batch", "PUT /lfs", "commit/main"):
        assert endpoint in asked


def test_a_recipe_takes_a_pushed_pack_by_its_hub_id(
    maec: Maec, hub: Hub, tmp_path: Path, pack: Path
) -> None:
    succeeded(maec("push", pack, "org/pack"))
    keys = {"base": tmp_path / "base", "languages": [{"model": tmp_path / "es"}]}
    for name, source in (("of-folder", pack), ("of-hub", "org/pack")):
        recipe = write_recipe(tmp_path / f"{name}.yaml", **keys, abilities=[{"pack": source}])
        succeeded(maec("merge", recipe, tmp_path / name))
    assert same_bits(read_torch(tmp_path / "of-folder"), read_torch(tmp_path / "of-hub"))
    made = json.loads((tmp_path / "of-hub" / "maec.json").read_text())
    (ability,) = made["abilities"]
    assert (ability["hub"], ability["commit"]) == ("org/pack", hub.commit("org/pack", "main"))


def test_a_push_replaces_an_earlier_one_and_branches_are_kept_apart(
    maec: Maec, hub: Hub, tmp_path: Path, pack: Path
) -> None:
    (pack / "pack.safetensors").rename(pack / "pack-00001-of-00001.safetensors")
    names = {f"{name}.{part}": "pack-00001-of-00001.safetensors" for name, part in stored(pack)}
    (pack / "pack.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (pack / "notes.bin").write_bytes(b"a pickle")
    succeeded(maec("push", pack, "org/model", "--message", "in shards"))
    (pack / "notes.bin").unlink()
    in_shards = contents(pack)
    whole = merged(tmp_path)
    succeeded(maec("push", whole, "org/model", "--revision", "merged"))
    assert hub.messages == ["in shards", "maec push: merged"]
    for revision, expected in (("main", in_shards), ("merged", contents(whole))):
        succeeded(maec("pull", f"org/model@{revision}", tmp_path / "again" / revision))
        assert contents(tmp_path / "again" / revision) == expected
    # the same again changes nothing, and sends no weights
    sent = len([line for line in hub.asked if line.startswith("PUT")])
    succeeded(maec("push", whole, "org/model", "--revision", "merged"))
    assert len([line for line in hub.asked if line.startswith("PUT")]) == sent


def stored(pack: Path) -> Iterator[tuple[str, str]]:
    for name in json.loads((pack / "pack.json").read_text())["tensors"]:
        yield from ((name, part) for part in ("blocks", "gaps", "values"))


def test_a_private_pack_is_seen_by_its_owner_alone(
    maec: Maec, hub: Hub, tmp_path: Path, pack: Path
) -> None:
    succeeded(maec("push", pack, "org/mine", "--private"))
    assert hub.private == {"org/mine"}
    succeeded(maec("pull", "org/mine", tmp_path / "again"))
    refused(maec("pull", "org/mine", tmp_path / "b", HF_TOKEN=""), 2, "org/mine", "hf auth login")
    hub.private.clear()
    refused(maec("push", pack, "org/mine", "--private"), 2, "org/mine", "public")


def test_what_maec_did_not_make_is_not_pushed(
    maec: Maec, hub: Hub, tmp_path: Path, pack: Path
) -> None:
    refused(maec("push", tmp_path / "base", "org/base"), 2, "base", "maec.json")
    refused(maec("push", tmp_path / "gone", "org/gone"), 2, "gone", "no such folder")
    unfinished = pack.rename(tmp_path / ".partial-pack-0a1b2c3d")
    refused(maec("push", unfinished, "org/pack"), 2, "unfinished")
    pack = unfinished.rename(tmp_path / "pack")
    weights = (pack / "pack.safetensors").read_bytes()
    (pack / "pack.safetensors").write_bytes(weights[:-1])
    refused(maec("push", pack, "org/pack"), 2, "pack.safetensors")
    (pack / "pack.safetensors").write_bytes(weights)
    (pack / "pack.json").write_text("{}")
    refused(maec("push", pack, "org/pack"), 2, "pack.json")
    assert set(hub.repos) == {"org/other"} and hub.asked == []


def test_a_push_that_cannot_be_is_refused_in_one_line(
    maec: Maec, hub: Hub, tmp_path: Path, pack: Path
) -> None:
    refused(maec("push", pack, "pack"), 2, "pack", "org/name")
    refused(maec("push", pack, "org/pack@main"), 2, "--revision")
    refused(maec("push", pack, "org/a..b"), 2, "org/a..b")
    refused(maec("push", pack, "org/pack", HF_TOKEN=""), 2, "hf auth login")
    refused(maec("push", pack, "org/pack", HF_HUB_OFFLINE="1"), 2, "HF_HUB_OFFLINE")
    assert hub.asked == []
    refused(maec("push", pack, "org/pack", HF_TOKEN="hf_wrong"), 2, "401", "hf auth login")
    refused(maec("push", pack, "theirs/pack"), 2, "theirs/pack", "403", "hf auth login")
    before = contents(hub.repos["org/other"]["main"])
    refused(maec("push", pack, "org/other"), 2, "org/other", "config.json")
    assert contents(hub.repos["org/other"]["main"]) == before
    away = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    refused(maec("push", pack, "org/pack", **away), 1, "org/pack", "cannot be pushed")


@pytest.mark.parametrize("broken", ["lfs", "commit"])
def test_a_push_that_fails_underway_is_taken_up_by_the_next(
    maec: Maec, hub: Hub, tmp_path: Path, pack: Path, broken: str
) -> None:
    hub.broken.add(broken)
    refused(maec("push", pack, "org/pack"), 1, "org/pack", "cannot be pushed")
    refused(maec("pull", "org/pack", tmp_path / "again"), 2, "org/pack", "pack.json")
    hub.broken.clear()
    succeeded(maec("push", pack, "org/pack"))
    succeeded(maec("pull", "org/pack", tmp_path / "again"))
    assert contents(tmp_path / "again") == contents(pack)


def test_a_pull_that_cannot_be_leaves_nothing_behind(
    maec: Maec, hub: Hub, tmp_path: Path, pack: Path
) -> None:
    succeeded(maec("push", pack, "org/pack"))
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "out"
    asked = len(hub.asked)
    refused(maec("pull", "org/pack", kept), 2, "kept", "exists already")
    refused(maec("pull", "pack", out), 2, "pack", "org/name")
    refused(maec("pull", "org/pack", out, HF_HUB_OFFLINE="1"), 2, "HF_HUB_OFFLINE")
    assert len(hub.asked) == asked
    refused(maec("pull", "org/other", out), 2, "org/other", "pack.json")
    assert not [line for line in hub.asked[asked:] if "resolve" in line]
    refused(maec("pull", "org/nothing", out), 2, "org/nothing", "no such model")
    refused(maec("pull", "org/pack@nowhere", out), 2, "org/pack@nowhere", "revision")
    away = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    refused(maec("pull", "org/pack", out, **away), 1, "org/pack", "cannot be fetched")
    hub.withheld.add("pack.safetensors")
    refused(maec("pull", "org/pack", out), 2, "org/pack", "403")
    hub.withheld.clear()
    served = hub.repos["org/pack"]["main"]
    (served / "pack.safetensors").write_bytes((pack / "pack.safetensors").read_bytes()[:-9])
    refused(maec("pull", "org/pack", out), 2, "org/pack/pack.safetensors")
    (served / "pack.safetensors").write_bytes((pack / "pack.safetensors").read_bytes())
    (served / "pack.json").write_text("[]")
    refused(maec("pull", "org/pack", out), 2, "org/pack/pack.json")
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "hf"] == before


def test_pickles_and_other_formats_are_not_pulled(
    maec: Maec, hub: Hub, tmp_path: Path, pack: Path
) -> None:
    succeeded(maec("push", pack, "org/pack"))
    served = hub.repos["org/pack"]["main"]
    for name in ("pytorch_model.bin", "training_args.pt", "weights.pkl"):
        (served / name).write_bytes(b"a pickle")
    (served / "onnx").mkdir()
    (served / "onnx" / "model.safetensors").write_bytes(b"something else")
    succeeded(maec("pull", "org/pack", tmp_path / "again"))
    assert contents(tmp_path / "again") == contents(pack)

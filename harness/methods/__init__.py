"""Methods: one short file each, found by its name (``f-cpt-l`` is ``f_cpt_l.py``).

A method file has a docstring, ``INFO``, and a pure function ``build(parts, abilities, *, …)`` that
puts named parts together and returns the step whose artifact is evaluated. ``abilities`` is one
ability, or all of them where a matrix wants one model for everything. The keyword parameters of
``build``, with their types and defaults, are what a matrix file may set; ``SEARCH`` says where a
sweep looks for them.

Another package brings methods as entry points of the group ``maec.methods``: the method's name, and
the module that is its file.
"""

import importlib
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from harness.parts import Parts
from harness.steps import Step
from maec.errors import InputError, nearest
from maec.strict import as_declared, wrong

FOLDER = Path(__file__).parent

GROUP = "maec.methods"

Family = Literal["reference", "upper-reference", "training-based", "merging", "maec", "ablation"]


@dataclass(frozen=True)
class Info:
    """What the leaderboard says of a method.

    ``data`` names the corpora it uses in METHOD.md's symbols; ``translated`` marks a method that
    may read ability data in the target languages, which no other method can.
    """

    title: str
    family: Family
    data: str
    reference: str = ""
    translated: bool = False


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high`` that a sweep may try; ``log`` spreads them by factors."""

    low: float
    high: float
    log: bool = False


Rate = Annotated[float, Field(gt=0)]
"""A factor on the learning rate that the matrix gives for a role."""

RATE = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Factors on a role's learning rate that sweeps try; few, so that methods share trained models."""

Space = Mapping[str, Range | tuple]
"""Parameters that a sweep searches: a range each, or the values to choose from."""


@dataclass(frozen=True)
class Method:
    """A loaded method file; ``space`` holds those of its SEARCH that ``build`` has.

    ``package`` is name and version of the package that brings it; None for a file of this project.
    """

    name: str
    info: Info
    build: Callable[..., Step]
    space: Space
    package: tuple[str, str] | None = None

    def check_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with their declared types.

        Raises:
            InputError: a parameter that ``build`` does not have, or a value that does not fit it.
        """
        declared = _declared(self.build)
        checked = {}
        for name, value in parameters.items():
            if name not in declared:
                allowed = ", ".join(declared) or "none"
                raise InputError(
                    f"method '{self.name}' has no parameter '{name}'{nearest(name, declared)} "
                    f"(allowed: {allowed})"
                )
            try:
                checked[name] = as_declared(declared[name].annotation, value)
            except ValidationError as error:
                raise InputError(
                    f"{name} of method '{self.name}': found {value!r}; {wrong(error.errors()[0])}"
                ) from None
        return checked

    def model(self, parts: Parts, abilities: Sequence[str], parameters: Mapping[str, Any]) -> Step:
        """The step that makes this method's model of ``abilities``.

        Raises:
            InputError: a parameter is wrong, or another package's ``build`` fails.
            TypeError: ``abilities`` is one name, which would pass for a sequence of letters.
        """
        if isinstance(abilities, str):
            raise TypeError(f"abilities: a sequence of names is needed, found {abilities!r}")
        parts = replace(parts, method=f"method '{self.name}'")
        allowed = parts.with_translations() if self.info.translated else parts
        checked = self.check_parameters(parameters)
        try:
            return self.build(allowed, tuple(abilities), **checked)
        except Exception as error:
            if self.package is None or isinstance(error, InputError):
                raise
            raise _broken(self.name, self.package, error) from error


def _declared(build: Callable[..., Step]) -> dict[str, inspect.Parameter]:
    """What a matrix may set: the keyword parameters of ``build``."""
    return {
        name: parameter
        for name, parameter in inspect.signature(build).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def fixed(build: Callable[..., Step], **values: Any) -> Callable[..., Step]:
    """``build`` with some of its parameters settled: a matrix may set the others only.

    An ablation is the method that it ablates with one parameter fixed.
    """
    signature = inspect.signature(build)
    open_to_matrix = [p for name, p in signature.parameters.items() if name not in values]

    def ablated(parts: Parts, abilities: Sequence[str], **parameters: Any) -> Step:
        return build(parts, abilities, **values, **parameters)

    ablated.__signature__ = signature.replace(parameters=open_to_matrix)
    return ablated


def available() -> list[str]:
    """Names of all methods that have a file or an entry point, in alphabetical order."""
    return sorted({*_files(), *_entry_points()})


def load(name: str) -> Method:
    """The method of that name.

    Raises:
        InputError: there is no such method, two places have one, or it cannot be loaded.
    """
    own, found = _is_file(name), _entry_points().get(name, ())
    if not own and not found:
        raise InputError(
            f"unknown method '{name}'{nearest(name, available())} (known: "
            f"{', '.join(available())}; a new one is a file in harness/methods/, or an entry "
            f"point '{GROUP}' of a package)"
        )
    places = ["harness/methods/"] * own + [f"package '{e.dist.name}'" for e in found]
    if len(places) > 1:
        raise InputError(
            f"method '{name}' is there more than once, in {' and '.join(places)}; rename one, or "
            "remove a package"
        )
    package = (found[0].dist.name, found[0].dist.version) if found else None
    try:
        module = found[0].load() if found else importlib.import_module(_module_name(name))
        info, build = module.INFO, module.build
        declared = _declared(build)
    except Exception as error:  # whatever an import may raise
        raise _broken(name, package, error) from error
    if not isinstance(info, Info):
        raise _broken(name, package, f"INFO must be a harness.methods.Info, found {info!r}")
    searched = getattr(module, "SEARCH", {})
    space = {parameter: where for parameter, where in searched.items() if parameter in declared}
    return Method(name=name, info=info, build=build, space=space, package=package)


def packages(names: Iterable[str]) -> dict[str, str]:
    """Of the methods that other packages bring, the packages with their versions."""
    return dict(package for name in names if (package := load(name).package))


def _files() -> list[str]:
    return [path.stem.replace("_", "-") for path in FOLDER.glob("*.py") if path.stem != "__init__"]


def _is_file(name: str) -> bool:
    path = FOLDER / f"{name.replace('-', '_')}.py"
    return "_" not in name and path.is_file()


def _module_name(name: str) -> str:
    return f"harness.methods.{name.replace('-', '_')}"


@cache
def _entry_points() -> Mapping[str, tuple[EntryPoint, ...]]:
    """Of other packages, by method; which are installed does not change while a process runs."""
    found = entry_points(group=GROUP)
    return {name: tuple(found.select(name=name)) for name in found.names}


def _broken(name: str, package: tuple[str, str] | None, what: Exception | str) -> InputError:
    """One line that says whose fault it is, and in which line of which file."""
    where = f"package '{package[0]}' {package[1]}" if package else _module_name(name)
    if isinstance(what, Exception):
        frames = traceback.extract_tb(what.__traceback__)
        theirs = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
        place = [f"({Path(f.filename).name}, line {f.lineno})" for f in theirs[-1:]]
        what = " ".join((f"{type(what).__name__}: {what}", *place))
    return InputError(f"method '{name}' of {where} is broken: {' '.join(what.split())}")

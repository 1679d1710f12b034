"""Methods: one short file each, found by its name (``f-cpt-l`` is ``f_cpt_l.py``).

A method file has a docstring, ``INFO``, and a pure function ``build(parts, abilities, *, …)`` that
puts named parts together and returns the step whose artifact is evaluated. ``abilities`` is one
ability, or all of them where a matrix wants one model for everything. The keyword parameters of
``build``, with their types and defaults, are what a matrix file may set; ``SEARCH`` says where a
sweep looks for them.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from harness.parts import Parts
from harness.steps import Step
from maec.errors import InputError, nearest

FOLDER = Path(__file__).parent

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
    """A loaded method file; ``space`` holds those of its SEARCH that ``build`` has."""

    name: str
    info: Info
    build: Callable[..., Step]
    space: Space

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
                checked[name] = TypeAdapter(declared[name].annotation).validate_python(value)
            except ValidationError as error:
                problem = error.errors()[0]["msg"]
                raise InputError(
                    f"{name} of method '{self.name}': {problem[0].lower()}{problem[1:]}, "
                    f"found {value!r}"
                ) from None
        return checked

    def model(self, parts: Parts, abilities: Sequence[str], parameters: Mapping[str, Any]) -> Step:
        """The step that makes this method's model of ``abilities``.

        Raises:
            TypeError: ``abilities`` is one name, which would pass for a sequence of letters.
        """
        if isinstance(abilities, str):
            raise TypeError(f"abilities: a sequence of names is needed, found {abilities!r}")
        allowed = parts.with_translations() if self.info.translated else parts
        return self.build(allowed, tuple(abilities), **self.check_parameters(parameters))


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
    """Names of all methods that have a file, in alphabetical order."""
    return sorted(
        path.stem.replace("_", "-") for path in FOLDER.glob("*.py") if path.stem != "__init__"
    )


def load(name: str) -> Method:
    """The method of that name.

    Raises:
        InputError: there is no such file.
    """
    if name not in available():
        raise InputError(
            f"unknown method '{name}'{nearest(name, available())} "
            f"(known: {', '.join(available())}; a new one is a file in harness/methods/)"
        )
    module = importlib.import_module(f"harness.methods.{name.replace('-', '_')}")
    declared = _declared(module.build)
    searched = getattr(module, "SEARCH", {})
    space = {parameter: where for parameter, where in searched.items() if parameter in declared}
    return Method(name=name, info=module.INFO, build=module.build, space=space)

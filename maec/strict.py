"""What a file may set: nothing unknown, no number that is none, and mistakes in plain words."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)

from maec.errors import InputError, nearest
from maec.reading import read_yaml

Settings = TypeVar("Settings", bound=BaseModel)

SHOWN = 100
"""Characters of a wrong value that a message has room for."""

_TRUTH = "YAML reads yes, no, on and off as true and false"


class Strict(BaseModel):
    """Keys that are not known are refused, numbers are finite, nothing changes afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_by_name=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        found = value if isinstance(value, list) else [value]
        if any(isinstance(entry, bool) for entry in found):
            annotation = cls.model_fields[str(info.field_name)].annotation
            if any(kind in (int, float) for kind in _types(annotation)):
                raise ValueError(f"must be a number; {_TRUTH}")
        return value


def load(path: Path, model: type[Settings], kind: str) -> Settings:
    """What the YAML file ``path`` says; relative paths in it count from the folder it lies in.

    ``kind`` is what it should be and how that begins, for who gives another file.

    Raises:
        InputError: no such file, no YAML, an unknown key (with the nearest known one), a value
            that is not allowed.
    """
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: not {kind}")
    try:
        return model.model_validate(data, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise InputError(f"{path}: {first_mistake(error, model)}") from error


def as_declared(annotation: Any, value: Any) -> Any:
    """``value`` in the type ``annotation``, checked as a field of :class:`Strict` is.

    Raises:
        ValidationError: it does not fit.
    """
    return _one(annotation).model_validate({"value": value}).value


@cache
def _one(annotation: Any) -> type[Strict]:
    return create_model("Parameter", __base__=Strict, value=(annotation, ...))


def first_mistake(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong in a file that ``model`` reads: key, what was found, what is allowed.

    Unknown keys come before all else: a misspelt key often leaves the right one missing.
    """
    mistakes = error.errors()
    unknown = [m for m in mistakes if m["type"] == "extra_forbidden"]
    # a mapping that may also be a string has a first error that says nothing
    told = [m for m in mistakes if m["type"] != "string_type" or not isinstance(m["input"], dict)]
    mistake = (unknown or told or mistakes)[0]
    where = mistake["loc"]
    place = _place(where, _model_at(model, where)) or "the file"
    if unknown:
        fields = _model_at(model, where[:-1]).model_fields
        allowed = [field.alias or name for name, field in fields.items() if not field.exclude]
        hint = nearest(str(where[-1]), allowed)
        return f"unknown key '{place}'{hint} (allowed: {', '.join(allowed)})"
    value = mistake["input"]
    shown = mistake["type"] != "missing" and not isinstance(value, dict)
    return f"{place}: {f'found {_short(value)}; ' if shown else ''}{wrong(mistake)}"


def _short(value: Any) -> str:
    """A value on one line; of a long one, such as the shape that a broken file gives, the start."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def wrong(mistake: Mapping[str, Any]) -> str:
    """What is wrong, as a clause; ``mistake`` is one of a ValidationError's."""
    match mistake["type"]:
        case "missing":
            return "is missing"
        case "model_type" | "dict_type":
            return "must be a mapping of keys to values"
        case "string_type" if isinstance(mistake["input"], bool):
            return f"must be text, in quotes; {_TRUTH}"
        case "value_error":
            return str(mistake["ctx"]["error"])
    said = mistake["msg"].partition(" after validation")[0]
    return re.sub(r"^\w+ should ", "must ", said)


def _place(where: Sequence[str | int], model: type[BaseModel]) -> str:
    # pydantic also names which of several types it tried, and that a key is meant
    tried = ("str", "[key]")
    named = [part for part in where if part not in tried and model.__name__ not in str(part)]
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in named).lstrip(".")


def _model_at(model: type[BaseModel], where: Sequence[str | int]) -> type[BaseModel]:
    """The model that a path into what ``model`` reads leads to, or the last one on the way."""
    for part in where:
        field = model.model_fields.get(str(part))
        kinds = _types(field.annotation) if field else ()
        models = (k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
        model = next(models, model)
    return model


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _types(part)

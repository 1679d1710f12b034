"""What manifests of masks, packs and merged models say of tensors, checked as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maec.errors import InputError
from maec.reading import read_json
from maec.strict import first_mistake

Count = Annotated[int, Field(ge=0, lt=2**59)]


class _Said(BaseModel):
    model_config = ConfigDict(strict=True)


class _Tensor(_Said):
    shape: Annotated[list[Count], Field(max_length=32)]
    key_neurons: Count
    similarity: float | None = None
    selected: bool | None = None


class _Source(_Said):
    path: str = ""
    fingerprint: str | None = None


class _Part(_Said):
    path: str
    tensors: dict[str, _Tensor]


class _Whole(_Said):
    """Of a mask or a pack ``tensors``, of a merged model ``abilities`` with those of each."""

    tensors: dict[str, _Tensor] = Field(default_factory=dict)
    abilities: list[_Part] = Field(default_factory=list)
    ability: _Source = _Source()
    base: _Source = _Source()
    corpora: list[Any] = Field(default_factory=list)


def read_manifest(file: Path) -> dict[str, Any]:
    """The manifest in ``file``, as it stands there.

    Raises:
        InputError: it cannot be read, or does not say of tensors what a manifest says.
    """
    content = read_json(file)
    key = "abilities" if file.name == "maec.json" else "tensors"
    if key not in content:
        raise InputError(f"{file}: {key}: missing; make it again, or fetch it")
    try:
        _Whole.model_validate(content)
    except ValidationError as error:
        mistake = first_mistake(error, _Whole)
        raise InputError(f"{file}: {mistake}; make it again, or fetch it") from None
    return content

"""What a matrix file may say, checked before anything runs, with errors a person can act on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness import languages, methods
from harness.identity import IDENTITY, KNOB
from maec.errors import InputError, nearest
from maec.settings import TrainSettings

EMBEDDED = "embedded"

ROLES = {
    "language": "Θ_Lj: one target language's general corpus",
    "languages": "all target languages' general corpora",
    "ability": "the pivot's ability corpus",
    "joint": "general corpora of the targets and the pivot's ability corpus, mixed",
    "lora": "the same, with LoRA",
    "adapt": "the pivot's ability corpus, from the model of all languages",
    "translated": "ability corpora of the target languages (an upper reference)",
    "locate": "a brief run that finds the key neurons",
    "key_neurons": "Θ_A,L0: the pivot's ability corpus, key neurons only",
    "pivot": "Θ_L0: the pivot's general corpus, key neurons only",
}
"""What a training run is for; a matrix gives settings for each role that its methods use."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Engine(_Strict):
    """How models are served while they are evaluated. dtype is the arithmetic's."""

    kind: Annotated[Literal["vllm", "transformers"], IDENTITY] = "vllm"
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], IDENTITY] = "float32"
    max_model_len: Annotated[int, IDENTITY] = Field(1024, ge=16, description="tokens")
    max_num_seqs: Annotated[int, KNOB] = Field(256, ge=1)
    batch_size: Annotated[int, KNOB] = Field(64, ge=1, description="transformers only")
    memory_fraction: Annotated[float, KNOB] = Field(0.85, gt=0, le=1, description="of a GPU")
    kv_cache_gib: Annotated[int, KNOB] = Field(1, ge=1, description="GiB, without a GPU")
    threads: Annotated[int | None, KNOB] = Field(
        None, ge=1, description="without a GPU; by default one for a small model, else all cores"
    )


class Documents(_Strict):
    """How many documents each corpus gives to one training run, per language."""

    general: int = Field(ge=1)
    pivot: int = Field(ge=1)
    ability: int = Field(ge=1)
    translated: int = Field(ge=1)


class LocalTask(_Strict):
    """Questions from files, asked with the prompts and filters of an lm-eval task family.

    ``files`` is a path with ``{language}`` in it, relative to the matrix file: ``.tsv`` (question
    TAB number) or ``.json``/``.jsonl`` lines. ``like`` is the lm-eval family, ``mgsm_native_cot``
    for ``mgsm_native_cot_es`` and so on.
    """

    files: str
    like: Literal["mgsm_native_cot", "mgsm_direct"] = "mgsm_native_cot"


class MethodEntry(BaseModel):
    """A method and its parameters; ``label`` tells two entries of one method apart.

    ``scope`` is what one model serves: ``all`` target languages, or one ``language`` each (and the
    pivot, whose weights the base has, one that uses no target language). ``abilities`` holds
    parameters that differ between abilities.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    label: str
    scope: Literal["all", "language"] = "all"
    abilities: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, entry: Any) -> Any:
        if isinstance(entry, str):
            entry = {"name": entry}
        if isinstance(entry, dict) and "name" in entry:
            entry = {"label": entry["name"], **entry}
        return entry

    def for_ability(self, ability: str) -> dict[str, Any]:
        """The method's parameters; what stands under ``abilities`` wins for that ability."""
        shared = {key: value for key, value in (self.model_extra or {}).items()}
        return shared | self.abilities.get(ability, {})


class Matrix(_Strict):
    """A matrix file: base × methods × abilities × languages × seeds, and how to train and score."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    base: str = EMBEDDED
    pivot: str = "en"
    languages: list[str] = Field(min_length=1)
    abilities: list[str] = Field(min_length=1)
    methods: list[MethodEntry] = Field(min_length=1)
    seeds: list[int] = Field([0], min_length=1)
    split: Literal["test", "dev"] = "test"
    items: int | None = Field(None, ge=1, description="items a cell; all when absent")
    tasks: dict[str, LocalTask] = Field(default_factory=dict)
    documents: Documents | None = None
    training: dict[str, TrainSettings] = Field(default_factory=dict)
    engine: Engine = Engine()
    file: Path = Field(Path("matrix.yaml"), exclude=True)

    @property
    def columns(self) -> list[str]:
        """Languages that are scored: the pivot, then the targets."""
        return [self.pivot, *self.languages]


def load_matrix(path: Path) -> Matrix:
    """Read and check a matrix file.

    Raises:
        InputError: no such file, no YAML, an unknown key, language, method, ability or parameter,
            or a value out of range; one line each.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: there is no such matrix file{_others(path)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: this is not YAML: {reason}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: a matrix file is a mapping of keys to values; see {_example()}")
    try:
        matrix = Matrix.model_validate({**raw, "file": path})
    except ValidationError as error:
        raise InputError(_explain(path, error)) from None
    _check_names(matrix)
    return matrix


def _check_names(matrix: Matrix) -> None:
    where = matrix.file
    for key, codes in (("pivot", [matrix.pivot]), ("languages", matrix.languages)):
        for index, code in enumerate(codes):
            try:
                languages.get(code)
            except InputError as error:
                place = key if key == "pivot" else f"{key}[{index}]"
                raise InputError(f"{where}: {place}: {error}") from None
    if matrix.pivot in matrix.languages:
        raise InputError(
            f"{where}: languages: '{matrix.pivot}' is the pivot, which always has a column; "
            "leave it out of languages"
        )
    _refuse_repeats(where, "languages", matrix.languages)
    _refuse_repeats(where, "abilities", matrix.abilities)
    _refuse_repeats(where, "seeds", matrix.seeds)
    labels = [entry.label for entry in matrix.methods]
    _refuse_repeats(where, "methods", labels, "; give each a label of its own")
    for index, entry in enumerate(matrix.methods):
        place = f"{where}: methods[{index}]"
        try:
            method = methods.load(entry.name)
            for ability in [*matrix.abilities, *entry.abilities]:
                if ability not in matrix.abilities:
                    raise InputError(
                        f"abilities: '{ability}' is not an ability of this matrix "
                        f"({', '.join(matrix.abilities)})"
                    )
                method.check_parameters(entry.for_ability(ability))
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    _check_abilities(matrix)
    for role in matrix.training:
        if role not in ROLES:
            raise InputError(
                f"{where}: training: unknown role '{role}'{nearest(role, ROLES)} "
                f"(allowed: {', '.join(ROLES)})"
            )


def _check_abilities(matrix: Matrix) -> None:
    from harness.embedded import items

    known = [*items.ABILITIES, *matrix.tasks]
    for index, ability in enumerate(matrix.abilities):
        if ability not in known:
            raise InputError(
                f"{matrix.file}: abilities[{index}] '{ability}': unknown ability"
                f"{nearest(ability, known)} (allowed: {', '.join(dict.fromkeys(known))}, or one "
                "that 'tasks' names)"
            )
    for ability in matrix.tasks:
        if ability not in matrix.abilities:
            raise InputError(
                f"{matrix.file}: tasks: '{ability}' is not among abilities "
                f"({', '.join(matrix.abilities)}); add it there or drop its task"
            )


def _refuse_repeats(where: Path, key: str, values: Sequence[Any], advice: str = "") -> None:
    for value in values:
        if list(values).count(value) > 1:
            raise InputError(f"{where}: {key}: '{value}' stands there twice{advice}")


def _explain(path: Path, error: ValidationError) -> str:
    """The first validation error as one line: file, key, what was found, what is allowed."""
    first = error.errors()[0]
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
    ).lstrip(".")
    if first["type"] == "extra_forbidden":
        model = _model_at(first["loc"][:-1])
        allowed = [name for name in model.model_fields if name != "file"]
        key = str(first["loc"][-1])
        return (
            f"{path}: unknown key '{place}'{nearest(key, allowed)} (allowed: {', '.join(allowed)})"
        )
    found = first.get("input")
    shown = "" if first["type"] == "missing" or isinstance(found, dict) else f", found {found!r}"
    return f"{path}: {place}: {first['msg'][0].lower()}{first['msg'][1:]}{shown}"


def _model_at(location: Sequence[str | int]) -> type[BaseModel]:
    """The settings model that a path into a matrix file leads to."""
    models: dict[str, type[BaseModel]] = {
        "training": TrainSettings,
        "engine": Engine,
        "documents": Documents,
        "tasks": LocalTask,
    }
    return models.get(str(location[0]), Matrix) if location else Matrix


def _others(path: Path) -> str:
    folder = Path(__file__).parent / "matrices"
    return nearest(path.name, [p.name for p in folder.glob("*.yaml")])


def _example() -> str:
    return "harness/matrices/micro.yaml"

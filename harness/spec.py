"""What a matrix file may say, checked before anything runs, with errors a person can act on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    model_validator,
)

from harness import languages, methods
from harness.sources import (
    DEFAULT,
    Checkpoints,
    Corpora,
    Tokens,
)
from harness.spec_machine import Engine, Executor, Resources
from harness.spec_tasks import TaskSettings
from maec.errors import InputError, nearest
from maec.reading import read_yaml
from maec.settings import TrainSettings
from maec.strict import Strict, first_mistake

EMBEDDED = "embedded"

HEAD_WIDTH = 32
"""Attention heads come in multiples of this width: vLLM's CPU kernels know no others."""

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


Ability = Annotated[str, Field(pattern=r"^\w[\w.-]{0,99}$")]
"""A part of the names of folders and files."""


class Documents(Strict):
    """How many documents each corpus gives to one training run, per language."""

    general: int = Field(ge=1)
    pivot: int = Field(ge=1)
    ability: int = Field(ge=1)
    translated: int = Field(ge=1)


class CorpusFraction(Strict):
    """How much of each corpus there is; training steps stay, so that less text is read more often.

    ``language`` is for the general corpora of the target languages, ``ability`` for ability text.
    """

    language: float = Field(1.0, gt=0, le=1)
    ability: float = Field(1.0, gt=0, le=1)


class Forgetting(Strict):
    """What every model is asked beside its own ability, to see what it lost.

    ``documents`` held-out general texts of each language, and ``items`` questions of each other
    ability in each language; 0 leaves them out. The embedded world has texts of its own; for any
    other base ``text_files`` names JSON lines with a ``text`` each, a path with ``{language}``.
    """

    documents: int = Field(60, ge=0)
    items: int = Field(60, ge=0)
    text_files: str | None = None


class EmbeddedModel(Strict):
    """A base of the embedded world in another size, pre-trained on demand by the same recipe."""

    hidden_size: int = Field(128, ge=32)
    intermediate_size: int = Field(344, ge=8)
    num_hidden_layers: int = Field(4, ge=1)
    num_attention_heads: int = Field(4, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "EmbeddedModel":
        if self.hidden_size % (HEAD_WIDTH * self.num_attention_heads):
            raise ValueError(
                f"hidden_size must be {HEAD_WIDTH} × num_attention_heads or a multiple of that"
            )
        return self


class Variant(Strict):
    """A point on a matrix's axis: what differs there from the rest of the file.

    Of ``engine`` that is the keys which are given; the others are the matrix's.
    """

    label: str
    base: EmbeddedModel | None = None
    corpus_fraction: CorpusFraction | None = None
    engine: Engine | None = None

    @field_serializer("engine")
    def _as_given(self, engine: Engine | None) -> dict[str, Any] | None:
        return engine and engine.model_dump(mode="json", exclude_unset=True)


class MethodEntry(BaseModel):
    """A method and its parameters; ``label`` tells two entries of one method apart.

    ``scope`` is what one model serves: ``all`` target languages and one ability; one ``language``
    and one ability each (and the pivot, whose weights the base has, one that uses no target
    language); or ``everything``, all languages and all abilities of the matrix. ``abilities`` holds
    parameters that differ between abilities.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    label: str
    scope: Literal["all", "language", "everything"] = "all"
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


class Matrix(Strict):
    """A matrix file: base × methods × abilities × languages × seeds, and how to train and score.

    ``variants`` adds an axis: the whole matrix once for each of its points. ``parameters`` and
    ``config``, numbers of the base's config.json under its own names, are for prices while the base
    is not on this machine; where it is, they are compared with it.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    base: str | EmbeddedModel = EMBEDDED
    parameters: int | None = Field(None, ge=1, description="of the base, while it is elsewhere")
    config: dict[str, int] = Field(default_factory=dict)
    pivot: str = "en"
    languages: list[str] = Field(min_length=1)
    abilities: list[Ability] = Field(min_length=1)
    methods: list[MethodEntry] = Field(min_length=1)
    seeds: list[int] = Field([0], min_length=1)
    split: Literal["test", "dev"] = "test"
    items: int | None = Field(None, ge=1, description="items a cell; all when absent")
    tasks: dict[str, TaskSettings] = Field(default_factory=dict)
    corpora: Corpora | None = None
    checkpoints: Checkpoints = Checkpoints()
    documents: Documents | None = None
    tokens: Tokens = Tokens()
    corpus_fraction: CorpusFraction = CorpusFraction()
    forgetting: Forgetting | None = None
    variants: list[Variant] = Field(default_factory=list)
    training: dict[str, TrainSettings] = Field(default_factory=dict)
    engine: Engine = Engine()
    resources: Resources = Resources()
    executor: Executor = Executor()
    file: Path = Field(Path("matrix.yaml"), exclude=True)

    @property
    def columns(self) -> list[str]:
        """Languages that are scored: the pivot, then the targets."""
        return [self.pivot, *self.languages]

    @property
    def embedded(self) -> bool:
        """Whether the base is one of the embedded world's."""
        return self.base == EMBEDDED or isinstance(self.base, EmbeddedModel)

    @property
    def models(self) -> list[str]:
        """The base and the checkpoints as the file names them; those of the embedded world not."""
        given = self.checkpoints
        of_abilities = [(entry.model, entry.pivot) for entry in given.abilities.values()]
        named = [*given.languages.values(), *(name for pair in of_abilities for name in pair)]
        return list(dict.fromkeys(filter(None, [None if self.embedded else self.base, *named])))

    def may_run_code(self, model: str) -> bool:
        """Whether the model that the file names so may run code that it brings."""
        return model in self.engine.trust_remote_code

    def points(self) -> dict[str, "Matrix"]:
        """The matrix at each point of its axis by label; itself, without one, if it has no axis."""
        if not self.variants:
            return {"": self}
        return {
            variant.label: self.model_copy(
                update={"variants": [], "engine": _changed(self.engine, variant.engine)}
                | {
                    name: getattr(variant, name)
                    for name in ("base", "corpus_fraction")
                    if getattr(variant, name) is not None
                }
            )
            for variant in self.variants
        }

    def engine_place(self, label: str) -> str:
        """Where the file says how the engine at the point ``label`` differs, if it does."""
        for index, variant in enumerate(self.variants):
            if variant.label == label and variant.engine is not None:
                return f"variants[{index}].engine"
        return "engine"

    def engines(self) -> dict[str, Engine]:
        """The engines that models are served by, by their place in the file."""
        return {self.engine_place(label): at.engine for label, at in self.points().items()}

    def by(self, executor: str | None) -> "Matrix":
        """The same matrix by another executor, given in its short form; None leaves it.

        Raises:
            InputError: there is no such executor.
        """
        if executor is None:
            return self
        try:
            return self.model_copy(update={"executor": Executor.model_validate(executor)})
        except ValidationError:
            raise InputError(
                f"--executor '{executor}': neither local, ray, auto, nor an address of a Ray "
                "cluster such as ray://host:10001"
            ) from None

    def on_dev(self) -> "Matrix":
        """The same matrix with dev items in place of test items.

        Raises:
            InputError: an ability whose task this file names has no dev questions.
        """
        for ability in self.abilities:
            if ability in self.tasks and not self.tasks[ability].has_dev:
                raise InputError(
                    f"{self.file}: tasks.{ability}: there are no dev questions; name their files "
                    "under dev_files or a data set's split under dev_split, since nothing is tuned "
                    "on test questions"
                )
        return self.model_copy(update={"split": "dev"})


def _changed(engine: Engine, changes: Engine | None) -> Engine:
    given = changes.model_fields_set if changes else ()
    return engine.model_copy(update={name: getattr(changes, name) for name in given})


def load_matrix(path: Path) -> Matrix:
    """Read and check a matrix file.

    Raises:
        InputError: no such file, no YAML, an unknown key, language, method, ability or parameter,
            or a value out of range; one line each.
    """
    if not path.exists() or path.is_dir():
        raise InputError(f"{path}: there is no such matrix file{_others(path)}")
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise InputError(f"{path}: a matrix file is a mapping of keys to values; see {_example()}")
    return check_matrix(raw, path)


def check_matrix(raw: Mapping[str, Any], path: Path) -> Matrix:
    """The matrix with the content ``raw`` of the file ``path``, which need not exist.

    Raises:
        InputError: as :func:`load_matrix`.
    """
    try:
        matrix = Matrix.model_validate({**raw, "file": path})
    except ValidationError as error:
        raise InputError(f"{path}: {first_mistake(error, Matrix)}") from None
    _check_names(matrix)
    return matrix


def _check_names(matrix: Matrix) -> None:
    where = matrix.file
    _check_languages(matrix)
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
            if entry.scope == "everything" and entry.abilities:
                raise InputError(
                    "abilities: with scope 'everything' one model has all abilities, so that their "
                    "parameters cannot differ; leave it out"
                )
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
    _check_sources(matrix)
    _check_trusted(matrix)
    asked = matrix.forgetting
    if asked and asked.documents and not (matrix.embedded or asked.text_files):
        raise InputError(
            f"{where}: forgetting: text_files is missing, held-out text for this base; name the "
            "files, or set documents to 0"
        )
    _refuse_repeats(where, "variants", [variant.label for variant in matrix.variants])
    _check_engines(matrix)
    if matrix.split == "dev":
        matrix.on_dev()
    for role in matrix.training:
        if role not in ROLES:
            raise InputError(
                f"{where}: training: unknown role '{role}'{nearest(role, ROLES)} "
                f"(allowed: {', '.join(ROLES)})"
            )


def _check_engines(matrix: Matrix) -> None:
    """Settings of an engine fit together, at each point of the axis."""
    for index, variant in enumerate(matrix.variants):
        if variant.engine and "data_parallel_size" in variant.engine.model_fields_set:
            raise InputError(
                f"{matrix.file}: variants[{index}].engine.data_parallel_size: the same engines "
                "serve all points, so that it is one number; give it under engine"
            )
    for place, engine in matrix.engines().items():
        where = f"{matrix.file}: {place}"
        for name in ("tensor_parallel_size", "pipeline_parallel_size", "quantization"):
            found = getattr(engine, name)
            if engine.kind != "vllm" and found != Engine.model_fields[name].default:
                raise InputError(
                    f"{where}.{name}: found {found!r}, which only kind 'vllm' has; leave it out"
                )
        if engine.quantization is not None and engine.dtype == "float32":
            raise InputError(
                f"{where}.quantization: found '{engine.quantization}', which is for models in 16 "
                "bits; add dtype: bfloat16, or leave it out"
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


def _check_languages(matrix: Matrix) -> None:
    from harness.embedded import lexicon

    # questions that no file holds are written in the embedded world's words
    written = any(ability not in matrix.tasks for ability in matrix.abilities)
    targets = ((f"languages[{index}]", code) for index, code in enumerate(matrix.languages))
    for place, code in (("pivot", matrix.pivot), *targets):
        try:
            languages.get(code)
            if written:
                lexicon.load(code)
        except InputError as error:
            raise InputError(f"{matrix.file}: {place}: {error}") from None


def _check_sources(matrix: Matrix) -> None:
    """Corpora and checkpoints are of languages and abilities of this matrix."""
    corpora, checkpoints = matrix.corpora or Corpora(), matrix.checkpoints
    translated = {f".{name}": list(found) for name, found in corpora.translated.items()}
    of_languages = {
        "corpora.general": list(corpora.general),
        **{f"corpora.translated{name}": found for name, found in translated.items()},
        "checkpoints.languages": list(checkpoints.languages),
    }
    of_abilities = {
        "corpora.ability": list(corpora.ability),
        "corpora.translated": list(corpora.translated),
        "checkpoints.abilities": list(checkpoints.abilities),
    }
    for place, found in of_languages.items():
        known = matrix.languages if place.startswith("check") else [*matrix.columns, DEFAULT]
        _refuse_others(matrix.file, place, found, known, "a language")
    for place, found in of_abilities.items():
        _refuse_others(matrix.file, place, found, matrix.abilities, "an ability")
    for index, entry in enumerate(matrix.methods):
        for ability, given in checkpoints.abilities.items():
            beta = entry.for_ability(ability).get("beta")
            if given.pivot is None and beta:
                raise InputError(
                    f"{matrix.file}: methods[{index}]: beta {beta} needs a model of the pivot "
                    f"language to subtract; name one under checkpoints.abilities.{ability}.pivot, "
                    "or leave beta out"
                )


def _check_trusted(matrix: Matrix) -> None:
    """Models that may run code of their own are named, each of them, and are of this matrix."""
    for where, engine in matrix.engines().items():
        place, named = f"{where}.trust_remote_code", engine.trust_remote_code
        if named is True:
            raise InputError(
                f"{matrix.file}: {place}: name the models that may run their own code: "
                f"[{', '.join(matrix.models)}]; false stands for none"
            )
        _refuse_others(matrix.file, place, named, matrix.models, "a model")
        _refuse_repeats(matrix.file, place, named)


def _refuse_others(
    where: Path, place: str, found: Sequence[str], known: Sequence[str], what: str
) -> None:
    for key in found:
        if key not in known:
            raise InputError(
                f"{where}: {place}: '{key}' is not {what} of this matrix{nearest(key, known)} "
                f"(allowed: {', '.join(known) or 'none'})"
            )


def _refuse_repeats(where: Path, key: str, values: Sequence[Any], advice: str = "") -> None:
    for value in values:
        if list(values).count(value) > 1:
            raise InputError(f"{where}: {key}: '{value}' stands there twice{advice}")


def _others(path: Path) -> str:
    folder = Path(__file__).parent / "matrices"
    return nearest(path.name, [p.name for p in folder.glob("*.yaml")])


def _example() -> str:
    return "harness/matrices/micro.yaml"

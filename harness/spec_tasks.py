"""What stands under ``tasks`` in a matrix file: which questions an ability is measured with."""

from pydantic import Field, field_validator, model_validator

from harness.sources import LANGUAGE
from maec.strict import Strict


class TaskSettings(Strict):
    """An lm-eval task in every language, and where its questions come from.

    ``like`` is the task's name, without the language at its end or with ``{language}`` in it; where
    a language's task has another name, ``names`` says which. Questions are those of the task's own
    data set on the hub, or of ``dataset``: another one of the same make, a hub id (``@revision``
    may follow) or a folder, whose parts are called ``dataset_name``. Or they come from ``files``:
    ``.tsv`` (question TAB number), JSON lines, CSV or Parquet, with the columns of the data set on
    the hub; ``dev_files`` holds other ones, for sweeps. Without files ``dev_split`` names the data
    set's split for sweeps. ``fewshot_files`` are examples for prompts in place of the data set's.
    Paths are relative to the matrix file and have ``{language}`` in them; ``dataset`` may.

    ``filter`` says which reading of a generated answer is the score. ``max_gen_toks`` bounds what
    is generated, in tokens.
    """

    like: str = Field("mgsm_native_cot", pattern=r"^[\w{}.-]+$")
    names: dict[str, str] = Field(default_factory=dict)
    files: str | None = None
    fewshot_files: str | None = None
    dev_files: str | None = None
    dataset: str | None = None
    dataset_name: str | None = None
    dev_split: str | None = None
    num_fewshot: int | None = Field(None, ge=0)
    chat_template: bool = False
    filter: str | None = None
    max_gen_toks: int | None = Field(None, ge=1, description="tokens")

    @field_validator("files", "fewshot_files", "dev_files")
    @classmethod
    def _one_file_a_language(cls, path: str | None) -> str | None:
        if path is not None and LANGUAGE not in path:
            raise ValueError(f"a path with {LANGUAGE} in it, one file a language")
        return path

    @model_validator(mode="after")
    def _one_source(self) -> "TaskSettings":
        if self.files is None:
            if self.dev_files is not None:
                raise ValueError("dev_files stands beside files; name those too, or a dev_split")
            return self
        for key in ("dataset", "dataset_name", "dev_split"):
            if getattr(self, key) is not None:
                raise ValueError(f"either files or {key}: questions have one source; leave one out")
        if self.num_fewshot and self.fewshot_files is None:
            raise ValueError(
                "num_fewshot needs fewshot_files, examples that are no questions; name them, or "
                "set it to 0"
            )
        return self

    @property
    def has_dev(self) -> bool:
        """Whether there are questions for tuning."""
        return self.dev_files is not None or self.dev_split is not None

    def task_name(self, language: str) -> str:
        """lm-eval's name of the task of a language."""
        if language in self.names:
            return self.names[language]
        like = self.like if LANGUAGE in self.like else f"{self.like}_{LANGUAGE}"
        return like.replace(LANGUAGE, language)

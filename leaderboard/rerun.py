"""How to run again what was run: a matrix file and commands, as text for copying."""

import shlex
from collections.abc import Mapping
from typing import Any

import yaml


def matrix_yaml(run: Mapping[str, Any]) -> str:
    """The matrix file of a run, with every default written out, as it was checked then."""
    return yaml.safe_dump(run["matrix_file"], sort_keys=False, allow_unicode=True)


def again(run: Mapping[str, Any], matrix: str) -> str:
    """Shell commands that make everything of a run anew, given its matrix file."""
    commit = run.get("commit")
    lines = [f"git checkout {commit}"] if commit else []
    file = shlex.quote(f"{matrix}.yaml")
    return "\n".join(
        [
            *lines,
            "make setup",
            f"MAEC_HOME=.maec-again .venv/bin/harness run {file}",
            f"MAEC_HOME=.maec-again .venv/bin/harness table {file} --json",
        ]
    )


def ask_again(cell: Mapping[str, Any], model_path: str, *, chat_template: bool = False) -> str:
    """A command that asks the same model the same questions with lm-eval alone."""
    dtype = cell["engine"].get("dtype", "auto")
    task, folder = shlex.quote(cell["task"]), shlex.quote(cell["task_path"])
    return (
        f"lm_eval run --model hf --model_args pretrained={shlex.quote(model_path)},dtype={dtype} "
        f"\\\n  --tasks {task} --include_path {folder} "
        f"\\\n  {'--apply_chat_template ' * chat_template}--log_samples --output_path again"
    )

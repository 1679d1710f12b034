"""How to cite and to run again: BibTeX and commands, as text for copying."""

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import yaml

_SPECIAL = str.maketrans({character: "\\" + character for character in "&%$#_"})


def run_bibtex(cell: Mapping[str, Any], matrix: str) -> str:
    """An entry for the run that made a score: what is known of it, and nothing else.

    ``cell`` is :func:`harness.store.view.provenance`.
    """
    run = cell["run"] or {}
    started = run.get("started") or cell["created"]
    commit = run.get("commit")
    notes = [
        f"run {cell['run_id']}",
        f"commit {commit}{' with changed files' if run.get('dirty') else ''}" if commit else "",
        f"task {cell['task']} version {cell['task_version']}",
        f"model fingerprint {cell['fingerprint'][:16]}",
    ]
    fields = {
        "title": f"{{MAEC harness}}: results of the matrix {matrix}",
        "author": "{The MAEC harness developers}",
        "year": str(started.year) if isinstance(started, datetime) else "",
        "note": "; ".join(filter(None, notes)),
    }
    return _entry("misc", f"maec-{cell['run_id']}", fields)


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


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    known = {name: value.translate(_SPECIAL) for name, value in fields.items() if value}
    body = "\n".join(f"  {name} = {{{value}}}," for name, value in known.items())
    return f"@{kind}{{{key},\n{body}\n}}\n"

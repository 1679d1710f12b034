"""The command line as a user and a script meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maec import cli

from . import numpy_reference
from .checkpoints import llama, read, read_torch, same_bits, trained, write, write_recipe
from .numpy_reference import Ability

ROOT = Path(__file__).resolve().parents[2]
LIGHT = (
    "cli",
    "checkpoint",
    "recipe",
    "errors",
    "folder",
    "hub",
    "share",
    "compatible",
    "adapter",
    "vocabulary",
)
HEAVY = ("torch", "transformers", "vllm", "peft", "pandas", "huggingface_hub")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter in the repository's root."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def maec(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """maec(*arguments): exit code, standard output and standard error of the command."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maec", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def world(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder with a base, a language model, an ability model and a pivot model."""
    origin = llama(rng)
    write(tmp_path / "base", origin)
    for name in ("es", "math", "en"):
        write(tmp_path / name, trained(rng, origin))
    return tmp_path


def recipe(world: Path, **keys: object) -> Path:
    """A recipe of the world, its paths relative to it."""
    content = {
        "base": "base",
        "languages": [{"model": "es"}],
        "abilities": [{"model": "math", "pivot": "en", "k1": 0.2}],
        "dtype": "float32",
    }
    return write_recipe(world / "recipe.yaml", **(content | keys))


@pytest.mark.parametrize("module", LIGHT)
def test_importing_a_light_module_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, maec.{module}; print([m for m in {HEAVY} if m in sys.modules])"
    done = python("-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_help_and_refusals_import_nothing_heavy(world: Path) -> None:
    """What a user is told about a recipe at once costs no torch either."""
    code = f"""
import sys
from maec.cli import main
sys.argv = ["maec"] + sys.argv[1:]
try:
    main()
except SystemExit as exit:
    print("exit", exit.code)
print("heavy", [m for m in {HEAVY} if m in sys.modules])
"""
    misspelt = str(recipe(world, lanugages=[]))
    for arguments in (["merge", "--help"], ["merge", misspelt, "out"]):
        done = python("-c", code, *arguments)
        assert "heavy []" in done.stdout, done.stderr
        assert f"exit {0 if '--help' in arguments else 2}" in done.stdout


@pytest.mark.parametrize(
    "command", [[], ["merge"], ["extract"], ["inspect"], ["push"], ["pull"]], ids=str
)
def test_help_names_what_there_is(maec, command: list[str]) -> None:
    code, out, _ = maec(*command, "--help")
    assert code == 0
    named = {
        "": ["merge", "extract", "inspect", "push", "pull"],
        "merge": ["RECIPE", "OUT"],
        "extract": ["--pivot", "--mask", "--k1", "--alpha", "--beta", "--granularity"],
        "inspect": ["PATH", "--json"],
        "push": ["FOLDER", "REPO_ID", "--private", "--revision", "--message"],
        "pull": ["REPO_ID", "OUT_DIR"],
    }["".join(command)]
    assert all(word in out for word in named)


def test_merge_writes_what_numpy_computes(maec, world: Path) -> None:
    code, _, err = maec("merge", recipe(world), world / "out")
    assert code == 0, err
    ability = Ability(read(world / "math"), read(world / "en"), k1=0.2, beta=0.2)
    expected = numpy_reference.merge(read(world / "base"), [(read(world / "es"), 1)], [ability])
    assert numpy_reference.differences(read(world / "out"), expected, "float32") == []


def test_extract_makes_a_pack_that_merges_like_its_checkpoints(maec, world: Path) -> None:
    code, _, err = maec(
        *("extract", world / "base", world / "math", world / "pack"),
        *("--pivot", world / "en", "--k1", 0.2),
    )
    assert code == 0, err
    assert maec("merge", recipe(world), world / "of-models")[0] == 0
    of_pack = recipe(world, abilities=[{"pack": "pack"}])
    assert maec("merge", of_pack, world / "of-pack")[0] == 0
    assert same_bits(read_torch(world / "of-models"), read_torch(world / "of-pack"))


def test_inspect_prints_a_table_or_json(maec, world: Path) -> None:
    maec("merge", recipe(world), world / "out")
    code, table, _ = maec("inspect", world / "out")
    assert code == 0 and "q_proj" in table
    code, text, _ = maec("inspect", world / "out", "--json")
    assert code == 0 and json.loads(text)


def test_a_disk_that_fails_costs_one_line_and_exit_code_1(
    maec, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/there")

    monkeypatch.setattr("maec.merge.merge", broken)
    said = (1, "", "maec: /there: No space left on device\n")
    assert maec("merge", recipe(world), world / "out") == said


def test_a_fault_of_the_program_is_exit_code_1(
    maec, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("maec.merge.merge", broken)
    try:
        code, _, err = maec("merge", recipe(world), world / "out")
    except RuntimeError:
        return  # shown with its traceback by the interpreter, which exits with 1
    assert code == 1 and "a fault" in err

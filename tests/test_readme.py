"""Every command and every file that the README shows works as it stands there.

What it says about adding languages, baselines and models is in ``test_add.py``.
"""

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.spec_machine import Executor
from tests.conftest import CHECKOUT, environment
from tests.maec.checkpoints import llama, trained, write
from tests.maec.hub_server import TOKEN, Hub, serve

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = "\n".join(blocks("bash")).splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def surroundings(home: Path) -> dict[str, str]:
    # what `make test` does by default would run this very test again
    results = str(home / "results")
    return {
        **environment(home),
        "MAEC_RESULTS": results,
        "TESTS": "tests/harness/test_identity.py",
    }


@pytest.fixture(scope="module")
def own(ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the home of a matrix that ran: some commands write to it."""
    for folder in ("my-results", "my-lm-eval"):  # what these tests wrote before
        shutil.rmtree(CHECKOUT / "build" / folder, ignore_errors=True)
    return shutil.copytree(ran, tmp_path_factory.mktemp("readme") / "home")


def test_the_two_commands_come_first() -> None:
    assert commands()[:2] == ["make matrix", "make test"]


def test_executors_are_shown_as_a_matrix_takes_them() -> None:
    shown = [yaml.safe_load(text) for text in blocks("yaml") if text.startswith("executor:")]
    assert [Executor.model_validate(one["executor"]).kind for one in shown] == ["ray", "ray"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        command
        for command in commands()
        if not command.startswith(("maec ", "harness add-language"))
        # what a section on adding something shows is run by tests/test_add.py
        and not command.endswith(("make leaderboard", " mine.yaml --steps", " model.yaml --steps"))
    ],
)
def test_every_command_of_the_readme_runs(own: Path, command: str) -> None:
    done = subprocess.run(
        command, shell=True, cwd=CHECKOUT, env=surroundings(own), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_make_leaderboard_serves_the_page(own: Path) -> None:
    server = subprocess.Popen(
        "make leaderboard",
        shell=True,
        cwd=CHECKOUT,
        env={**surroundings(own), "STREAMLIT_SERVER_PORT": "8517"},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen("http://127.0.0.1:8517/_stcore/health") as answer:
                    assert answer.read() == b"ok"
                    return
            except OSError:
                time.sleep(0.5)
        pytest.fail("the leaderboard did not answer within a minute")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def test_the_commands_on_checkpoints_run_with_the_recipe_that_is_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = llama(rng)
    write(tmp_path / "llama", base)
    for name in ("llama-bengali", "llama-telugu", "llama-math", "llama-english"):
        write(tmp_path / name, trained(rng, base))
    (recipe,) = [text for text in blocks("yaml") if text.startswith("# recipe.yaml")]
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    shown = [command for command in commands() if command.startswith("maec ")]
    assert [command.split()[1] for command in shown] == [
        *("merge", "inspect", "extract", "push", "pull")
    ]
    with serve(Hub(store=tmp_path / "hub")) as hub:
        for command in shown:
            done = subprocess.run(
                command,
                shell=True,
                cwd=tmp_path,
                env=environment(tmp_path / "home")
                | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN}
                | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
    assert (tmp_path / "merged" / "config.json").is_file()
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["language"] == ["bn", "te"]
    for file in (tmp_path / "math-pack").iterdir():
        assert file.read_bytes() == (tmp_path / "math-pack-again" / file.name).read_bytes()


def test_the_tasks_that_are_shown_are_tasks_of_lm_eval() -> None:
    from harness.spec_tasks import TaskSettings
    from harness.tasks import builtin

    shown = next(yaml.safe_load(t) for t in blocks("yaml") if t.startswith("tasks:"))
    for given in shown["tasks"].values():
        assert builtin.find(TaskSettings(**given).task_name("te"))


def test_the_engines_that_are_shown_are_settings_of_a_matrix() -> None:
    from harness.spec import check_matrix

    shown = next(yaml.safe_load(t) for t in blocks("yaml") if t.startswith("engine:"))
    matrix = {"name": "m", "languages": ["te"], "abilities": ["math"], "methods": ["base"]}
    points = check_matrix(matrix | shown, Path("m.yaml")).points().values()
    assert [at.engine.quantization for at in points] == [None, "fp8_per_channel"]
    assert {(at.engine.workers, at.engine.data_parallel_size) for at in points} == {(4, 2)}

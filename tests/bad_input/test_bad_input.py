"""Every mistake costs one line and exit code 2: no traceback, no file that is new or changed."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness.cli
import maec.cli
from tests.bad_input import table, world
from tests.bad_input.table import Mistake

MISTAKES = {
    **{
        f"matrix-{name}": Mistake(
            "harness plan m.yaml", f"m.yaml: {said}", {"m.yaml": world.matrix(**changes)}
        )
        for name, (changes, said) in table.MATRICES.items()
    },
    **{
        f"recipe-{name}": Mistake(
            "maec merge r.yaml out", f"r.yaml: {said}", {"r.yaml": world.recipe(**changes)}
        )
        for name, (changes, said) in table.RECIPES.items()
    },
    **{
        f"checkpoint-{name}": Mistake(
            "maec merge r.yaml out", f"{{here}}/{said}", {"r.yaml": world.recipe(**changes)}
        )
        for name, (changes, said) in table.CHECKPOINTS.items()
    },
    **{f"{number:03}-{row.typed}": row for number, row in enumerate(table.COMMANDS)},
}
PROCESSES = ("matrix-key", "recipe-key", "000-harness pln m.yaml")
"""These are also run as a user runs them."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that :func:`tests.bad_input.world.make` fills, as working directory."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        world.make(folder, patch)
        patch.chdir(folder)
        yield folder


def contents(folder: Path) -> dict[Path, tuple[int, int]]:
    """When what lies in a folder was changed (ns), and its size in bytes."""
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {path: (state.st_mtime_ns, state.st_size) for path, state in found}


def pattern(said: str, here: Path) -> str:
    return ".*".join(map(re.escape, said.replace("{here}", str(here)).split("…")))


@pytest.fixture
def mistake(request: pytest.FixtureRequest, here: Path, monkeypatch: pytest.MonkeyPatch) -> Mistake:
    """A row of the tables, its files in place and its variables set."""
    row = MISTAKES[request.param]
    for name, content in row.files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (here / name).write_bytes(data)
    request.addfinalizer(lambda: [(here / name).unlink() for name in row.files])
    for name, place in {"MAEC_HOME": "home", "MAEC_RESULTS": "results", **row.places}.items():
        monkeypatch.setenv(name, str(here / place))
    return row


def check(mistake: Mistake, here: Path, code: object, out: str, err: str) -> None:
    program = mistake.typed.partition(" ")[0]
    assert (code, out) == (2, "")
    assert err.endswith("\n") and re.fullmatch(
        pattern(f"{program}: {mistake.said}", here), err.removesuffix("\n")
    ), err


@pytest.mark.parametrize("mistake", MISTAKES, indirect=True)
def test_a_mistake_costs_one_line_and_changes_nothing(
    mistake: Mistake, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    before = contents(here)
    monkeypatch.setattr(sys, "argv", shlex.split(mistake.typed))
    main = {"harness": harness.cli.main, "maec": maec.cli.main}[sys.argv[0]]
    with pytest.raises(SystemExit) as done:
        main()
    check(mistake, here, done.value.code, *capfd.readouterr())
    assert contents(here) == before


@pytest.mark.parametrize("mistake", PROCESSES, indirect=True)
def test_so_it_is_for_a_process(mistake: Mistake, here: Path) -> None:
    before = contents(here)
    program, *arguments = shlex.split(mistake.typed)
    path = {"PYTHONPATH": str(Path(harness.cli.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", f"{program}.cli", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | path,
    )
    check(mistake, here, done.returncode, done.stdout, done.stderr)
    assert contents(here) == before


@pytest.mark.parametrize("module", ["leaderboard", "leaderboard.static"])
def test_the_leaderboard_does_not_start_where_it_could_show_nothing(
    here: Path, module: str
) -> None:
    file = here / "full" / "mine.txt"
    done = subprocess.run(
        [sys.executable, "-m", module],
        capture_output=True,
        text=True,
        cwd=Path(harness.cli.__file__).parents[1],
        env={**os.environ, "MAEC_HOME": str(file)},
    )
    assert (done.returncode, done.stdout) == (2, "")
    *_, line = done.stderr.splitlines()  # streamlit may warn before
    assert line == f"leaderboard: MAEC_HOME: {file} is a file; name a folder, or unset it"
    assert "Traceback" not in done.stderr


def test_no_row_stands_there_twice() -> None:
    rows = [(row.typed, str(row.files), str(row.places)) for row in MISTAKES.values()]
    assert len(set(rows)) == len(rows) >= 150

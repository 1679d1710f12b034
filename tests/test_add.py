"""A language, a baseline and a model are added by the README's steps alone, to a copy: counted."""

import json
import os
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import duckdb
import pytest
import yaml

from tests.conftest import CHECKOUT, NANO, environment
from tests.harness.packages import install

pytestmark = pytest.mark.slow

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
LANGUAGE = "?? harness/languages/sw.yaml"
BASELINE = "?? harness/methods/my_baseline.py"


def block(section: str, language: str, start: str = "") -> str:
    """The one block of that language in a section of the README that begins with ``start``."""
    (text,) = re.findall(rf"^## {section}\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    (found,) = [found for found in blocks if found.startswith(start)]
    return found


class Copy:
    """A copy of the checkout that git watches, and a folder of the user's own beside it."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.own, self.home = folder / "copy", folder / "own", folder / "home"
        listed = git(CHECKOUT, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
        for name in filter(None, listed.split("\0")):
            if (CHECKOUT / name).is_file():  # else it is about to be removed
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, self.checkout / name)
        self.own.mkdir()
        git(self.checkout, "init", "--quiet")
        git(self.checkout, "add", "--all")

    def run(self, command: str, cwd: Path | None = None) -> str:
        """What a command printed; its own code is the copy's."""
        paths = [str(self.checkout), str(self.own / "site"), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            command,
            shell=True,
            cwd=cwd or self.own,
            env=environment(self.home)
            | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "100"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def changes(self) -> list[str]:
        """Files that are not as they were copied, as git tells it."""
        lines = git(self.checkout, "status", "--porcelain", "--untracked-files=all").splitlines()
        return [line for line in lines if not line.startswith("A  ")]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    if not (CHECKOUT / ".git").exists():
        pytest.skip("this is no git checkout")
    return Copy(tmp_path_factory.mktemp("added"))


def steps(printed: str) -> list[list[str]]:
    """State, kind and label of every step in a printed plan."""
    rows = [line.strip("│ ").split("│") for line in printed.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row[:3]] for row in rows]


def plan(copy: Copy, **changes: object) -> dict:
    path = copy.own / "changed.yaml"
    matrix = yaml.safe_load((copy.checkout / NANO).read_text(encoding="utf-8")) | changes
    path.write_text(yaml.safe_dump(matrix), encoding="utf-8")
    return json.loads(copy.run(f"harness plan {path} --json"))


def test_a_language_is_one_file_that_changes_nothing_else(copy: Copy) -> None:
    narrow = {"methods": [{"name": "maec", "scope": "language", "k1": 0.4}]}
    before, narrow_before = plan(copy), plan(copy, **narrow)
    assert copy.changes() == []
    printed = copy.run(block("Add a language", "bash"), cwd=copy.checkout)
    assert printed == block("Add a language", "text")
    assert copy.changes() == [LANGUAGE]

    (languages,) = yaml.safe_load(block("Add a language", "yaml")).values()
    assert plan(copy) == before  # the base's fingerprint and every corpus are as they were
    after = plan(copy, languages=languages, **narrow)
    assert {step["key"] for step in narrow_before["steps"]} < {s["key"] for s in after["steps"]}
    assert {cell["language"] for cell in after["cells"]} == {"en", *languages}
    passed = copy.run(
        "python -m pytest -q -p no:cacheprovider tests/harness/test_embedded_lexicon.py -k sw",
        cwd=copy.checkout,
    )
    assert re.search(r"\b\d+ passed", passed)


def test_a_baseline_is_one_file_and_a_model_a_few_lines_and_both_run(copy: Copy) -> None:
    if not copy.changes():
        copy.run(block("Add a language", "bash"), cwd=copy.checkout)
    code = block("Add a baseline", "python")
    (copy.checkout / "harness" / "methods" / "my_baseline.py").write_text(code, encoding="utf-8")
    assert copy.changes() == [LANGUAGE, BASELINE]
    assert len(code.splitlines()) <= 25
    shown = {name: block(f"Add a {name}", "yaml") for name in ("baseline", "model")}
    shutil.copytree(copy.checkout / "harness" / "embedded" / "base", copy.own / "models/my-base")
    for name, file in (("baseline", "mine.yaml"), ("model", "model.yaml")):
        (copy.own / file).write_text(shown[name], encoding="utf-8")
        printed = copy.run(block(f"Add a {name}", "bash"))
        assert steps(printed) == steps(block(f"Add a {name}", "text"))
    assert len(shown["model"].splitlines()) <= 10

    # all at once: the baseline, and one of another package, on the model, asked in the language
    config = copy.own / "models" / "my-base" / "config.json"
    longer = json.loads(config.read_text()) | {"max_position_embeddings": 4096}
    config.write_text(json.dumps(longer))
    install(copy.own / "site", "theirs", {"their-baseline": code.replace("= 0.5", "= 0.75")})
    matrix = yaml.safe_load(shown["model"]) | yaml.safe_load(shown["baseline"])
    matrix["methods"].append("their-baseline")
    (copy.own / "all.yaml").write_text(yaml.safe_dump(matrix), encoding="utf-8")
    copy.run("harness run all.yaml")
    rows = json.loads(copy.run("harness table all.yaml --json"))
    methods = ("base", "f-cpt-a", "my-baseline", "a quarter", "their-baseline")
    assert {(r["method"], r["language"]) for r in rows} == set(product(methods, ("en", "sw")))
    assert all(row["n"] == 12 and 0 <= row["score"] <= 1 for row in rows)
    merges = {row["model_path"] for row in rows} - {str(copy.own / "models" / "my-base")}
    assert len(merges) == 4
    with duckdb.connect(str(copy.home / "snapshot.duckdb"), read_only=True) as connection:
        ((versions,),) = connection.execute("SELECT versions FROM runs").fetchall()
    assert json.loads(versions)["theirs"] == "1.2"
    assert copy.changes() == [LANGUAGE, BASELINE]  # no run wrote into the project

"""What tests share: a home of their own, a matrix that ran, and where real questions may lie."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# before torch is imported: two processes of pytest share the cores, and threads that wait for each
# other take longer than one
os.environ.setdefault("OMP_NUM_THREADS", "1")

# a third of hypothesis' own number: the whole suite has to end in a quarter of an hour on two cores
settings.register_profile("project", max_examples=33)
settings.load_profile("project")

CHECKOUT = Path(__file__).parent.parent
NANO = "harness/matrices/nano.yaml"
REAL_DATA = CHECKOUT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that two processes end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty MAEC_HOME, beside no released sets."""
    folder = tmp_path / "home"
    monkeypatch.setenv("MAEC_HOME", str(folder))
    monkeypatch.setenv("MAEC_RESULTS", str(tmp_path / "results"))
    yield folder


def environment(home: Path) -> dict[str, str]:
    """For commands of the project; run by `make test`, they may start a make of their own."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return {
        **outer,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MAEC_HOME": str(home),
        # what `make matrix` runs
        "MATRIX": NANO,
    }


def make_matrix(home: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["make", "matrix"], cwd=CHECKOUT, env=environment(home), capture_output=True, text=True
    )


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a nano matrix that ran to its end, and its output as ``ran/stdout``.

    Side by side, the first process of pytest that needs it makes it for all of them.
    """
    together = "PYTEST_XDIST_WORKER" in os.environ
    shared = tmp_path_factory.getbasetemp().parent if together else tmp_path_factory.mktemp("ran")
    home = shared / "ran"
    with FileLock(shared / "ran.lock"):
        if not (home / "stdout").is_file():
            done = make_matrix(home)
            assert done.returncode == 0, done.stderr[-3000:]
            (home / "stdout").write_text(done.stdout, encoding="utf-8")
    return home


@pytest.fixture(scope="session")
def real_data() -> Path:
    """MGSM's and MSVAMP's files, which the project does not contain."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real MGSM and MSVAMP questions are not in {REAL_DATA}")
    return REAL_DATA

"""The campaign of ``make chaos`` in short: every process killed once, and what is cheap."""

import random
from signal import SIGKILL

import pytest

from tests.faults.environment import FAULTS, Skipped
from tests.faults.interruptions import INTERRUPTIONS, chain
from tests.faults.scene import Scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """An undisturbed run, on the engine that starts fastest."""
    made = Scene(tmp_path_factory.mktemp("faults") / "scene", "transformers", workers=1)
    made.prepare()
    return made


def test_a_run_whose_processes_are_interrupted_ends_with_the_undisturbed_table(
    scene: Scene,
) -> None:
    # each in the hardest way, and the terminal; a run goes on after those that come first
    hardest = [f for f in INTERRUPTIONS if f.number == SIGKILL or f.victim == "terminal"]
    faults = sorted(hardest, key=lambda fault: fault.ends_the_run)
    scene.faults.clear()
    chance = random.Random(2)
    for _ in faults:
        if left := faults[len(scene.faults) :]:
            chain(scene, chance, left)
    assert scene.faults == [fault.name for fault in faults]


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("store", "store.duckdb: cut short, complete"),
        ("store", "store.duckdb: bit flipped, complete"),
        ("store", "snapshot.duckdb: cut short, complete"),
        ("store", "snapshot.duckdb: deleted, complete"),
        ("disk", "read-only results"),
    ],
)
def test_a_fault_of_the_environment_is_survived(scene: Scene, family: str, name: str) -> None:
    try:
        FAULTS[family][name](scene, random.Random(1))
    except Skipped as error:
        pytest.skip(str(error))

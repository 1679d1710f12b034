"""The synthetic store that the leaderboard is measured on is one that a matrix could have left."""

from pathlib import Path

import pytest

from harness import bench_leaderboard as bench
from harness import store
from harness.home import snapshot_path


@pytest.fixture
def written(home: Path) -> Path:
    home.mkdir()
    bench.write(snapshot_path(), items=10)
    return home


def test_it_has_every_cell_with_all_its_items(written: Path) -> None:
    cells = bench.METHODS * len(bench.ABILITIES) * len(bench.LANGUAGES) * bench.SEEDS
    assert cells == 2000 and cells * bench.ITEMS == 1_000_000
    with store.reader() as connection:
        counts = connection.execute(
            "SELECT n, count(i.item), abs(score - avg(i.correct::INT)) < 1e-9 FROM cells c "
            "JOIN items i ON i.cell = c.key GROUP BY c.key, n, score"
        ).fetchall()
    assert counts == [(10, 10, True)] * cells


def test_the_read_functions_answer_from_it(written: Path) -> None:
    placed = store.placed()
    assert len(placed) == placed["cell"].nunique() == 2000
    assert placed[["score", "stderr", "known", "new"]].notna().all(axis=None)
    assert placed["embedded"].all() and set(placed["family"]) >= {"reference", "maec"}
    assert len(store.outcomes(bench.MATRIX)) == 20_000


def test_a_question_is_the_same_to_all_models_and_answers_differ(written: Path) -> None:
    with store.reader() as connection:
        prompts, outputs, right = connection.execute(
            "SELECT max(p), max(o), avg(c) FROM (SELECT count(DISTINCT prompt) AS p, "
            "count(DISTINCT output) AS o, avg(correct::INT) AS c FROM items GROUP BY id)"
        ).fetchone()
    assert prompts == 1 and outputs > 90 and 0.3 < right < 0.9

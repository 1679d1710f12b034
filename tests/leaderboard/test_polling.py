"""The leaderboard reads while a run writes: neither waits for the other, no half cell is shown."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import store
from tests.conftest import CHECKOUT
from tests.leaderboard.conftest import Open
from tests.leaderboard.looking import table
from tests.leaderboard.synthetic import Size, fill

SIZE = Size(methods=("base", "maec"), abilities=("math",), seeds=(0,), items=400)
EVERY = [(m, "math", code, 0) for m in SIZE.methods for code in SIZE.languages]

WRITE = """
import time
from harness import store
from tests.leaderboard.synthetic import score
from tests.leaderboard.test_polling import EVERY, SIZE
with store.writer() as writer:
    for row, place in enumerate(EVERY):
        score(writer, place, str(row), SIZE.items)
        writer.snapshot(now=True)
        writer.set_cell("synthetic", [row], str(row))
        writer.snapshot(now=True)
        time.sleep(0.3)
"""


def test_every_look_at_a_run_shows_complete_cells_alone(home: Path, opened: Open) -> None:
    fill(SIZE, missing=EVERY)
    run = subprocess.Popen(
        [sys.executable, "-c", WRITE], cwd=CHECKOUT, env={**os.environ, "MAEC_HOME": str(home)}
    )
    app, counts = opened(), []
    while run.poll() is None or not counts:
        ended = run.poll() is not None
        app.run()
        assert not app.exception and not app.error
        scored = store.placed().dropna(subset=["score"])
        if app.dataframe:
            shown = table(app).set_index("method")[list(SIZE.languages)]
            counts.append(int(shown.notna().sum().sum()))
            assert counts[-1] <= len(scored)
            known = scored.set_index(["method", "language"])["score"]
            for place, value in shown.stack().dropna().items():
                assert value == pytest.approx(100 * known[place])
        assert set(scored["n"]) <= {SIZE.items}
        if ended:
            break
        time.sleep(0.2)
    assert run.returncode == 0
    assert counts == sorted(counts)
    app.run()
    assert table(app)[list(SIZE.languages)].notna().all(axis=None)

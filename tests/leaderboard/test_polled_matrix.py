"""A leaderboard that is looked at by many while a matrix runs: neither disturbs the other."""

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from harness import live_status, store
from leaderboard import crowd, headless
from tests.conftest import CHECKOUT, NANO, environment

pytestmark = pytest.mark.slow

INCOMPLETE = """
    SELECT p.cell FROM placements p LEFT JOIN cells c ON c.key = p.cell
    LEFT JOIN (SELECT cell, count(*) AS items FROM items GROUP BY cell) i ON i.cell = p.cell
    WHERE p.cell IS NOT NULL AND (c.n IS NULL OR i.items IS NULL OR c.n <> i.items)
"""
STRAY = "SELECT cell FROM items WHERE cell NOT IN (SELECT key FROM cells)"


def looked_at(page) -> pd.DataFrame | None:
    """The ranking's first table, or None before there is one."""
    page.run()
    assert not page.exception, page.exception
    assert not page.error, [error.value for error in page.error]
    return page.dataframe[0].value.set_index("method") if page.dataframe else None


def visited(home: Path, run: subprocess.Popen) -> list[crowd.Seen]:
    """What visitors saw before the server was killed, and what others saw of the next one."""
    seen, port = [], headless.free_port()
    while run.poll() is None:
        with headless.serving(home, port=port) as server:
            seen.append(asyncio.run(crowd.look(server.address, sessions=6, seconds=8)))
            psutil.Process(server.pid).kill()
    return seen


def test_a_leaderboard_that_is_polled_sees_only_whole_cells_and_disturbs_no_run(
    home: Path, tmp_path: Path
) -> None:
    from streamlit.testing.v1 import AppTest

    # a part of nano is enough to see scores come, and takes half the time
    matrix = yaml.safe_load((CHECKOUT / NANO).read_text(encoding="utf-8"))
    matrix["methods"] = [m for m in matrix["methods"] if m in ("base", "f-cpt-l", "f-cpt-a")]
    (tmp_path / "part.yaml").write_text(yaml.safe_dump(matrix), encoding="utf-8")
    page = AppTest.from_file(str(CHECKOUT / "leaderboard" / "app.py"), default_timeout=60)
    counts, tables, statuses = [], [], []
    with (tmp_path / "said").open("w+b") as said, ThreadPoolExecutor(1) as visitors:
        run = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", "run", str(tmp_path / "part.yaml")],
            cwd=CHECKOUT, env=environment(home), stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        visits = visitors.submit(visited, home, run)
        try:
            while run.poll() is None:
                began = time.monotonic()
                counts.append(int(store.placed().get("score", pd.Series()).notna().sum()))
                with store.reader() as connection:
                    for query in (INCOMPLETE, STRAY) if connection else ():
                        assert connection.execute(query).fetchall() == []
                tables.append(looked_at(page))
                statuses.append(live_status.read(home))
                time.sleep(max(0.0, began + 1 - time.monotonic()))
        finally:
            run.kill()
        said.seek(0)
        assert run.wait() == 0, said.read().decode()[-3000:]

    for seen in visits.result():
        assert seen.seconds and not seen.errors and not seen.lost
    assert len(visits.result()) > 1  # a server that was killed came back

    # it was looked at while there was some of it, and what was there stayed
    assert counts == sorted(counts)
    final = store.placed()
    assert final["score"].notna().all()
    assert any(0 < count < len(final) for count in counts)

    # every score on the page was that of a whole cell
    own = final[(final["ability"] == "math") & (final["asked"] == "math")]
    expected = 100 * own.set_index(["method", "language"])["score"].unstack()
    for table in (table for table in tables if table is not None):
        shown = table[expected.columns]
        wanted = expected.loc[shown.index]
        assert (shown.isna() | ((shown - wanted).abs() < 1e-9)).all(axis=None)

    # and what the run said of itself went from its start to its end
    told = [status for status in statuses if status is not None]
    assert {status["state"] for status in told} <= {"running", "done"}
    for part in ("steps", "cells"):
        done = [status[part]["done"] for status in told]
        assert done == sorted(done) and len(set(done)) > 1
        assert len({status[part]["total"] for status in told}) == 1
    last = live_status.read(home)
    assert last["state"] == "done"
    assert last["cells"]["done"] == last["cells"]["total"] == len(final)

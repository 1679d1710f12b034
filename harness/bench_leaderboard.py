"""The leaderboard measured on a store of a million items: the first view, a filter, memory.

Each measurement runs in a process of its own, so that its memory and its imports are its own. The
store is synthetic: its sizes are realistic, its figures mean nothing.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console

from harness.home import CHECKOUT
from harness.store.schema import prepare

METHODS, SEEDS, ITEMS = 20, 5, 500
ABILITIES = ("math", "science")
LANGUAGES = ("en", "es", "zh", "bn", "te", "sw", "hi", "ar", "th", "ja")
MATRIX = "synthetic"
ROUNDS = 3

_PLACEMENTS = """
INSERT INTO placements
SELECT $matrix, row_number() OVER () - 1, '', method, 'Method ' || method, family, ability, ability,
    language, seed, md5(method || ability || seed), 'artifacts/' || md5(method || ability || seed),
    md5(method || ability || language || seed)
FROM (
    SELECT CASE i WHEN 0 THEN 'base' ELSE format('method-{:02}', i) END AS method,
        CASE i WHEN 0 THEN 'reference' ELSE ['training', 'merging', 'maec'][i % 3 + 1] END AS family
    FROM range($methods) r(i)), (SELECT unnest($abilities::VARCHAR[]) AS ability),
    (SELECT unnest($languages::VARCHAR[]) AS language), (SELECT i AS seed FROM range($seeds) s(i));
"""

_ITEMS = """
INSERT INTO items
SELECT p.cell, i, format('{}-{}-{}', p.ability, p.language, i),
    CASE i % 2 WHEN 0 THEN 'known' ELSE 'new' END,
    format('Question: {} {}. How many are {} and {}?\nAnswer:', names[i % 8 + 1],
        array_to_string([words[(hash(p.task, i, k) % 24)::INT + 1] FOR k IN range(8)], ' '),
        i % 97 + 2, i % 13 + 1),
    format(' {}. The answer is {}.',
        array_to_string([words[(hash(p.cell, i, k) % 24)::INT + 1] FOR k IN range(12)], ' '), said),
    said::VARCHAR, right_answer::VARCHAR, said = right_answer,
    CASE p.ability WHEN 'science' THEN ['stone', 'river', 'iron', 'light'] END,
    CASE p.ability WHEN 'science' THEN [-1.25 - chance, -2.5, -3.75 + chance, -4.0] END,
    CASE p.ability WHEN 'math' THEN json_object('strict', said::VARCHAR) END
FROM (
    SELECT p.*, i, p.ability || p.language AS task, i % 97 + 2 + i % 13 + 1 AS right_answer,
        hash(p.cell, i) % 1000 / 1000.0 AS chance,
        0.2 + 0.7 * (hash(p.method, p.ability) % 100) / 100 AS skill,
        right_answer + CASE WHEN chance < skill THEN 0 ELSE 1 + i % 5 END AS said,
        ['Asha', 'Bo', 'Carmen', 'Dmitri', 'ఎలీనా', '小芳', 'গীতা', 'Hugo'] AS names,
        string_split('there are many ships on a river of iron and light that las manzanas del '
            || 'mercado పుస్తకాలు వెలుగు নদীর জলে 苹果 放在 船上 vitabu vya mtoto', ' ') AS words
    FROM placements p, range($items) r(i)) p;
"""

_CELLS = """
INSERT INTO cells BY NAME
SELECT p.cell AS key, p.model_key, md5(p.model_key) AS fingerprint,
    p.ability || '_' || p.language AS task, '1.0' AS task_version, md5(task) AS task_data,
    'tasks/' || task AS task_path, 'exact_match' AS metric, 'none' AS filter, s.score,
    sqrt(s.score * (1 - s.score) / (s.n - 1)) AS stderr, s.n,
    json_object('exact_match,none', s.score) AS metrics, '{"kind": "vllm"}' AS engine,
    1.5 AS seconds, $matrix AS run_id, TIMESTAMPTZ '2025-01-01 00:00:00+00' AS created
FROM placements p JOIN (
    SELECT cell, avg(correct::INT) AS score, count(*) AS n
    FROM items GROUP BY cell) s USING (cell);
"""

_RUN = """
INSERT INTO runs BY NAME
SELECT $matrix AS run_id, $matrix AS matrix,
    json_object('name', $matrix, 'pivot', 'en', 'base', 'embedded') AS matrix_file,
    TIMESTAMPTZ '2025-01-01 00:00:00+00' AS started,
    TIMESTAMPTZ '2025-01-01 01:00:00+00' AS finished, 'done' AS status,
    '{}' AS versions, '{}' AS hardware;
"""

_ARTIFACTS = """
INSERT INTO artifacts BY NAME
SELECT DISTINCT model_key AS key, 'train' AS kind, method AS label,
    md5(model_key) AS fingerprint, model_path AS path,
    '{"inputs": {}, "seconds": 10.0, "bytes": 1000000}' AS manifest,
    TIMESTAMPTZ '2025-01-01 00:00:00+00' AS created
FROM placements;
"""


def measure(folder: Path, console: Console) -> dict[str, float]:
    """Seconds and peak memory (MiB) of reading, of the page's script, and in a browser.

    Medians of several rounds, each in a new process. The store is written below ``folder`` and
    removed again. Without a Chromium the browser's figures are left out.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        home = Path(scratch)
        began = time.monotonic()
        write(home / "snapshot.duckdb")
        size = (home / "snapshot.duckdb").stat().st_size
        items = METHODS * len(ABILITIES) * len(LANGUAGES) * SEEDS * ITEMS
        console.print(
            f"wrote a store of {items:,} items, {size / 1e6:.0f} MB, in "
            f"{time.monotonic() - began:.1f} s"
        )
        figures: dict[str, float] = {}
        for name in MEASURES:
            rounds = [_in_new_process(name, home) for _ in range(ROUNDS)]
            found = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            for key, value in found.items():
                console.print(f"  {name}: {key}: {value:.3g}")
            figures |= {f"{name}: {key}": value for key, value in found.items()}
    return figures


def _in_new_process(name: str, home: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "harness.bench_leaderboard", name],
        cwd=CHECKOUT,
        env={**os.environ, "MAEC_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"measuring {name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _read() -> dict[str, float]:
    """The read functions alone: all scores, and all verdicts of the matrix."""
    from harness import store

    figures = {
        "placed, first, s": _seconds(store.placed),
        "placed, again, s": _seconds(store.placed),
        "outcomes, s": _seconds(lambda: store.outcomes(MATRIX)),
    }
    return {**figures, "peak, MiB": _peak()}


def _script() -> dict[str, float]:
    """The ranking page's whole script by Streamlit's AppTest, tests of significance included."""
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_file(str(CHECKOUT / "leaderboard" / "app.py"), default_timeout=120)
    figures = {"first run, s": _seconds(page.run)}
    if page.exception or page.error or not page.dataframe:
        raise RuntimeError("the ranking page shows no table")

    def choose() -> None:
        page.selectbox(key="ability").select(ABILITIES[1]).run()

    figures["a new filter, s"] = _seconds(choose)
    page.selectbox(key="ability").select(ABILITIES[0]).run()
    figures["a filter that was seen, s"] = _seconds(choose)
    return {**figures, "peak, MiB": _peak()}


def _browser() -> dict[str, float]:
    """A new server and its first visitor, from the address to the table on the screen.

    Peak memory is the server's.
    """
    # harness knows leaderboard as a command only
    command = [sys.executable, "-m", "leaderboard.first_view", ABILITIES[1]]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode == 2:
        print(done.stderr.strip(), file=sys.stderr)
        return {}
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


MEASURES: dict[str, Callable[[], dict[str, float]]] = {
    "read": _read,
    "script": _script,
    "browser": _browser,
}


def _seconds(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(path: Path, *, items: int = ITEMS) -> None:
    """A store at ``path`` with 2,000 scored cells of ``items`` items, made by SQL alone."""
    given = {
        "matrix": MATRIX,
        "methods": METHODS,
        "abilities": list(ABILITIES),
        "languages": list(LANGUAGES),
        "seeds": SEEDS,
        "items": items,
    }
    with duckdb.connect(str(path)) as connection:
        prepare(connection, path)
        for query in (_PLACEMENTS, _ITEMS, _CELLS, _RUN, _ARTIFACTS):
            named = {name: value for name, value in given.items() if f"${name}" in query}
            connection.execute(query, named)


def main() -> None:
    """``NAME`` measures one thing here, on the store of MAEC_HOME; without it, all of them."""
    if len(sys.argv) > 1:
        print(json.dumps(MEASURES[sys.argv[1]]()))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), Console())


if __name__ == "__main__":
    main()

"""Every page opens, shows what the store holds, and says what to do where it holds nothing."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from harness import store
from harness.compared import compared
from maec.visible import visible
from tests.leaderboard.conftest import Open
from tests.leaderboard.looking import link, query, said, table
from tests.leaderboard.synthetic import PLANTED, Size, fill

PAGES = ("ranking", "map", "compare", "cost", "inside", "items", "reproduce", "live")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_without_an_error(snapshot: Path, opened: Open, name: str) -> None:
    app = opened(name)
    assert not app.exception and not app.error
    assert app.title[0].value


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_where_nothing_was_run(home: Path, opened: Open, name: str) -> None:
    app = opened(name)
    assert not app.exception
    assert "make matrix" in app.info[0].value


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_where_nothing_is_scored_yet(home: Path, opened: Open, name: str) -> None:
    size = Size(methods=("base", "maec"), abilities=("math",), languages=("en", "es"), seeds=(0,))
    every = [(m, "math", code, 0) for m in size.methods for code in size.languages]
    fill(size, missing=every)
    app = opened(name)
    assert not app.exception and not app.error


def test_a_snapshot_that_is_no_store_is_said_in_one_line(home: Path, opened: Open) -> None:
    home.mkdir()
    (home / "snapshot.duckdb").write_bytes(b"no store")
    app = opened()
    assert not app.exception
    assert "readable store" in app.error[0].value


def test_a_variant_is_chosen_and_stays_chosen_from_page_to_page(home: Path, opened: Open) -> None:
    fill(Size(items=12), variants=("small", "large"))
    app = opened(variant="large")
    assert "large" in said(app) and len(table(app)) == 5
    for name in PAGES[1:]:
        app.switch_page(f"views/{name}.py").run()
        assert not app.exception and not app.error
        assert link(app)["variant"] == ["large"]


def test_the_map_has_a_heat_map_for_each_ability_and_resource_level(
    snapshot: Path, opened: Open
) -> None:
    assert len(opened("map").get("vega_lite_chart")) == 2 * 3


def test_compare_gives_what_the_command_line_gives(snapshot: Path, opened: Open) -> None:
    app = opened("compare", a="maec", b="tv", of="science")
    expected = compared(["maec", "tv"], ability="science").summaries.iloc[0]
    assert app.metric[0].value == f"{expected['mean_a']:.1f}"
    assert f"p = {expected['p']:.2g}" in said(app)
    disagreements = expected["only_a"] + expected["only_b"]
    of_pivot = query(
        snapshot,
        """SELECT count(*) FROM items a JOIN items b ON b.id = a.id
           WHERE a.cell IN ('maec-science-en-0', 'maec-science-en-1')
             AND b.cell = replace(a.cell, 'maec', 'tv') AND a.correct <> b.correct""",
    )[0][0]
    assert f"of {disagreements + of_pivot} questions" in said(app)


def test_items_are_filtered_searched_and_paged(snapshot: Path, opened: Open) -> None:
    app = opened("items", method="maec", asked="math", language="te", verdict="wrong")
    wrong = query(
        snapshot,
        "SELECT count(*) FROM items WHERE NOT correct AND cell IN ('maec-math-te-0', "
        "'maec-math-te-1')",
    )[0][0]
    assert f"of {wrong} items" in said(app)
    app.text_input(key="text").input("<SCRIPT>").run()
    found = [text.value for text in app.text]
    assert found and all("script" in t for t in found if t.startswith("Q "))
    app.text_input(key="text").input("nowhere to be found").run()
    assert "No item is like that" in said(app)


def test_what_models_say_is_shown_as_text_alone(snapshot: Path, opened: Open) -> None:
    app = opened("items", method="maec", asked="math", language="es", seed="0")
    texts = [text.value for text in app.text]
    for planted in PLANTED:
        assert visible(planted) in texts
    assert not [text for text in texts if "\u202e" in text]
    read_as_markdown = [element.value for kind in (app.markdown, app.caption) for element in kind]
    assert not [value for value in read_as_markdown if any(p in value for p in PLANTED)]


def test_a_page_of_items_that_does_not_exist_any_more_is_the_last_one(
    snapshot: Path, opened: Open
) -> None:
    app = opened("items", method="maec", asked="math", language="es")
    app.number_input(key="page").set_value(3).run()
    assert "41–48 of 48" in said(app)
    app.selectbox(key="seed").select("0").run()
    assert not app.exception and "21–24 of 24" in said(app)


def test_inside_shows_tensors_curves_and_ablations(snapshot: Path, opened: Open) -> None:
    app = opened("inside", of="math")
    assert "1,200 of 9,000 parameters are key neurons (13.3 %)" in said(app)
    assert len(app.get("vega_lite_chart")) == 3
    assert "n = 4 dev items" in said(app)
    assert list(table(app, 2)["without"]) == ["maec-no-mask"]


def test_reproduce_names_everything_behind_a_score(snapshot: Path, opened: Open) -> None:
    app = opened(
        "reproduce",
        score_method="maec",
        score_ability="math",
        score_language="bn",
        score_seed="1",
    )
    words = said(app)
    for part in (
        "f-maec-math", "math_bn", "1.0", "vllm", "0" * 40, "a processor", "python 3.11",
        "harness run synthetic.yaml", "lm_eval run", "@misc{maec-run-1", "chen-etal-2025",
        "of the run run-1.",
    ):  # fmt: skip
        assert part in words
    assert list(table(app)["step"])[:2] == ["maec-math", "f-cpt-a-math"]


def begin_another_run() -> None:
    """A run of the same matrix, five minutes old, that has scored nothing yet."""
    with store.writer() as writer:
        run = {
            "run_id": "run-2", "matrix": "synthetic", "matrix_file": {},
            "started": datetime.now(UTC) - timedelta(minutes=5), "commit": None, "dirty": None,
            "versions": {}, "hardware": {},
        }  # fmt: skip
        writer.begin_run(run)
        writer.snapshot(now=True)


def status_of(run_id: str, **changes: object) -> dict[str, object]:
    """A live.json as this very process would have written it."""
    return {
        "run_id": run_id,
        "state": "running",
        "written": datetime.now(UTC).timestamp(),
        "seconds_left": 90.0,
        "steps": {"done": 1.0, "total": 4.0},
        "cells": {"done": 0, "total": 1},
        "working": [
            {"label": "f-cpt-a **math**", "done": 30, "total": 120, "unit": "step"},
            {"label": "fetch org/te", "done": 4_000_000_000, "total": 16e9, "unit": "byte"},
        ],
        "said": [{"at": 0, "kind": "made", "text": "<b>te</b>"}],
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
        **changes,
    }


@pytest.mark.parametrize("killed", [False, True])
def test_live_shows_what_the_run_itself_says(home: Path, opened: Open, killed: bool) -> None:
    fill(missing=[("maec", "science", "te", 1)])
    begin_another_run()
    # a process that started at another time than it says is another process
    gone = {"process_started": 1.0} if killed else {}
    (home / "live.json").write_text(json.dumps(status_of("run-2", **gone)), encoding="utf-8")
    app = opened("live")
    assert not app.exception
    if killed:
        assert "It was killed" in said(app) and not app.metric
    else:
        assert app.metric[-1].value.startswith("1 min ")
        assert any("<b>te</b>" in block.value for block in app.code)
        bars = [bar.proto.text for bar in app.get("progress")]
        assert any(bar.endswith("math\\*\\*: step 30 of 120") for bar in bars)
        assert any(bar.endswith("te: 4.0 GB of 16.0 GB") for bar in bars)


def test_live_shows_what_is_done_and_left_and_what_failed(home: Path, opened: Open) -> None:
    fill(missing=[("maec", "science", "te", 1)])
    begin_another_run()
    failure = {"what": "cell", "lasting": True, "run_id": "run-2", "created": datetime.now(UTC)}
    with store.writer() as writer:
        for key, label in (("k", "maec te"), ("l", "tv te")):
            writer.record_failure({**failure, "key": key, "label": label, "message": "<b>no</b>"})
        writer.forget_failures(["l"])
        writer.snapshot(now=True)
    app = opened("live")
    assert "**maec te**: \\<b\\>no" in said(app) and "tv te" not in said(app)
    assert [
        metric.value.rsplit(" ", 2)[0] if "min" in metric.value else metric.value
        for metric in app.metric
    ] == ["5 min", "1 cell", "not known yet"]
    assert "99 cells scored in" in said(app)

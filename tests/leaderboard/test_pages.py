"""Every page opens, shows what the store holds, and says what to do where it holds nothing."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import duckdb
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from harness import store
from harness.compared import compared
from harness.home import snapshot_path
from harness.store import view
from leaderboard import downloads, frames
from tests.leaderboard.conftest import Open
from tests.leaderboard.synthetic import PLANTED, RESPONSES, Size, fill, score

PAGES = ("ranking", "map", "compare", "cost", "inside", "items", "reproduce", "live")


def query(snapshot: Path, sql: str, *values: object) -> list[tuple]:
    with duckdb.connect(str(snapshot), read_only=True) as connection:
        return connection.execute(sql, list(values)).fetchall()


def table(app: AppTest, index: int = 0) -> pd.DataFrame:
    return app.dataframe[index].value


def said(app: AppTest) -> str:
    kinds = (app.caption, app.markdown, app.info, app.title, app.text, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def link(app: AppTest) -> dict[str, list[str]]:
    return parse_qs(urlsplit(app.code[-1].value).query)


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


def test_the_ranking_shows_the_stores_scores(snapshot: Path, opened: Open) -> None:
    shown = table(opened()).set_index("method")
    scores = query(
        snapshot,
        """SELECT p.method, p.language, 100 * avg(c.score) FROM placements p
           JOIN cells c ON c.key = p.cell WHERE p.ability = 'math' GROUP BY ALL""",
    )
    assert len(scores) == len(RESPONSES) * 5
    for method, language, stored in scores:
        assert shown.loc[method, language] == pytest.approx(stored)
    assert shown["against the best"].iloc[0] == "best"
    assert shown.loc["base", "against the best"] == "worse"
    assert shown.loc["base", "p"] < 0.05


def test_the_ranking_says_unit_n_and_uncertainty(snapshot: Path, opened: Open) -> None:
    words = said(opened())
    for part in ("Percent correct", "n = 24 items a cell", "standard error", "2 seeds"):
        assert part in words


def test_filters_change_the_table(snapshot: Path, opened: Open) -> None:
    app = opened()
    app.selectbox(key="ability").select("science").run()
    assert table(app)["es"].tolist() != table(opened())["es"].tolist()
    app.multiselect(key="family").select("merging").run()
    assert list(table(app)["method"]) == ["tv"]
    app.multiselect(key="family").unselect("merging").run()
    app.multiselect(key="resource").select("low").run()
    assert not {"es", "zh"} & set(table(app).columns)
    assert {"en", "bn", "te"} <= set(table(app).columns)
    app.text_input(key="search").input("no such method").run()
    assert "No row passes" in app.info[0].value


def test_a_reference_method_gets_a_column_of_differences(snapshot: Path, opened: Open) -> None:
    app = opened()
    app.selectbox(key="reference").select("tv").run()
    shown = table(app).set_index("method")
    expected = shown["targets"] - shown.loc["tv", "targets"]
    pd.testing.assert_series_equal(shown["Δ tv"], expected, check_names=False)


def test_the_average_over_abilities_is_defined_and_blank_in_an_incomplete_row(
    home: Path, opened: Open
) -> None:
    fill(missing=[("maec", "science", "te", 1)])
    app = opened()
    app.selectbox(key="ability").select("average over abilities").run()
    shown = table(app).set_index("method")
    assert pd.isna(shown.loc["maec", "targets"]) and pd.isna(shown.loc["maec", "te"])
    assert shown.loc["maec", "against the best"] == ""
    assert "2 abilities" in said(app) and "1 of 5 methods" in said(app)


def test_a_link_reproduces_the_view(snapshot: Path, opened: Open) -> None:
    app = opened()
    app.selectbox(key="ability").select("science").run()
    app.selectbox(key="reference").select("tv").run()
    app.multiselect(key="languages").select("bn").select("en").run()
    app.toggle(key="spread").set_value(True).run()
    again = opened(**link(app))
    pd.testing.assert_frame_equal(table(again), table(app))
    assert link(again) == link(app)


def test_downloads_equal_the_store(snapshot: Path, opened: Open, tmp_path: Path) -> None:
    rows = frames.chosen(frames.own(view.placed(snapshot, "synthetic"), ""), abilities=["math"])
    (tmp_path / "rows.parquet").write_bytes(downloads.parquet(rows))
    (tmp_path / "rows.csv").write_bytes(downloads.csv(rows))
    stored = dict(query(snapshot, "SELECT key, score FROM cells WHERE task LIKE 'math_%'"))
    for found in (
        pd.read_parquet(tmp_path / "rows.parquet"),
        pd.read_csv(tmp_path / "rows.csv"),
    ):
        assert dict(zip(found["cell"], found["score"], strict=True)) == stored
    buttons = opened().get("download_button")
    assert len(buttons) == 3


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
        assert planted in texts
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
    ):  # fmt: skip
        assert part in words
    assert list(table(app)["step"])[:2] == ["maec-math", "f-cpt-a-math"]


def test_live_shows_what_is_done_and_left(home: Path, opened: Open) -> None:
    fill(missing=[("maec", "science", "te", 1)])
    with store.writer() as writer:
        run = {
            "run_id": "run-2", "matrix": "synthetic", "matrix_file": {},
            "started": datetime.now(UTC) - timedelta(minutes=5), "commit": None, "dirty": None,
            "versions": {}, "hardware": {},
        }  # fmt: skip
        writer.begin_run(run)
        writer.snapshot(now=True)
    app = opened("live")
    assert [
        metric.value.rsplit(" ", 2)[0] if "min" in metric.value else metric.value
        for metric in app.metric
    ] == ["5 min", "1 cell", "not known yet"]
    assert "99 cells scored in" in said(app)


def test_a_new_snapshot_is_shown_at_the_next_look(home: Path, opened: Open) -> None:
    missing = ("maec", "math", "te", 1)
    fill(missing=[missing])
    app = opened()
    assert pd.isna(table(app).set_index("method").loc["maec", "te"])
    with store.writer() as writer:
        score(writer, missing, "new", 24)
        find = "SELECT row FROM placements WHERE cell IS NULL"
        writer.set_cell("synthetic", [query(snapshot_path(), find)[0][0]], "new")
        writer.snapshot(now=True)
    assert not pd.isna(table(app.run()).set_index("method").loc["maec", "te"])

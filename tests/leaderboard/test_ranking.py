"""The ranking shows the store's scores, filtered as asked, by a link, and as files."""

from pathlib import Path

import pandas as pd
import pytest

from harness import store
from harness.home import snapshot_path
from harness.store import view
from leaderboard import downloads, frames
from tests.leaderboard.conftest import Open
from tests.leaderboard.looking import link, query, said, table
from tests.leaderboard.synthetic import FAMILIES, RESPONSES, fill, score


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


def test_an_upper_reference_does_not_compete(
    home: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper = ("CPT on translated ability data", "upper-reference")
    monkeypatch.setitem(FAMILIES, "maec", upper)  # which has the most right answers here
    fill()
    shown = table(opened()).set_index("method")
    assert shown["targets"].idxmax() == "maec"
    assert shown.loc["maec", "against the best"] == "upper reference"
    assert pd.isna(shown.loc["maec", "p"]) and shown.loc["maec", "±"] > 0
    others = shown.drop("maec")
    assert others.loc[others["targets"].idxmax(), "against the best"] == "best"


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


@pytest.mark.parametrize(
    ("query", "methods", "columns"),
    [
        ({"seeds": "1"}, 5, 5),
        ({"family": ["maec", "merging"]}, 2, 5),
        ({"resource": "high", "runs": "run-1"}, 5, 3),
        ({"search": "arithmetic"}, 1, 5),
        ({"ability": "no such", "reference": "no such", "matrix": "no such", "seeds": "x"}, 5, 5),
    ],
)
def test_an_address_chooses_what_is_shown_and_nonsense_in_it_is_ignored(
    snapshot: Path, opened: Open, query: dict, methods: int, columns: int
) -> None:
    app = opened(**query)
    assert not app.exception and not app.error
    assert len(table(app)) == methods
    assert len({"en", "es", "zh", "bn", "te"} & set(table(app).columns)) == columns


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


def test_a_method_leads_to_the_pages_behind_its_row(snapshot: Path, opened: Open) -> None:
    app = opened(ability="science", reference="tv")
    app.selectbox(key="_look_into").select("maec-no-mask").run()
    links = {element.proto.label: element.proto.query_string for element in app.get("page_link")}
    assert "a=maec-no-mask" in links["Compare"] and "of=science" in links["Compare"]
    assert "method=maec-no-mask" in links["Items"]
    assert "score_ability=science" in links["Reproduce"]
    app.selectbox(key="_look_into").select("tv").run()
    assert len(app.get("page_link")) == 2

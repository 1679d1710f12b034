"""What pages read equals what plain SQL and pandas say of the same store."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness import store
from harness.home import snapshot_path
from harness.store import browse, view
from tests.leaderboard.synthetic import PLANTED, Size, fill

MISSING = ("maec", "science", "te", 1)
WANTED = browse.Wanted("synthetic")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAEC_HOME", str(tmp_path_factory.mktemp("view")))
        fill(missing=[MISSING])
        return snapshot_path()


@pytest.fixture(scope="module")
def everything(path: Path) -> pd.DataFrame:
    """All items with their placements."""
    with store.reader(path) as connection:
        return connection.execute(
            "SELECT p.*, i.* EXCLUDE (cell) FROM placements p JOIN items i ON i.cell = p.cell "
            "ORDER BY p.row, i.item"
        ).df()


def test_a_matrix_is_listed_with_what_it_is_and_how_much_of_it_is_scored(path: Path) -> None:
    (row,) = view.matrices(path).to_dict("records")
    assert (row["matrix"], row["pivot"], row["split"]) == ("synthetic", "en", "test")
    assert (row["base"], row["embedded"]) == ("embedded", True)
    assert (row["cells"], row["scored"]) == (100, 99)
    assert view.variants(path, "synthetic") == [""]
    assert view.variants(path, "none") == []


def test_placements_are_those_that_reports_read_and_name_run_and_fingerprint(path: Path) -> None:
    ours, theirs = view.placed(path, "synthetic"), store.placed(path)
    same = [column for column in ours if column in theirs]
    assert set(ours) - set(same) == {"run_id", "fingerprint"}
    pd.testing.assert_frame_equal(ours[same], theirs[same])
    assert ours["run_id"].isna().sum() == 1
    assert view.placed(path, "none").empty


def test_answers_are_averaged_over_seeds(path: Path, everything: pd.DataFrame) -> None:
    found = view.answers(path, "synthetic", "", ["math"], ["es", "te"], [0, 1])
    keys = ["method", "ability", "language"]
    own = everything[(everything["ability"] == "math") & everything["language"].isin(["es", "te"])]
    expected = own.groupby([*keys, "id"])["correct"].agg(["mean", "size"])
    assert len(found) == len(expected) == len(found.drop_duplicates([*keys, "item"]))
    # items are hashes: which is which shows in how often they were right, over all places
    for got, name in ((found["correct"], "mean"), (found["seeds"], "size")):
        assert sorted(got) == pytest.approx(sorted(expected[name]))
    by_place = found.astype({key: str for key in keys}).groupby(keys)["correct"].mean()
    pd.testing.assert_series_equal(by_place, own.groupby(keys)["correct"].mean())
    by_item = found.groupby("item")["correct"].mean()
    assert sorted(by_item) == pytest.approx(sorted(own.groupby("id")["correct"].mean()))
    one = view.answers(path, "synthetic", "", ["math"], ["es"], [1])
    assert set(one["seeds"]) == {1}


def test_manifests_go_down_to_the_base(path: Path) -> None:
    assert set(view.manifests(path, ["maec-math"])) == {"maec-math", "f-cpt-a-math"}
    assert view.manifests(path, ["never made"]) == {}


def test_a_score_comes_with_the_run_that_made_it(path: Path) -> None:
    found = view.provenance(path, "maec-math-es-0")
    assert found["task"] == "math_es" and found["engine"]["kind"] == "vllm"
    assert found["run"]["commit"] == "0" * 40 and found["run"]["hardware"]["cores"] == 2
    assert view.provenance(path, "none") is None


def test_progress_says_what_is_placed_and_scored(path: Path) -> None:
    (run,) = view.progress(path)
    assert (run["status"], run["placed"], run["scored"], run["cells"]) == ("done", 100, 99, 99)


def test_nothing_is_there_before_the_first_run(tmp_path: Path) -> None:
    path = tmp_path / "none.duckdb"
    assert view.matrices(path).empty and view.placed(path, "m").empty
    assert view.progress(path) == [] and view.provenance(path, "c") is None
    assert browse.count(path, WANTED) == 0 and browse.page(path, WANTED, 10).empty
    assert browse.disagreements(path, WANTED, "a", "b", 10)[0] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "maec"},
        {"ability": "math", "asked": "math", "language": "bn", "seed": 1},
        {"verdict": "wrong", "method": "tv"},
        {"verdict": "right", "language": "te"},
        {"text": "<SCRIPT>"},
        {"text": "100%"},
        {"text": "' OR 1 = 1 --"},
        {"method": "' OR 1 = 1 --"},
    ],
)
def test_items_are_filtered_as_pandas_filters_them(
    path: Path, everything: pd.DataFrame, changes: dict
) -> None:
    wanted = replace(WANTED, **changes)
    expected = everything
    for name, value in changes.items():
        if name == "verdict":
            expected = expected[expected["correct"] == (value == "right")]
        elif name == "text":
            texts = expected["prompt"] + "\n" + expected["output"] + "\n" + expected["gold"]
            expected = expected[texts.str.contains(value, case=False, regex=False)]
        else:
            expected = expected[expected[name] == value]
    assert browse.count(path, wanted) == len(expected)
    pages = [browse.page(path, wanted, 700, offset) for offset in range(0, len(expected), 700)]
    if pages:
        found = pd.concat(pages)
        for name in ("method", "language", "seed", "item", "prompt", "output"):
            assert list(found[name]) == list(expected[name])


def test_texts_come_back_character_by_character(path: Path) -> None:
    outputs = set(browse.page(path, replace(WANTED, method="maec"), 48)["output"])
    assert outputs == set(PLANTED)


@pytest.mark.parametrize("who", [None, "a", "b"])
def test_disagreements_are_those_that_pandas_finds(
    path: Path, everything: pd.DataFrame, who: str | None
) -> None:
    wanted = replace(WANTED, variant="", ability="math", verdict=who)
    total, found = browse.disagreements(path, wanted, "maec", "tv", 1000)
    own = everything[everything["ability"] == "math"]
    keys = ["language", "seed", "id"]
    both = own[own["method"] == "maec"].merge(own[own["method"] == "tv"], on=keys)
    both = both[both["correct_x"] != both["correct_y"]]
    if who:
        both = both[both["correct_x"] == (who == "a")]
    assert total == len(found) == len(both) > 0
    assert list(found["id"]) == list(both["id"])
    assert list(found["right"]) == ["a" if right else "b" for right in both["correct_x"]]
    _, second = browse.disagreements(path, wanted, "maec", "tv", 5, 5)
    assert list(second["id"]) == list(both["id"])[5:10]


def test_a_cell_that_is_not_scored_has_no_answers(path: Path) -> None:
    method, ability, language, seed = MISSING
    wanted = replace(WANTED, method=method, ability=ability, language=language, seed=seed)
    assert browse.count(path, wanted) == 0


def test_a_matrix_of_one_cell_works_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAEC_HOME", str(tmp_path))
    fill(Size(("base",), ("math",), ("es",), (0,), 2))
    assert len(view.placed(snapshot_path(), "synthetic")) == 1

"""What pages compute from the store's rows, against pandas and numpy done another way."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import frames


def placed(scores: dict[tuple, float | None], ability: str = "math") -> pd.DataFrame:
    """Rows by (method, language, seed)."""
    return pd.DataFrame(
        [
            {
                "variant": "", "method": method, "title": f"The {method}", "family": "merging",
                "language": language, "seed": seed, "ability": ability, "asked": ability,
                "score": np.nan if score is None else score,
                "stderr": np.nan if score is None else 0.04, "n": 25, "run_id": f"r{seed}",
                "known": np.nan if language == "en" or score is None else score,
                "new": np.nan if language == "en" or score is None else score / 2,
            }
            for (method, language, seed), score in scores.items()
        ]
    )  # fmt: skip


FULL = {
    ("base", "en", 0): 0.5, ("base", "es", 0): 0.0, ("base", "te", 0): 0.2,
    ("maec", "en", 0): 1.0, ("maec", "es", 0): 0.6, ("maec", "te", 0): 0.8,
}  # fmt: skip
TWO = {**FULL, **{(m, lang, 1): score / 2 for (m, lang, _), score in FULL.items()}}


def test_the_mean_is_over_targets_alone_and_the_delta_is_to_the_base() -> None:
    table = frames.ranking(placed(FULL), "en")
    assert table.loc["maec", "targets"] == pytest.approx(70)
    assert table.loc["maec", "Δ base"] == pytest.approx(60)
    assert table.loc["maec", "known"] == pytest.approx(70)
    assert table.loc["maec", "new"] == pytest.approx(35)
    assert list(table.index) == ["maec", "base"]


def test_a_delta_can_be_to_any_method_and_is_left_out_where_that_is_not_shown() -> None:
    table = frames.ranking(placed(FULL), "en", ("base", "maec", "tv"))
    assert table.loc["base", "Δ maec"] == pytest.approx(-60)
    assert "Δ tv" not in table


def test_a_row_with_a_missing_cell_has_no_mean_and_comes_last() -> None:
    table = frames.ranking(placed({**FULL, ("maec", "te", 0): None}), "en")
    assert np.isnan(table.loc["maec", ["te", "targets", "Δ base"]].astype(float)).all()
    assert table.loc["maec", "es"] == pytest.approx(60)
    assert table.loc["base", "targets"] == pytest.approx(10)
    assert list(table.index) == ["base", "maec"]


def test_a_cell_that_was_never_placed_leaves_no_mean_either() -> None:
    without = {place: score for place, score in FULL.items() if place != ("maec", "te", 0)}
    assert np.isnan(frames.means(placed(without), "en").loc["maec", "targets"])


def test_a_cell_is_missing_while_one_of_its_seeds_is() -> None:
    assert frames.by_language(placed(TWO)).loc["maec", "es"] == pytest.approx(45)
    one_less = {**TWO, ("maec", "es", 1): None}
    assert np.isnan(frames.by_language(placed(one_less)).loc["maec", "es"])
    assert np.isnan(frames.spread(placed(one_less)).loc["maec", "es"])


def test_the_deviation_is_that_of_the_seeds_means() -> None:
    rows = placed(TWO)
    assert frames.means(rows, "en").loc["maec", "deviation"] == pytest.approx(
        np.std([70, 35], ddof=1)
    )
    assert frames.spread(rows).loc["maec", "es"] == pytest.approx(np.std([60, 30], ddof=1))
    assert frames.spread(placed(FULL)).loc["maec", "es"] == pytest.approx(4)
    assert np.isnan(frames.means(placed(FULL), "en").loc["maec", "deviation"])


def test_an_average_over_abilities_is_the_mean_of_their_means_and_blank_where_one_is_not() -> None:
    science = placed({place: 1.0 for place in FULL}, "science")
    both = pd.concat([placed(FULL), science])
    assert frames.ranking(both, "en").loc["maec", "targets"] == pytest.approx((70 + 100) / 2)
    assert frames.spread(both).loc["maec", "es"] == pytest.approx(100 * np.sqrt(2 * 0.04**2) / 2)
    science.loc[science["method"] == "maec", "score"] = np.nan
    blank = frames.ranking(pd.concat([placed(FULL), science]), "en")
    assert np.isnan(blank.loc["maec", ["es", "targets"]].astype(float)).all()
    assert blank.loc["base", "targets"] == pytest.approx((10 + 100) / 2)


def test_random_scores_give_the_means_that_numpy_gives() -> None:
    rng = np.random.default_rng(0)
    shape = {"m1": 0, "m2": 1, "m3": 2}
    values = rng.random((3, 3, 4))
    scores = {
        (method, language, seed): values[i, j, seed]
        for method, i in shape.items()
        for j, language in enumerate(("en", "bn", "te"))
        for seed in range(4)
    }
    table = frames.ranking(placed(scores), "en")
    for method, i in shape.items():
        assert table.loc[method, "targets"] == pytest.approx(100 * values[i, 1:].mean())
        assert table.loc[method, "bn"] == pytest.approx(100 * values[i, 1].mean())
        deviation = 100 * values[i, 1:].mean(axis=0).std(ddof=1)
        assert table.loc[method, "deviation"] == pytest.approx(deviation)
    assert list(table["targets"]) == sorted(table["targets"], reverse=True)


def test_rows_and_columns_keep_the_order_of_the_matrix() -> None:
    table = frames.by_language(placed(FULL))
    assert list(table.index) == ["base", "maec"]
    assert list(table.columns) == ["en", "es", "te"]


def test_filters_narrow_and_an_empty_filter_does_not() -> None:
    rows = placed(TWO)
    assert len(frames.chosen(rows)) == len(rows)
    assert set(frames.chosen(rows, languages=["es"], seeds=[1])["language"]) == {"es"}
    assert set(frames.chosen(rows, search="THE MAEC")["method"]) == {"maec"}
    assert frames.chosen(rows, search="(").empty
    assert frames.chosen(rows, families=["maec"]).empty


def test_scores_of_other_runs_are_missing_and_not_averaged_away() -> None:
    of_one = frames.chosen(placed(TWO), runs=["r0"])
    assert np.isnan(frames.means(of_one, "en").loc["maec", "targets"])
    assert frames.chosen(placed(TWO), runs=["r9"]).empty


def test_forgetting_is_no_part_of_accuracy() -> None:
    rows = placed(FULL)
    asked = rows.assign(asked="text", score=3.0)
    assert len(frames.own(pd.concat([rows, asked]), "")) == len(rows)


def test_long_has_every_cell_once_with_its_resource_level_and_size() -> None:
    found = frames.long(placed({**TWO, ("maec", "te", 1): None}))
    assert len(found) == 6
    by_place = found.set_index(["method", "language"])
    assert by_place.loc[("maec", "es"), "accuracy"] == pytest.approx(45)
    assert np.isnan(by_place.loc[("maec", "te"), "accuracy"])
    assert list(by_place.loc["base", "resource"]) == ["pivot", "high", "low"]
    assert set(found["n"]) == {25}


def test_a_language_without_a_file_has_an_unknown_resource_level() -> None:
    assert frames.resource("xx") == "unknown"

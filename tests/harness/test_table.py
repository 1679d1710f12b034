"""Tables average honestly: over seeds, over targets, and never over an incomplete row."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import frames


def placed(scores: dict[tuple[str, str, int], float | None]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "method": method,
                "language": language,
                "seed": seed,
                "ability": "math",
                "score": np.nan if score is None else score,
                "known": np.nan if language == "en" or score is None else score,
                "new": np.nan if language == "en" or score is None else score / 2,
            }
            for (method, language, seed), score in scores.items()
        ]
    )


FULL = {
    ("base", "en", 0): 0.5, ("base", "es", 0): 0.0, ("base", "te", 0): 0.2,
    ("maec", "en", 0): 1.0, ("maec", "es", 0): 0.6, ("maec", "te", 0): 0.8,
}  # fmt: skip


def test_the_mean_is_over_targets_alone_and_the_delta_is_to_the_base() -> None:
    table = frames.summary(placed(FULL), "math", "en")
    assert table.loc["maec", "targets"] == pytest.approx(70)
    assert table.loc["maec", "Δ base"] == pytest.approx(60)
    assert table.loc["maec", "known"] == pytest.approx(70)
    assert table.loc["maec", "new"] == pytest.approx(35)


def test_a_row_with_a_missing_cell_has_no_mean() -> None:
    table = frames.summary(placed({**FULL, ("maec", "te", 0): None}), "math", "en")
    assert np.isnan(table.loc["maec", "te"])
    assert np.isnan(table.loc["maec", "targets"])
    assert np.isnan(table.loc["maec", "Δ base"])
    assert table.loc["base", "targets"] == pytest.approx(10)


def test_a_cell_is_missing_while_one_of_its_seeds_is() -> None:
    two = {**FULL, **{(m, lang, 1): score for (m, lang, _), score in FULL.items()}}
    assert frames.accuracy(placed(two), "math").loc["maec", "es"] == pytest.approx(60)
    two["maec", "es", 1] = None
    assert np.isnan(frames.accuracy(placed(two), "math").loc["maec", "es"])


def test_rows_and_columns_keep_the_order_of_the_matrix() -> None:
    table = frames.accuracy(placed(FULL), "math")
    assert list(table.index) == ["base", "maec"]
    assert list(table.columns) == ["en", "es", "te"]

"""Others' numbers stand apart: in no test, in no download, and in the ranking only when asked."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from leaderboard import static
from tests.harness.test_reported import FILE
from tests.leaderboard import synthetic
from tests.leaderboard.conftest import Open
from tests.leaderboard.looking import link, said, table

NAME = "A <b>system</b> & more"
VALUES = {"en": 99.0, "es": 98.0, "zh": 97.0, "bn": 96.0, "te": 95.5, "sw": 94.5}


@pytest.fixture
def others(home: Path, tmp_path: Path) -> Path:
    """Two systems that are better than all that is measured, one of them in some languages only."""
    folder = tmp_path / "results" / "reported"
    folder.mkdir(parents=True)
    row = {"system": NAME, "setting": "direct", "where": "Table 3", "values": VALUES}
    some = {**row, "system": "Another", "values": {"es": 100.0, "sw": 1.0}}
    content = {**FILE, "n": 250, "numbers": [row, some]}
    (folder / "a.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.fixture
def of_a_real_base(others: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = synthetic._run

    def run(size: synthetic.Size) -> dict:
        found = begin(size)
        return {**found, "matrix_file": {**found["matrix_file"], "base": "models/llama"}}

    monkeypatch.setattr(synthetic, "_run", run)
    synthetic.fill()


def test_they_have_a_table_of_their_own_below_the_ranking(others: Path, opened: Open) -> None:
    synthetic.fill()
    app = opened()
    assert len(app.dataframe) == 1 and app.expander[0].label == "Reported by others (2 systems)"
    app.session_state["_others"] = True
    app.run()
    assert len(table(app)) == len(synthetic.RESPONSES)
    shown = table(app, 1).set_index("system")
    assert list(shown.index) == [NAME, "Another"]
    for language in ("en", "es", "zh", "bn", "te"):  # those of the matrix
        assert shown.loc[NAME, language] == VALUES[language]
    assert "sw" not in shown and pd.isna(shown.loc["Another", "te"])
    assert shown.loc[NAME, "source"] == "A 2022, Table 3" and shown.loc[NAME, "n"] == 250
    assert "none of it was run here" in said(app) and "In percent (accuracy) on MGSM" in said(app)
    app.selectbox(key="ability").select("science").run()
    assert len(app.dataframe) == 1


def test_nobody_else_asked_the_embedded_worlds_questions(others: Path, opened: Open) -> None:
    synthetic.fill()
    app = opened(reported="true")
    assert "reported" not in [toggle.key for toggle in app.toggle]
    assert NAME not in " ".join(table(app)["method"])


def test_asked_for_they_are_grey_rows_that_never_compete(
    of_a_real_base: None, opened: Open
) -> None:
    app = opened()
    before = table(app)
    app.toggle(key="reported").set_value(True).run()
    after = table(app)
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before, check_dtype=False)
    added = after.iloc[len(before) :].set_index("method")
    name = f"{NAME}, direct (MGSM)"
    assert list(added.index) == [name, "Another, direct (MGSM)"]
    assert added.loc[name, "targets"] == pytest.approx((98 + 97 + 96 + 95.5) / 4)
    assert pd.isna(added.iloc[1]["targets"])  # never a mean over what happens to be there
    assert set(added["against the best"]) == {""} and added["p"].isna().all()
    assert set(added["family"]) == {"reported by others"}
    assert before.loc[before["targets"].idxmax(), "against the best"] == "best"
    assert table(opened(**link(app))).equals(after)
    app.selectbox(key="ability").select("average over abilities").run()
    assert len(table(app)) == len(before)


def test_a_file_that_is_wrong_is_said_and_the_ranking_stays(others: Path, opened: Open) -> None:
    synthetic.fill()
    (others / "b.yaml").write_text("source: {}", encoding="utf-8")
    app = opened()
    assert not app.exception and "b\\.yaml" in app.error[0].value
    assert len(table(app)) == len(synthetic.RESPONSES)


def test_the_static_page_has_them_apart_and_escaped(others: Path, home: Path) -> None:
    synthetic.fill()
    text = static.page(home / "snapshot.duckdb")
    measured, apart = text.split("<h2>Reported by others</h2>")
    assert "A &lt;b&gt;system&lt;/b&gt; &amp; more" in apart and "&amp; more" not in measured
    assert 'data-value="95.5"' in apart and "Table 3" in apart and "<td>250</td>" in apart

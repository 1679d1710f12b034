"""Costs from the store alone are those that the plan gives, and the front is what none beats."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from harness.cost import costs as planned
from harness.home import snapshot_path
from harness.plan import make_plan
from harness.report.facts import Facts
from harness.spec import load_matrix
from leaderboard.costs import added_language, costs, front
from leaderboard.facts import facts
from leaderboard.shell import View
from tests.conftest import CHECKOUT, NANO


@pytest.mark.slow
def test_costs_are_those_of_the_command_line(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAEC_HOME", str(ran))
    expected = planned(make_plan(load_matrix(CHECKOUT / NANO)))["methods"]
    view = View("", snapshot_path(), "nano", "", "en", "test", "embedded", True)
    known = facts(view)
    ours = costs(known, "", "en").set_index("method")
    added = added_language(known, "", ["es", "zh", "bn", "te"]).set_index("method")
    assert set(ours.index) == set(expected)
    for method, theirs in expected.items():
        assert ours.loc[method, "accuracy"] == pytest.approx(100 * theirs["accuracy"])
        for name in ("tokens", "flops", "seconds", "bytes"):
            assert ours.loc[method, name] == pytest.approx(theirs[name]), (method, name)
            if theirs["added_language"] is not None and method in added.index:
                assert added.loc[method, name] == pytest.approx(theirs["added_language"][name]), (
                    method,
                    name,
                )


@pytest.mark.slow
def test_every_page_opens_on_a_matrix_that_ran(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAEC_HOME", str(ran))
    app = AppTest.from_file(str(CHECKOUT / "leaderboard" / "app.py"), default_timeout=120).run()
    for name in ("ranking", "map", "compare", "cost", "inside", "items", "reproduce", "live"):
        app.switch_page(f"views/{name}.py").run()
        assert not app.exception and not app.error, name


def test_what_is_not_known_of_a_step_is_no_cost_of_nothing() -> None:
    placed = pd.DataFrame(
        {
            "matrix": "m", "variant": "", "method": ["f-cpt-a", "tv"], "family": "merging",
            "title": "", "ability": "math", "asked": "math", "language": "es", "seed": 0,
            "model_key": ["trained", "merged"], "score": 0.5, "stderr": 0.1, "known": np.nan,
            "new": np.nan,
        }
    )  # fmt: skip
    manifest = {
        "kind": "train", "inputs": {"base": "b"}, "tokens": 10, "parameters": 2, "seconds": 1.0,
        "bytes": 5, "corpora": [{"language": "en"}],
    }  # fmt: skip
    known = Facts("m", "en", placed, pd.DataFrame(), [], [], {"trained": manifest})
    added = added_language(known, "", ["es"]).set_index("method")
    assert list(added.loc["f-cpt-a"]) == [0, 0, 0, 0]
    assert added.loc["tv"].isna().all()
    whole = costs(known, "", "en").set_index("method")
    assert whole.loc["f-cpt-a", "flops"] == 6 * 2 * 10
    assert np.isnan(whole.loc["tv", "flops"])


def test_the_front_is_what_no_other_point_beats() -> None:
    rng = np.random.default_rng(1)
    points = pd.DataFrame({"flops": rng.integers(0, 9, 40), "accuracy": rng.integers(0, 9, 40)})
    points.loc[3, "accuracy"] = np.nan
    found = front(points, "flops")
    for index, point in points.iterrows():
        beaten = any(
            other["flops"] <= point["flops"]
            and other["accuracy"] >= point["accuracy"]
            and tuple(other) != tuple(point)
            for _, other in points.dropna().iterrows()
        )
        assert found[index] == (not beaten and not np.isnan(point["accuracy"]))

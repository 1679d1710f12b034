"""Tests of a whole ranking agree with those of single pairs, with scipy, and with enumeration."""

import itertools

import numpy as np
import pandas as pd
import pytest

from harness import compare, ranked


def answers(wide: dict[tuple[str, str], np.ndarray], seeds: int = 1) -> pd.DataFrame:
    """Rows from shares of right seeds by (method, language); ids are shared by languages."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "method": method, "ability": "math", "language": language,
                    "item": [f"i{number}" for number in range(len(correct))],
                    "correct": np.asarray(correct, dtype=float), "seeds": seeds,
                }
            )
            for (method, language), correct in wide.items()
        ]
    )  # fmt: skip


def seed_means(found: pd.DataFrame) -> pd.DataFrame:
    by_language = found.groupby(["method", "language"])["correct"].mean()
    return by_language.groupby("method").mean().to_frame(0)


def against(found: pd.DataFrame, best: str) -> pd.DataFrame:
    wide = ranked.spread_out(found)
    return ranked.against(wide, best, seed_means(found)).set_index("method")


def drawn(methods: dict[str, float], items: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    hard = {language: rng.random(items) for language in ("es", "te")}
    return answers(
        {
            (method, language): 0.5 * hard[language] + 0.5 * rng.random(items) < right
            for method, right in methods.items()
            for language in hard
        }
    )


def test_p_and_difference_are_those_of_comparing_each_pair() -> None:
    methods = {"a": 0.75, "b": 0.7, "c": 0.6, "d": 0.35}
    found = drawn(methods)
    ours = against(found, "a")
    outcomes = found.assign(matrix="m", variant="", seed=0, correct=found["correct"] > 0)
    theirs = compare.summaries(outcomes, [("a", other) for other in "bcd"], "en").set_index("b")
    for other in "bcd":
        p = theirs.loc[other, "p"]
        # two random p of 9,999 draws each: four standard errors of their difference
        close = 4 * np.sqrt(2 * p * (1 - p) / compare.RESAMPLES) + 2e-4
        assert abs(ours.loc[other, "p"] - p) <= close
        assert ours.loc[other, "difference"] == pytest.approx(theirs.loc[other, "difference"])
    assert ours.loc["d", "worse"] and theirs.loc["d", "verdict"] == "wins"


def test_with_few_questions_p_is_that_of_all_sign_flips() -> None:
    a, b = np.array([1, 1, 1, 1, 0, 1.0]), np.array([0, 0, 1, 0, 1, 0.0])
    ours = against(answers({("a", "es"): a, ("b", "es"): b}), "a")
    flips = np.array(list(itertools.product([1, -1], repeat=6))) @ (a - b)
    assert ours.loc["b", "p"] == pytest.approx(np.mean(np.abs(flips) >= abs((a - b).sum())))


def test_holm_covers_the_methods_that_are_shown() -> None:
    from statsmodels.stats.multitest import multipletests

    ours = against(drawn({"a": 0.75, "b": 0.6, "c": 0.55, "d": 0.5}), "a")
    np.testing.assert_allclose(ours["p_holm"], multipletests(ours["p"], method="holm")[1])


def test_a_method_is_worse_only_if_it_is_below_the_best_in_every_seed() -> None:
    found = drawn({"a": 0.8, "b": 0.3})
    wide = ranked.spread_out(found)
    seeds = pd.DataFrame({0: [0.9, 0.1], 1: [0.4, 0.5]}, index=["a", "b"])
    assert not ranked.against(wide, "a", seeds)["worse"].iloc[0]
    seeds[1] = [0.5, 0.4]
    assert ranked.against(wide, "a", seeds)["worse"].iloc[0]


def test_a_method_that_was_asked_other_items_is_left_out() -> None:
    found = drawn({"a": 0.8, "b": 0.3, "c": 0.5})
    found = found[~((found["method"] == "b") & (found["item"] == "i3"))]
    assert list(against(found, "a").index) == ["c"]


def test_equal_answers_are_never_worse() -> None:
    same = np.array([1, 0, 1, 1.0])
    found = answers({(method, "es"): same for method in ("a", "b")})
    assert against(found, "a").loc["b", "p"] == 1
    assert not against(found, "a").loc["b", "worse"]


@pytest.mark.parametrize("translated", [True, False])
def test_standard_errors_are_those_of_the_mean_over_questions(translated: bool) -> None:
    rng = np.random.default_rng(4)
    es, te = (rng.random((2, 50)) < 0.6).astype(float)
    found = answers({("a", "es"): es, ("a", "te"): te})
    if not translated:
        found["item"] = found["language"] + found["item"]
    error = ranked.standard_errors(ranked.spread_out(found))["a"]
    if translated:
        expected = ((es + te) / 2).std(ddof=1) / np.sqrt(50)
    else:
        expected = np.sqrt(es.var(ddof=1) / 50 + te.var(ddof=1) / 50) / 2
    assert error == pytest.approx(expected)

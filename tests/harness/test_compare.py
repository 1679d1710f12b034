"""Comparisons agree with scipy, with enumeration and with what was planted; and claim no more."""

import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness import cli, compare, store
from harness.home import snapshot_path
from maec.errors import InputError
from tests.harness.test_store import cell, items

Answers = Mapping[tuple[str, str, int], np.ndarray]


def outcomes(answers: Answers, ability: str = "math", parallel: bool = False) -> pd.DataFrame:
    """Rows from verdicts by (method, language, seed); ids tell languages apart unless parallel."""
    frames = [
        pd.DataFrame(
            {
                "matrix": "m",
                "method": method,
                "ability": ability,
                "language": language,
                "seed": seed,
                "item": [f"{'' if parallel else language}{i}" for i in range(len(correct))],
                "correct": np.asarray(correct, dtype=bool),
            }
        )
        for (method, language, seed), correct in answers.items()
    ]
    return pd.concat(frames, ignore_index=True)


def from_counts(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


def drawn(rng: np.random.Generator, shape: tuple[int, ...], only_a: float, only_b: float):
    """Verdicts of A and B where each alone is right with the given probabilities."""
    kind = rng.choice(4, size=shape, p=[0.6, only_a, only_b, 0.4 - only_a - only_b])
    return np.isin(kind, [0, 1]), np.isin(kind, [0, 2])


def one(answers: Answers, parallel: bool = False) -> pd.Series:
    return compare.summaries(outcomes(answers, parallel=parallel), [("a", "b")], "en").iloc[0]


def two_languages(rng: np.random.Generator, sizes: tuple[int, int] = (80, 40)) -> Answers:
    answers = {}
    for language, size in zip(("es", "te"), sizes, strict=True):
        a, b = drawn(rng, (size,), 0.2, 0.1)
        answers |= {("a", language, 0): a, ("b", language, 0): b}
    return answers


# --- cells -------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), min_size=4, max_size=4).filter(any))
@settings(max_examples=15, deadline=None)
def test_the_p_of_a_cell_is_the_binomial_test_on_its_discordant_items(counts: list[int]) -> None:
    a, b = from_counts(*counts)
    row = compare.cells(outcomes({("a", "es", 0): a, ("b", "es", 0): b}), "a", "b").iloc[0]
    _, only_a, only_b, _ = counts
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert row["p"] == pytest.approx(expected)
    assert [row["both"], row["only_a"], row["only_b"], row["neither"]] == counts
    assert row["n"] == sum(counts)
    assert row["difference"] == pytest.approx(100 * (np.mean(a) - np.mean(b)))


def test_a_cell_names_its_effect_size_and_has_none_without_discordant_items() -> None:
    a, b = from_counts(10, 6, 2, 5)
    same = np.ones(9, dtype=bool)
    answers = {("a", "es", 0): a, ("b", "es", 0): b, ("a", "te", 0): same, ("b", "te", 0): same}
    found = compare.cells(outcomes(answers), "a", "b").set_index("language")
    assert found.loc["es", "cohens_g"] == pytest.approx(6 / 8 - 1 / 2)
    assert np.isnan(found.loc["te", "cohens_g"])
    assert found.loc["te", "p"] == 1


def replicates(only_a: float, only_b: float, n: int = 240, times: int = 1000) -> pd.Series:
    """p of ``times`` simulated cells, one a seed."""
    a, b = drawn(np.random.default_rng(1), (times, n), only_a, only_b)
    rows = {("a", "es", seed): a[seed] for seed in range(times)}
    rows |= {("b", "es", seed): b[seed] for seed in range(times)}
    return compare.cells(outcomes(rows), "a", "b")["p"]


def test_without_a_difference_small_p_of_cells_are_no_more_frequent_than_they_say() -> None:
    p = replicates(0.1, 0.1)
    for level in (0.01, 0.05, 0.1, 0.2, 0.5, 0.9):
        # three standard errors of a share among 1,000
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 1000)


def test_a_planted_difference_is_found_as_often_as_the_binomial_says() -> None:
    only_a, only_b, n = 0.14, 0.07, 240
    power = 0.0
    for discordant in range(1, n + 1):
        wins = np.arange(discordant + 1)
        tail = stats.binom.cdf(np.minimum(wins, discordant - wins), discordant, 0.5)
        rejected = 2 * tail <= 0.05
        chance = stats.binom.pmf(wins, discordant, only_a / (only_a + only_b))
        power += stats.binom.pmf(discordant, n, only_a + only_b) * chance[rejected].sum()
    assert 0.4 < power < 0.95  # a power of 0 or 1 would tell nothing
    found = (replicates(only_a, only_b, n) <= 0.05).mean()
    assert abs(found - power) <= 3 * np.sqrt(power * (1 - power) / 1000)


# --- Holm --------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=10, deadline=None)
def test_holm_is_the_running_maximum_of_the_sorted_p_times_the_tests_left(p: list[float]) -> None:
    values = np.array(p)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    expected = np.empty(len(values))
    expected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    np.testing.assert_allclose(compare._holm(pd.Series(p)), expected, atol=1e-15)


def test_holm_counts_all_pairs_and_abilities_of_the_summaries() -> None:
    rng = np.random.default_rng(3)
    frames = []
    for ability in ("math", "science"):
        a, b = drawn(rng, (60,), 0.25, 0.1)
        c = rng.random(60) < 0.6
        rows = {("a", "es", 0): a, ("b", "es", 0): b, ("c", "es", 0): c}
        frames.append(outcomes(rows, ability))
    found = compare.summaries(pd.concat(frames), [("a", "b"), ("a", "c")], "en")
    assert list(zip(found["b"], found["ability"], strict=True)) == [
        *(("b", "math"), ("b", "science"), ("c", "math"), ("c", "science"))
    ]
    assert found["p_holm"].min() == pytest.approx(4 * found["p"].min())


def test_many_comparisons_can_still_be_significant(monkeypatch: pytest.MonkeyPatch) -> None:
    # p ≥ 1/20 with 19 resamples: after Holm over 5 rows nothing would ever be a win
    monkeypatch.setattr(compare, "RESAMPLES", 19)
    a, b = from_counts(10, 40, 0, 10)
    rows = {("a", "es", 0): a, ("b", "es", 0): b}
    frame = pd.concat([outcomes(rows, f"ability{i}") for i in range(5)])
    assert list(compare.summaries(frame, [("a", "b")], "en")["verdict"]) == ["wins"] * 5


# --- the difference and its p ------------------------------------------------------------------


def test_the_difference_is_the_mean_of_language_means_without_the_pivot() -> None:
    answers = {
        ("a", "en", 0): [0, 0, 0, 0], ("b", "en", 0): [1, 1, 1, 1],
        ("a", "es", 0): [1, 1, 1, 0], ("b", "es", 0): [0, 0, 1, 0],
        ("a", "te", 0): [1, 1], ("b", "te", 0): [1, 0],
    }  # fmt: skip
    row = one(answers)
    assert row["languages"] == ["es", "te"] and row["items"] == 6 and row["seeds"] == [0]
    assert row["mean_a"] == pytest.approx((75 + 100) / 2)
    assert row["mean_b"] == pytest.approx((25 + 50) / 2)
    assert row["difference"] == pytest.approx(50)
    assert (row["only_a"], row["only_b"], row["cohens_g"]) == (3, 0, 0.5)


@given(st.lists(st.integers(-2, 2), min_size=2, max_size=7), st.integers(2, 3))
@settings(max_examples=15, deadline=None)
def test_with_few_items_p_is_that_of_all_sign_flips(es: list[int], te_size: int) -> None:
    te = [1, -1, 2][:te_size]
    answers = {}
    for language, differences in (("es", es), ("te", te)):
        # two seeds make differences of halves: −2 … 2 halves
        for seed in (0, 1):
            answers["a", language, seed] = [d > seed for d in differences]
            answers["b", language, seed] = [-d > seed for d in differences]
    weighted = np.array([*(d / 4 / len(es) for d in es), *(d / 4 / len(te) for d in te)])
    flips = np.array(list(itertools.product([1, -1], repeat=len(weighted))))
    as_extreme = np.abs(flips @ weighted) >= abs(weighted.sum()) - 1e-12
    row = one(answers)
    assert row["p"] == pytest.approx(as_extreme.mean())
    assert row["difference"] == pytest.approx(100 * weighted.sum())


def test_with_one_language_and_seed_p_is_near_the_exact_binomial() -> None:
    a, b = from_counts(100, 45, 28, 67)
    exact = stats.binomtest(45, 45 + 28).pvalue
    row = one({("a", "es", 0): a, ("b", "es", 0): b})
    assert abs(row["p"] - exact) <= 4 * np.sqrt(exact * (1 - exact) / compare.RESAMPLES)


@pytest.mark.parametrize("parallel", [False, True])
def test_without_a_difference_small_p_are_no_more_frequent_than_they_say(parallel: bool) -> None:
    """Also when an item is hard for one of the two methods in all of its translations."""
    rng = np.random.default_rng(5)
    times, n, resamples = 1000, 40, 199
    index = pd.MultiIndex.from_tuples(
        [(lang, f"{'' if parallel else lang}{i}") for lang in ("es", "te") for i in range(n)],
        names=["language", "item"],
    )
    p = []
    for _ in range(times):
        question = rng.choice([-1, 0, 1], size=n, p=[0.15, 0.7, 0.15])
        other = question if parallel else rng.choice([-1, 0, 1], size=n, p=[0.15, 0.7, 0.15])
        differences = pd.Series([*question, *other], index=index, dtype=float)
        p.append(compare._permutation_p(differences, resamples))
    for level in (0.05, 0.1, 0.5):
        assert np.mean(np.array(p) <= level) <= level + 3 * np.sqrt(level * (1 - level) / times)


# --- the interval ------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [False, True])
def test_the_interval_is_that_of_a_bootstrap_written_out(parallel: bool) -> None:
    rng = np.random.default_rng(7)
    answers = two_languages(rng, (80, 80) if parallel else (80, 40))
    if parallel:  # translations that are alike
        answers["a", "te", 0], answers["b", "te", 0] = answers["a", "es", 0], answers["b", "es", 0]
    row = one(answers, parallel)
    d = {
        language: answers["a", language, 0].astype(int) - answers["b", language, 0].astype(int)
        for language in ("es", "te")
    }
    times = 10_000
    picks = {
        language: rng.integers(len(own), size=(times, len(own))) for language, own in d.items()
    }
    if parallel:
        picks["te"] = picks["es"]
    means = np.mean([d[language][picks[language]].mean(axis=1) for language in d], axis=0)
    expected = 100 * np.quantile(means, [0.025, 0.975])
    # a quantile of 10,000 normal draws has a standard error of 0.027 sd, two of them 0.038; four of
    # these, and one step of the grid of possible means
    close = 100 * (4 * 0.038 * means.std() + 1 / (2 * 80))
    assert abs(row["low"] - expected[0]) <= close
    assert abs(row["high"] - expected[1]) <= close


def test_the_interval_holds_the_true_difference_as_often_as_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compare, "RESAMPLES", 999)
    rng = np.random.default_rng(9)
    times, sizes = 400, {"es": 240, "te": 120}
    index = pd.MultiIndex.from_tuples(
        [(lang, f"{lang}{i}") for lang, size in sizes.items() for i in range(size)],
        names=["language", "item"],
    )
    held = 0
    for _ in range(times):
        kinds = rng.choice([1, -1, 0], size=len(index), p=[0.15, 0.1, 0.75])
        low, high = compare._interval(pd.Series(kinds, index=index, dtype=float))
        held += low <= 0.05 <= high
    assert abs(held / times - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / times)


@pytest.mark.filterwarnings("error")
def test_methods_that_never_differ_have_a_p_of_one_and_an_interval_of_zero() -> None:
    same = np.array([True, False, True])
    row = one({(m, language, 0): same for m in "ab" for language in ("es", "te")})
    assert (row["p"], row["low"], row["high"], row["difference"]) == (1, 0, 0, 0)
    assert row["verdict"] == "ties" and np.isnan(row["cohens_g"])


@pytest.mark.filterwarnings("error")
def test_a_method_that_is_always_right_against_one_that_never_is_wins_without_a_warning() -> None:
    row = one({("a", "es", 0): np.ones(20), ("b", "es", 0): np.zeros(20)})
    assert (row["low"], row["high"], row["verdict"]) == (100, 100, "wins")


# --- seeds, symmetry, verdicts -----------------------------------------------------------------


def test_seeds_are_averaged_item_by_item_and_their_spread_is_stated() -> None:
    rng = np.random.default_rng(11)
    answers = {}
    for seed, gain in enumerate((0.3, 0.2, 0.25)):
        a, b = drawn(rng, (200,), gain, 0.05)
        answers |= {("a", "es", seed): a, ("b", "es", seed): b}
    row = one(answers)
    by_seed = [
        100 * (answers["a", "es", s].mean() - answers["b", "es", s].mean()) for s in range(3)
    ]
    assert row["by_seed"] == pytest.approx(by_seed)
    assert row["difference"] == pytest.approx(np.mean(by_seed))
    assert row["sd"] == pytest.approx(np.std(by_seed, ddof=1))
    assert row["seeds"] == [0, 1, 2] and row["items"] == 200
    assert np.isnan(one({key: v for key, v in answers.items() if key[2] == 0})["sd"])


def test_only_seeds_that_both_have_in_every_language_count() -> None:
    rng = np.random.default_rng(13)
    full = {
        ("b", language, seed): rng.random(30) < 0.5 for language in ("es", "te") for seed in (0, 1)
    }
    full |= {
        ("a", language, seed): rng.random(30) < 0.5 for language in ("es", "te") for seed in (0, 2)
    }
    extra = {**full, ("a", "es", 1): rng.random(30) < 0.5}  # te has no seed 1 of a
    shared = {key: verdicts for key, verdicts in full.items() if key[2] == 0}
    for answers in (full, extra):
        pd.testing.assert_series_equal(one(answers), one(shared))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_b_against_a_is_the_opposite_of_a_against_b(seed: int) -> None:
    frame = outcomes(two_languages(np.random.default_rng(seed)))
    there = compare.summaries(frame, [("a", "b")], "en").iloc[0]
    back = compare.summaries(frame.iloc[::-1], [("b", "a")], "en").iloc[0]
    assert back["difference"] == pytest.approx(-there["difference"])
    assert (back["low"], back["high"]) == pytest.approx((-there["high"], -there["low"]))
    assert back["p"] == there["p"]
    assert back["cohens_g"] == pytest.approx(-there["cohens_g"])
    opposite = {"wins": "loses", "loses": "wins", "ties": "ties"}
    assert back["verdict"] == opposite[there["verdict"]]
    forward = compare.cells(frame, "a", "b")
    backward = compare.cells(frame, "b", "a")
    np.testing.assert_allclose(forward["difference"], -backward["difference"])
    np.testing.assert_allclose(forward["p"], backward["p"])


@pytest.mark.parametrize(
    ("third_seed", "verdict"),
    [((5, 20, 0, 5), "wins"), ((10, 5, 5, 10), "ties"), ((10, 4, 6, 10), "ties")],
)
def test_a_win_needs_the_same_sign_in_every_seed(
    third_seed: tuple[int, int, int, int], verdict: str
) -> None:
    rows = {}
    for seed, counts in enumerate([(5, 20, 0, 5), (5, 20, 0, 5), third_seed]):
        rows["a", "es", seed], rows["b", "es", seed] = from_counts(*counts)
    row = one(rows)
    assert row["p_holm"] <= 0.05
    assert row["verdict"] == verdict


def test_seeds_whose_languages_cancel_have_no_sign() -> None:
    """0.1 + 0.2 − 0.3 is not zero in floating point, but it is no win either."""
    rows = {}
    for language, share in (("es", 1), ("bn", 2), ("te", -3)):
        rows["a", language, 0], rows["b", language, 0] = from_counts(0, 9, 0, 1)
        gain, loss = max(share, 0), max(-share, 0)
        counts = (0, gain, loss, 10 - gain - loss)
        rows["a", language, 1], rows["b", language, 1] = from_counts(*counts)
    row = one(rows)
    assert row["by_seed"][1] == 0 and row["p_holm"] <= 0.05
    assert row["verdict"] == "ties"
    cancelled = one({key: verdicts for key, verdicts in rows.items() if key[2] == 1})
    assert (cancelled["difference"], cancelled["p"]) == (0, 1)


# --- what cannot be paired ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({("a", "es", 0): [1, 0], ("b", "te", 0): [1, 0]}, "share no scored item in math"),
        ({("a", "es", 0): [1, 0], ("b", "es", 1): [1, 0]}, "share no scored item in math"),
        (
            {(m, lang, seed): [1, 0] for m in "ab" for lang, seed in (("es", 0), ("te", 1))},
            "share no seed that every language has",
        ),
        (
            {(m, "es", seed): [1] * n for m in "ab" for seed, n in ((0, 3), (1, 2))},
            "es item 'es2' was not asked in every seed",
        ),
        ({("a", "es", 0): [1], ("b", "es", 0): [0]}, "share only 1 item in es"),
        ({("a", "en", 0): [1, 0], ("b", "en", 0): [0, 0]}, "only scores in 'en'"),
    ],
)
def test_what_cannot_be_paired_is_refused(answers: Answers, said: str) -> None:
    with pytest.raises(InputError, match=said):
        one(answers)


def test_an_item_that_occurs_twice_is_refused() -> None:
    frame = outcomes({("a", "es", 0): [1, 0], ("b", "es", 0): [0, 0]})
    with pytest.raises(InputError, match="'b' has the item math/es/0/es1 twice"):
        compare.cells(pd.concat([frame, frame.iloc[-1:]]), "a", "b")


# --- from the store to the screen --------------------------------------------------------------


@pytest.fixture
def scored(home: Path) -> dict[tuple[str, str], list[bool]]:
    """A store with a matrix of two methods that is scored, but for one cell; and its verdicts."""
    verdicts = {
        ("maec", "en"): [True] * 12,
        ("maec", "es"): [True] * 11 + [False],
        ("tv", "en"): [True] * 12,
        ("tv", "es"): [True] + [False] * 11,
    }
    places = [(m, lang, f"{m}-{lang}") for m, lang in verdicts] + [("da", "es", None)]
    with store.writer() as writer:
        for (method, language), own in verdicts.items():
            writer.commit_cell(cell(f"{method}-{language}"), items(f"{method}-{language}", own))
        rows = [
            {
                "variant": "", "method": method, "title": method, "family": "maec",
                "ability": "math", "asked": "math", "language": language, "seed": 0,
                "model_key": "k", "model_path": "/m", "cell": key,
            }
            for method, language, key in places
        ]  # fmt: skip
        writer.place("mine", rows)
        writer.place("planned", [{**rows[0], "cell": None}])
        writer.snapshot(now=True)
    return verdicts


def harness(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["harness", "compare", *arguments])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    return exit.value.code


def test_outcomes_are_the_items_of_the_scored_cells_in_order(scored: dict) -> None:
    found = store.outcomes("mine")
    expected = [
        ("mine", "", method, "math", language, 0, str(index), correct)
        for (method, language), verdicts in scored.items()
        for index, correct in enumerate(verdicts)
    ]
    assert list(found.itertuples(index=False, name=None)) == expected
    assert found["correct"].dtype == bool
    assert store.outcomes("planned").empty
    assert list(store.outcomes("planned").columns) == list(found.columns)


def test_items_without_a_verdict_are_left_out(scored: dict) -> None:
    with duckdb.connect(str(snapshot_path())) as connection:
        connection.execute("UPDATE items SET correct = NULL WHERE id = '3'")
    found = store.outcomes("mine")
    assert len(found) == 4 * (12 - 1) and "3" not in set(found["item"])
    assert found["correct"].dtype == bool


def test_there_are_no_outcomes_before_the_first_run(home: Path) -> None:
    found = store.outcomes("mine")
    assert found.empty and "correct" in found
    assert not home.exists()


def test_the_command_prints_both_tables(
    scored: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert harness(monkeypatch, "maec", "tv", "--cells") == 0
    shown = capsys.readouterr().out
    assert "+83.3 [" in shown and "A wins" in shown
    assert "exact McNemar test a cell; Holm p over 2 cells" in shown


def test_the_command_prints_json_that_says_the_same(
    scored: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert harness(monkeypatch, "tv", "maec", "--json", "--cells") == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["summaries"]
    assert (found["matrix"], found["pivot"]) == ("mine", "en")
    assert row["difference"] == pytest.approx(-100 * 10 / 12)
    assert (row["items"], row["languages"], row["sd"], row["verdict"]) == (
        12,
        ["es"],
        None,
        "loses",
    )
    # 10 signs can be flipped in 2^10 ways, and two of them are as extreme
    assert row["p"] == pytest.approx(2 / 2**10)
    assert [(c["language"], c["n"], c["only_a"], c["only_b"]) for c in found["cells"]] == [
        *(("en", 12, 0, 0), ("es", 12, 0, 10))
    ]


def test_all_compares_every_pair(
    scored: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    frame = store.outcomes("mine")
    third = frame[frame["method"] == "tv"].assign(method="da")
    monkeypatch.setattr(store, "outcomes", lambda _: pd.concat([frame, third]))
    for flags, expected in (
        ([], [("maec", "tv"), ("maec", "da")]),
        (["--all"], [("maec", "tv"), ("maec", "da"), ("tv", "da")]),
    ):
        assert harness(monkeypatch, "maec", "tv", "da", "--json", *flags) == 0
        found = json.loads(capsys.readouterr().out)["summaries"]
        assert [(row["a"], row["b"]) for row in found] == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mace", "tv"], "method 'mace': no scores in matrix 'mine'; did you mean 'maec'? (scored"),
        (["maec", "da"], "method 'da': no scores in matrix 'mine' (scored: maec, tv)"),
        (["maec", "tv", "--ability", "maths"], "ability 'maths': no scores in matrix 'mine'; did"),
        (["maec", "tv", "--matrix", "mien"], "did you mean 'mine'? (scored: mine)"),
        (["maec", "tv", "--matrix", "planned"], "matrix 'planned': no scores in"),
        (["maec"], "at least two different methods"),
        (["maec", "tv", "maec"], "at least two different methods"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(
    scored: dict,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    said: str,
) -> None:
    assert harness(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("harness: ") and error.count("\n") == 1


def test_before_the_first_run_the_command_says_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert harness(monkeypatch, "maec", "tv") == 2
    error = capsys.readouterr().err
    assert "nothing was scored here yet; `harness run" in error and error.count("\n") == 1
    assert not home.exists()


def test_the_command_line_imports_no_statistics_before_they_are_needed() -> None:
    program = """
import sys
import harness.cli
heavy = {"scipy", "statsmodels", "pandas", "numpy", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

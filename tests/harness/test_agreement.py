"""What counts as agreement, and what the hardware rule excuses: nothing but arithmetic."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from harness import agreement as agreements
from harness.agreement import RULE, Agreement, agreement, by_chance, surroundings


def cell(**changes: Any) -> dict[str, Any]:
    return {"fingerprint": "f", "score": 0.5, "engine": {"dtype": "float32"}, **changes}


def item(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "item": number, "id": f"q{number}", "words": None, "prompt": "Q", "gold": "4",
        "output": None, "extracted": "4", "correct": number % 2 == 0, "choices": ["3", "4"],
        "loglikelihoods": [-2.0, -100.0], "filtered": None, **changes,
    }  # fmt: skip


ITEMS = [item(number) for number in range(12)]


def changed(**changes: Any) -> list[dict[str, Any]]:
    return [{**ITEMS[0], **changes}, *ITEMS[1:]]


def compared(ours: list[dict], **again: Any) -> Agreement:
    return agreement(cell(), cell(**again), ITEMS, ours)


def test_what_is_the_same_is_equal() -> None:
    found = compared([dict(entry) for entry in ITEMS])
    assert found.equal and found.same_model and found.broken() == []
    assert (found.items, found.apart, found.differing) == (12, 0.0, {})


def test_equal_items_of_other_weights_are_equal_items() -> None:
    found = compared(ITEMS, fingerprint="other")
    assert found.equal and not found.same_model


@pytest.mark.parametrize("field", ["id", "words", "prompt", "gold", "choices"])
def test_no_hardware_excuses_another_question(field: str) -> None:
    found = compared(changed(**{field: ["other"]}))
    assert not found.equal and found.differing == {field: 1}
    assert f"{field} of 1 items: no arithmetic" in found.broken()[0]


@pytest.mark.parametrize("field", ["output", "extracted", "filtered"])
def test_another_text_is_seen_and_may_be_the_hardwares(field: str) -> None:
    found = compared(changed(**{field: "7"}))
    assert not found.equal and found.differing == {field: 1} and found.broken() == []


@pytest.mark.parametrize("ours", [ITEMS[1:], ITEMS[::-1], [*ITEMS, item(12)]])
def test_missing_further_and_reordered_items_are_no_agreement(ours: list[dict]) -> None:
    found = compared(ours)
    assert not found.equal and "not the same items" in found.broken()


@given(by=st.floats(1e-12, 1.0), place=st.integers(0, 1))
def test_loglikelihoods_of_equal_weights_are_allowed_what_the_rule_says(
    by: float, place: int
) -> None:
    moved = list(ITEMS[0]["loglikelihoods"])
    moved[place] += by
    apart = abs(moved[place] - ITEMS[0]["loglikelihoods"][place])
    size = max(1.0, *map(abs, (moved[place], ITEMS[0]["loglikelihoods"][place])))
    found = compared(changed(loglikelihoods=moved))
    assert found.apart == apart
    assert found.equal == (apart == 0)
    assert bool(found.broken()) == (apart > 1e-3 * size)
    # of other weights they say nothing: the verdicts have to be alike
    assert compared(changed(loglikelihoods=moved), fingerprint="other").broken() == []


@pytest.mark.parametrize(("only_then", "only_now"), [(0, 0), (3, 3), (1, 9), (0, 8), (20, 2)])
def test_the_scores_test_is_mcnemars_adjusted_by_holm(only_then: int, only_now: int) -> None:
    then = [item(n, correct=n < only_then) for n in range(40)]
    now = [item(n, correct=only_then <= n < only_then + only_now) for n in range(40)]
    one = agreement(cell(), cell(score=0.6), then, now)
    same = agreement(cell(), cell(), then, then)
    discordant = only_then + only_now
    exact = binomtest(only_then, discordant).pvalue if discordant else 1.0
    expected = multipletests([exact, 1.0, 1.0], method="holm")[1][0]
    p = by_chance({"a": one, "b": same, "c": same})
    assert p["a"] == pytest.approx(expected) and p["b"] == p["c"] == 1.0
    broken = replace(one, p=p["a"]).broken()
    assert bool(broken) == (expected <= 0.05)
    assert all("more than chance" in reason for reason in broken)


def test_where_nothing_is_judged_the_score_may_move_by_a_hundredth() -> None:
    texts = [item(0, correct=None, choices=None, loglikelihoods=[-500.0])]
    for score, good in ((1.009, True), (0.991, True), (1.02, False), (0.98, False)):
        found = agreement(cell(score=1.0), cell(score=score, fingerprint="g"), texts, texts)
        assert found.verdicts.empty and (found.broken() == []) == good
    assert by_chance({"a": found}) == {}


RUN = {
    "hardware": {"processor": "P", "cores": 2, "gpus": [], "memory": 1, "platform": "x"},
    "versions": {"torch": "2.13", "duckdb": "2.0"},
}


@pytest.mark.parametrize(
    ("part", "change", "expected"),
    [
        ("hardware", {}, {}),
        ("hardware", {"processor": "Q"}, {"processor": ("P", "Q")}),
        ("hardware", {"cores": 4}, {"cores": (2, 4)}),
        ("hardware", {"memory": 2, "platform": "y"}, {}),  # no order of adding depends on these
        ("hardware", {"instructions": ["avx2"]}, {}),  # the older run does not say
        ("versions", {"torch": "2.14"}, {"torch": ("2.13", "2.14")}),
        ("versions", {"duckdb": "3.0", "vllm": "1"}, {}),
    ],
)
def test_only_what_both_runs_say_and_arithmetic_depends_on_is_an_excuse(
    part: str, change: dict, expected: dict
) -> None:
    assert surroundings(RUN, {**RUN, part: {**RUN[part], **change}}) == expected
    assert surroundings(None, RUN) == {}


def test_on_a_gpu_the_order_of_adding_is_never_fixed() -> None:
    run = {**RUN, "hardware": {**RUN["hardware"], "gpus": ["G"]}}
    assert surroundings(run, run) == {"gpus": (["G"], ["G"])}


def test_the_rule_that_is_printed_is_the_one_that_is_applied() -> None:
    for name in ("processor", "instructions", "cores", *agreements.VERSIONS):
        assert name in RULE
    for dtype, tolerance in agreements.TOLERANCE.items():
        assert re.search(rf"{tolerance:g} in {dtype}", RULE)
    assert f"p > {agreements.LEVEL}" in RULE and f"at most {100 * agreements.TEXT:.0f}%" in RULE

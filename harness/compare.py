"""Which of two methods is better, and could it be chance: differences paired over items.

Both methods answered the same questions, and most of what makes an answer right or wrong is the
question. So one question is compared at a time: what varies is the difference, not the score.

Two views: :func:`cells`, one language and seed at a time, and :func:`summaries`, one row a pair and
ability, over the target languages. Shares are in percent, differences in percentage points.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from maec.errors import InputError

LEVEL = 0.05
"""Of the tests, and what the intervals leave out."""

RESAMPLES = 9_999
"""Of the bootstrap and, at least, of the permutation test."""

BATCH = 1_000
"""Resamples at a time: some 15 MB for 1,000 items."""

RNG = 0
"""Seed of the resampling: the same outcomes give the same figures."""

CELL = ["ability", "language", "seed"]


def cells(outcomes: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Exact McNemar tests of A against B, one row a cell (ability, language, seed) of both.

    ``outcomes`` is what :func:`harness.store.outcomes` gives. Columns: a, b, ability, language,
    seed, n (items that both answered), both, only_a, only_b, neither (items that were right),
    difference (A − B, points), cohens_g (see :func:`summaries`), p, and p_holm, adjusted over the
    rows of this frame.

    Raises:
        InputError: they share no item, or a cell has an item twice.
    """
    rows = []
    for place, cell in _paired(outcomes, a, b).groupby(CELL, sort=False):
        counts = _counts(cell)
        table = [[counts["both"], counts["only_a"]], [counts["only_b"], counts["neither"]]]
        rows.append(
            {
                **{"a": a, "b": b, **dict(zip(CELL, place, strict=True)), "n": len(cell), **counts},
                "difference": 100 * cell["difference"].mean(),
                "cohens_g": _cohens_g(counts),
                "p": float(mcnemar(table, exact=True).pvalue),
            }
        )
    found = pd.DataFrame(rows)
    return found.assign(p_holm=_holm(found["p"]))


def summaries(
    outcomes: pd.DataFrame,
    pairs: Iterable[tuple[str, str]],
    pivot: str,
    *,
    abilities: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A against B over the target languages, one row a pair and ability, pairs first.

    Every language counts the same, whatever its number of items; only languages, seeds and items
    that both methods have are used. An item's outcome is its mean over seeds.

    Columns: a, b, ability, languages (list), items (over all languages), seeds (list), mean_a,
    mean_b (percent), difference (A − B, points), low, high (its 95 % interval, points), by_seed
    (the difference in each seed, points), sd (their sample standard deviation, NaN for one seed),
    only_a, only_b (items that one alone had right, over all languages and seeds), cohens_g, p,
    p_holm (over the rows of this frame), verdict.

    The interval is a paired percentile bootstrap over items, stratified by language; p is from a
    permutation test that swaps A's and B's answers to a question. Where languages have the same
    item ids, an id is one question and its translations, which are easy or hard together: they are
    drawn and swapped together, since as independent items they would make the interval too narrow.

    ``cohens_g`` is Cohen's effect size for McNemar's test: the share of discordant answers that A
    had right, less one half; from −0.5 to 0.5, NaN without discordant answers. Unlike the matched
    odds ratio only_a / only_b it stays finite. Few comparisons have 9,999 resamples: 0.0001 is the
    least p that they can show; many have more, so that Holm leaves something to find.

    Interval and p hold for other questions asked of *these* trained models; they know nothing of
    what another training run would give. Hence the verdict's second condition. ``verdict`` is
    'wins' or 'loses' (A against B) if p_holm is at most 0.05 and the difference has the same sign
    in every seed, otherwise 'ties': no difference shown, which is not to say that there is none.

    Raises:
        InputError: a pair shares no target language, seed or item of an ability, or its seeds
            were asked different items.
    """
    targets = outcomes[outcomes["language"] != pivot]
    wanted = list(targets["ability"].unique()) if abilities is None else list(abilities)
    asked = [(a, b, ability) for a, b in pairs for ability in wanted]
    if not asked:
        raise InputError(f"nothing to compare: no pair of methods, or only scores in '{pivot}'")
    # p cannot get below 1 / (resamples + 1), which Holm multiplies by up to the number of rows
    resamples = max(RESAMPLES, 100 * len(asked))
    found = pd.DataFrame([_summary(targets, *row, resamples) for row in asked])
    found["p_holm"] = _holm(found["p"])
    found["verdict"] = [
        _verdict(row.p_holm, row.difference, row.by_seed) for row in found.itertuples()
    ]
    return found


def _summary(outcomes: pd.DataFrame, a: str, b: str, ability: str, resamples: int) -> dict:
    paired = _paired(outcomes[outcomes["ability"] == ability], a, b, f" in {ability}")
    by_item = _by_item(paired, f"'{a}' and '{b}' in {ability}")
    used = paired[paired["seed"].isin(by_item.columns)]
    # rounded, since a difference of zero must not get a sign from the order of adding
    by_seed = (100 * by_item.groupby(level="language").mean().mean()).round(10) + 0.0
    means = used.groupby("language")[["correct_a", "correct_b"]].mean().mean()
    differences = by_item.mean(axis=1)
    low, high = _interval(differences)
    counts = _counts(used)
    return {
        "a": a,
        "b": b,
        "ability": ability,
        "languages": list(used["language"].unique()),
        "items": len(by_item),
        "seeds": list(by_item.columns),
        "mean_a": 100 * means["correct_a"],
        "mean_b": 100 * means["correct_b"],
        "difference": by_seed.mean(),
        "low": 100 * low,
        "high": 100 * high,
        "by_seed": list(by_seed),
        "sd": by_seed.std(ddof=1),
        "only_a": counts["only_a"],
        "only_b": counts["only_b"],
        "cohens_g": _cohens_g(counts),
        "p": _permutation_p(differences, resamples),
    }


def _paired(outcomes: pd.DataFrame, a: str, b: str, where: str = "") -> pd.DataFrame:
    """Items of both: ability, language, seed, item, correct_a, correct_b, difference (−1, 0, 1)."""
    keys = [*CELL, "item"]
    sides = []
    for method in (a, b):
        side = outcomes.loc[outcomes["method"] == method, [*keys, "correct"]]
        if (twice := side.duplicated(keys)).any():
            place = "/".join(str(value) for value in side.loc[twice, keys].iloc[0])
            raise InputError(f"'{method}' has the item {place} twice; items are paired by their id")
        sides.append(side)
    paired = sides[0].merge(sides[1], on=keys, suffixes=("_a", "_b"))
    if paired.empty:
        raise InputError(
            f"'{a}' and '{b}' share no scored item{where}; `harness run` scores what is missing"
        )
    right = paired[["correct_a", "correct_b"]].astype(int)
    return paired.assign(difference=right["correct_a"] - right["correct_b"])


def _by_item(paired: pd.DataFrame, whose: str) -> pd.DataFrame:
    """Differences of one ability, (language, item) × seed, for the seeds that every language has.

    Sorted, so that neither the order of the methods nor that of the rows changes a draw.
    """
    wide = paired.pivot(index=["language", "item"], columns="seed", values="difference")
    there = wide.notna().groupby(level="language").any().all()
    wide = wide.loc[:, there].dropna(how="all")
    if wide.empty:
        raise InputError(
            f"{whose} share no seed that every language has; `harness run` scores what is missing"
        )
    if (holes := wide.isna().any(axis=1)).any():
        language, item = holes.idxmax()
        raise InputError(
            f"{whose}: {language} item '{item}' was not asked in every seed; seeds are averaged "
            "item by item, so run them all on the same items"
        )
    if (few := wide.groupby(level="language").size() < 2).any():
        raise InputError(f"{whose} share only 1 item in {few.idxmax()}; at least 2 are needed")
    return wide


def _interval(differences: pd.Series) -> tuple[float, float]:
    """Of the mean of language means, for differences by (language, item).

    Percentile, not BCa: that needs a jackknife with spread, which near-ceiling cells do not have.
    """
    if not differences.any():
        return 0.0, 0.0
    strata = [own.droplevel("language") for _, own in differences.groupby(level="language")]
    translated = len(strata) > 1 and all(own.index.equals(strata[0].index) for own in strata)
    found = stats.bootstrap(
        [own.to_numpy() for own in strata],
        lambda *samples, axis: sum(s.mean(axis=axis) for s in samples) / len(samples),
        paired=translated,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=1 - LEVEL,
        method="percentile",
        rng=RNG,
    ).confidence_interval
    return float(found.low), float(found.high)


def _permutation_p(differences: pd.Series, resamples: int) -> float:
    """Of the mean of language means, two-sided; exact where enumerating is the cheaper way."""
    sizes = differences.groupby(level="language").transform("size")
    languages = differences.index.get_level_values("language").nunique()
    questions = (differences / (languages * sizes)).groupby(level="item").sum()
    # a sign flip of zero changes nothing, and a single sign is no evidence at all
    questions = questions[questions != 0]
    if len(questions) < 2:
        return 1.0
    found = stats.permutation_test(
        (questions.to_numpy(),),
        # two-sided by |·|; rounded, so that sums which differ by the order of adding are equal
        lambda x, axis: np.abs(x.sum(axis=axis)).round(12),
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=resamples,
        batch=BATCH,
        rng=RNG,
    )
    return float(found.pvalue)


def _counts(paired: pd.DataFrame) -> dict[str, int]:
    a, b = paired["correct_a"].astype(bool), paired["correct_b"].astype(bool)
    found = {"both": a & b, "only_a": a & ~b, "only_b": ~a & b, "neither": ~a & ~b}
    return {name: int(items.sum()) for name, items in found.items()}


def _cohens_g(counts: dict[str, int]) -> float:
    discordant = counts["only_a"] + counts["only_b"]
    return counts["only_a"] / discordant - 0.5 if discordant else float("nan")


def _holm(p: pd.Series) -> np.ndarray:
    return multipletests(p, method="holm")[1]


def _verdict(p_holm: float, difference: float, by_seed: Sequence[float]) -> str:
    if p_holm > LEVEL or any(np.sign(seed) != np.sign(difference) for seed in by_seed):
        return "ties"
    return "wins" if difference > 0 else "loses"

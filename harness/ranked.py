"""Which methods are not shown to be worse than the best: one permutation test each, at once.

The test is that of :func:`harness.compare.summaries`; what differs is that all methods share the
same draws, so that a ranking of fifty methods over many items is a product of two matrices. Answers
are those of :func:`harness.store.view.answers`, averages over seeds.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from harness.compare import LEVEL, RESAMPLES, RNG

BATCH = 256
"""Resamples at a time."""

PLACE = ["ability", "language", "item"]
QUESTION = ["ability", "item"]
"""Where languages have the same item ids, an id is one question and its translations."""


def spread_out(answers: pd.DataFrame) -> pd.DataFrame:
    """(ability, language, item) × (``correct`` or ``seeds``, method), from answers; NaN where a
    method was not asked an item."""
    return answers.set_index([*PLACE, "method"])[["correct", "seeds"]].unstack("method")


def against(wide: pd.DataFrame, best: str, seeds: pd.DataFrame) -> pd.DataFrame:
    """``best`` against every other method, one row each; ``wide`` is what :func:`spread_out` gives.

    ``seeds`` is methods × seeds: the mean score of each (over languages and abilities, as a share),
    whose sign a verdict asks for. Methods that were not asked the same items in as many seeds as
    ``best`` are left out.

    Columns: method, difference (best − method, points, every language and ability counting the
    same), p, p_holm (over the rows of this frame), worse (bool: p_holm is at most 0.05 and the
    method is below the best in every seed).
    """
    counts, wide = wide["seeds"], wide["correct"]
    if best not in wide:
        return pd.DataFrame(columns=["method", "difference", "p", "p_holm", "worse"])
    same = counts.eq(counts[best], axis=0) | (counts.isna() & counts[[best]].isna().to_numpy())
    others = [name for name in wide.columns if name != best and same[name].all()]
    asked = wide[best].notna()
    wide = wide[asked]
    differences = wide[others].rsub(wide[best], axis=0)
    by_question = differences.mul(_weights(wide.index), axis=0).groupby(level=QUESTION).sum()
    p = _permutation_p(by_question.to_numpy(), max(RESAMPLES, 100 * len(others)))
    # the others' seeds are those of the best, or they would have other counts
    below = seeds.rsub(seeds.loc[best], axis=1).loc[others].fillna(0).round(12).gt(0)
    below = below[seeds.columns[seeds.loc[best].notna()]].all(axis=1)
    adjusted = multipletests(p, method="holm")[1] if len(p) else p
    return pd.DataFrame(
        {
            "method": others,
            "difference": 100 * by_question.sum().to_numpy(),
            "p": p,
            "p_holm": adjusted,
            "worse": (adjusted <= LEVEL) & below.to_numpy(),
        }
    )


def standard_errors(wide: pd.DataFrame) -> pd.Series:
    """By method: the standard error over questions of its mean over languages and abilities.

    ``wide`` is what :func:`spread_out` gives. A share; NaN where a language has one item.
    Translations of a question (the same id in every language of an ability) count as one question,
    other items as independent.
    """
    wide = wide["correct"]
    variance = pd.Series(0.0, index=wide.columns)
    abilities = wide.index.get_level_values("ability").unique()
    for ability in abilities:
        own = wide.xs(ability, level="ability")
        languages = [part.droplevel("language") for _, part in own.groupby(level="language")]
        if all(part.index.equals(languages[0].index) for part in languages):
            languages = [sum(languages) / len(languages)]
        of_ability = sum(part.var(ddof=1) / part.count() for part in languages)
        variance += of_ability / len(languages) ** 2
    return np.sqrt(variance) / max(len(abilities), 1)


def _weights(index: pd.MultiIndex) -> pd.Series:
    """So that the weighted sum is the mean over abilities of the mean over languages."""
    frame = index.to_frame(index=False)
    sizes = frame.groupby(["ability", "language"])["item"].transform("size")
    languages = frame.groupby("ability")["language"].transform("nunique")
    return pd.Series((1 / (sizes * languages * frame["ability"].nunique())).to_numpy(), index=index)


def _permutation_p(questions: np.ndarray, resamples: int) -> np.ndarray:
    """Two-sided p of the column sums under random signs of the rows; questions × methods.

    Exact where enumerating is the cheaper way. A single question that differs is no evidence.
    """
    # a sign flip of zeros changes nothing
    questions = questions[(questions != 0).any(axis=1)]
    whole = questions.sum(axis=0)
    # rounded, so that sums which differ by the order of adding are equal
    seen = np.abs(whole).round(12)
    extreme, drawn = np.zeros(questions.shape[1]), 0
    exact = 2 ** len(questions) <= resamples
    for kept in _kept(len(questions), None if exact else resamples):
        # Σ ±x is twice the sum of those that keep their sign, less the whole
        extreme += (np.abs(2 * (kept @ questions) - whole).round(12) >= seen).sum(axis=0)
        drawn += len(kept)
    # of random draws, what was seen is one more
    p = extreme / drawn if exact else (extreme + 1) / (drawn + 1)
    return np.where((questions != 0).sum(axis=0) < 2, 1.0, p)


def _kept(questions: int, resamples: int | None) -> Iterator[np.ndarray]:
    """Rows that say which questions keep their sign (1 or 0): all of them, or so many random ones,
    a few at a time, which fit into a processor's cache."""
    if resamples is None:
        every = list(itertools.product((1.0, 0.0), repeat=questions))
        yield np.array(every).reshape(len(every), questions)
        return
    rng = np.random.default_rng(RNG)
    for start in range(0, resamples, BATCH):
        size = (min(BATCH, resamples - start), -(-questions // 8))
        bits = rng.integers(0, 256, size=size, dtype=np.uint8)
        yield np.unpackbits(bits, axis=1, count=questions).astype(float)

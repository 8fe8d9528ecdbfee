"""Intervals: against scipy, against tables, and by how often they cover the truth."""

import math

import pytest
import torch
from scipy import stats

from splitlab.referee import intervals


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_interval_of_a_mean_is_scipys(confidence):
    values = [0.31, 0.33, 0.28, 0.35, 0.30, 0.32]
    theirs = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert intervals.mean(values, confidence) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_the_interval_of_a_mean_by_hand():
    # t(2 degrees of freedom, .975) = 4.303; the standard deviation of 1, 2, 3 is 1.
    assert intervals.mean([1, 2, 3]) == pytest.approx(
        (2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), 1e-3
    )
    assert intervals.mean([5, 5, 5]) == (5, 5)


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    draws = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covered = [low <= 0 <= high for low, high in map(intervals.mean, draws.tolist())]
    share = sum(covered) / len(covered)
    low, high = intervals.proportion(sum(covered), len(covered), 0.999)
    assert low < 0.95 < high, share  # with 1.96 for the t quantile it would be .89


@pytest.mark.parametrize(("successes", "n"), [(0, 6), (6, 6), (160, 500), (1, 1)])
def test_the_interval_of_a_share_is_exact(successes, n):
    """Clopper and Pearson: at either end, what was seen is just not too unlikely."""
    low, high = intervals.proportion(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    if successes:
        assert stats.binom.sf(successes - 1, n, low) == pytest.approx(0.025)
    else:
        assert low == 0
    if successes < n:
        assert stats.binom.cdf(successes, n, high) == pytest.approx(0.025)
    else:
        assert high == 1


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_what_n_of_n_leaves_possible(confidence):
    for n in (1, 5, 6, 59):
        bound = intervals.failure_bound(n, confidence)
        assert (1 - bound) ** n == pytest.approx(1 - confidence)
    assert intervals.failure_bound(59) < 0.05 < intervals.failure_bound(58)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: intervals.mean([0.3]), "at least two runs, not 1"),
        (lambda: intervals.mean([0.3, math.nan]), "not finite"),
        (
            lambda: intervals.mean([0.3, 0.4], 95),
            "confidence is 95: choose a number between 0 and 1, such as 0.95",
        ),
        (lambda: intervals.proportion(7, 6), "7 of 6"),
        (lambda: intervals.proportion(0, 0), "n is 0: choose a whole number of at least 1"),
        (lambda: intervals.failure_bound(0), "at least 1"),
        (lambda: intervals.failure_bound(6, 1.0), "between 0 and 1"),
    ],
)
def test_what_makes_no_interval_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

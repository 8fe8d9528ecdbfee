"""How sure a figure is: intervals over independent runs, and over single cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from splitlab.arguments import chance, count, reals, within


def mean(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the t interval for the mean of a figure over independent runs.

    Student (1908). It takes the figures to be independent and roughly normal. Splits of one small
    data set overlap, so they are less than independent, and the interval is then too short. For
    figures that crowd against a bound, such as shares near 1, give the range as well: the interval
    can reach past the bound.

    Args:
        values: The figure of each run, at least two of them; a run is one seed, not one image.
        confidence: In how many of such intervals the true mean should lie, between 0 and 1.

    Returns:
        (low, high), about the mean of the values.

    Raises:
        ValueError: If there are fewer than two values, one is not finite, or `confidence` is not
            between 0 and 1.
    """
    from scipy import stats

    confidence = chance("confidence", confidence, such_as="0.95")
    values = reals("values", values)
    if len(values) < 2:
        raise ValueError(f"an interval over runs needs at least two runs, not {len(values)}")
    if not all(map(math.isfinite, values)):
        raise ValueError("one of the values is not finite: find out why, and leave out no run")
    quantile = float(stats.t.ppf((1 + confidence) / 2, df=len(values) - 1))
    half = quantile * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def proportion(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval for a share, from the number of successes in n cases.

    C. J. Clopper and E. S. Pearson (1934). The cases have to be independent: images scored in one
    run are, given that run, and say nothing of another run.

    Args:
        successes: How often, 0 to n.
        n: Cases, at least 1.
        confidence: At least in how many of such intervals the true share lies, between 0 and 1.

    Returns:
        (low, high), each from 0 to 1.

    Raises:
        ValueError: If the numbers do not fit, or `confidence` is not between 0 and 1.
    """
    from scipy import stats

    confidence = chance("confidence", confidence, such_as="0.95")
    n, successes = count("n", n, least=1), count("successes", successes, least=0)
    if successes > n:
        raise ValueError(f"{successes} of {n}: of at least one case, 0 to all of them can succeed")
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def failure_bound(runs: int, confidence: float = 0.95) -> float:
    """Return the largest failure rate that is compatible with no failure in a number of runs.

    Were the true rate larger, a run of this many successes would have had a chance below
    1 - confidence. The rule of three, 3 / runs, approximates it at 95 %.

    Args:
        runs: Independent runs, none of which failed, at least 1.
        confidence: How sure, between 0 and 1.

    Returns:
        A rate from 0 to 1.

    Raises:
        ValueError: If there is no run, or `confidence` is not between 0 and 1.
    """
    confidence = chance("confidence", confidence, such_as="0.95")
    runs = count("runs", runs, least=1)
    return float(1 - (1 - confidence) ** (1 / runs))


def epsilon_lower_bound(
    hits: int, false_alarms: int, trials: int, delta: float, confidence: float = 0.95
) -> float:
    """Return the smallest epsilon that is compatible with how well an auditor guessed.

    Under (epsilon, delta)-differential privacy, a guess that an image was in the data has a true
    positive rate of at most exp(epsilon) * its false positive rate + delta, and likewise for a
    guess that it was not (Kairouz, Oh, Viswanath, 2015). The rates are taken at the unfavorable
    ends of their intervals by `proportion`, as Jagielski, Ullman, Oprea (2020) do, and the larger
    of both directions counts. A nominal epsilon below the bound is refuted.

    Args:
        hits: Trials with the image in which the auditor guessed that it was in.
        false_alarms: Trials without the image in which the auditor guessed so.
        trials: Independent trials with the image; as many again are without it.
        delta: From 0 to 1.
        confidence: Of each of the two intervals, and of the bound, which uses one end of each.

    Returns:
        The bound, at least 0.

    Raises:
        ValueError: If the numbers do not fit, or `delta` or `confidence` is out of range.
    """
    delta = within("delta", delta, 0, 1, "a probability, such as 1e-5,")
    true_low, _ = proportion(hits, trials, confidence)
    _, false_high = proportion(false_alarms, trials, confidence)
    rates = ((true_low, false_high), (1 - false_high, 1 - true_low))
    bounds = [math.log((high - delta) / low) for high, low in rates if high > delta and low > 0]
    return max([0.0, *bounds])

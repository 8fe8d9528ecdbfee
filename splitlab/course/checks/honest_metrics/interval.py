"""Exercise 4: an interval for a mean over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy import stats

from splitlab.course.checks.guard import Function
from splitlab.course.checks.judge import exercise

RUNS, CONFIDENCE = 6, 0.95  # of the experiments that messages speak of


def _case(runs: int, *confidence: float, low: float = 3, high: float = 5) -> Function:
    """Figures of several runs, two of them equal if there are more than two."""

    def case() -> tuple[Any, ...]:
        values = (low + (high - low) * torch.rand(runs).square()).tolist()
        values[2:] = values[2:-1] + values[:1] if runs > 2 else []
        return values, *confidence

    return case


def _with(
    reach: Callable[[int, float], float],
    *,
    middle: Callable[[list[float]], float] = statistics.fmean,
    ends: Callable[[float, float], tuple[float, float]] = lambda mean, half: (
        mean - half,
        mean + half,
    ),
) -> Function:
    """An answer that extends reach(runs, confidence) standard errors to either side."""

    def answer(values: list[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
        error = statistics.stdev(values) / math.sqrt(len(values))
        return ends(middle(values), reach(len(values), confidence) * error)

    return answer


def _t(n: int, confidence: float) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, n - 1))


def _reaches() -> Iterator[tuple[str, Function]]:
    """Yield (message, slip) where only the reach is wrong; the message names the consequence."""
    reaches: dict[str, Callable[[int, float], float]] = {
        "the quantile is the normal one, 1.96 at 95 %: with a few seeds the standard deviation is "
        "itself a guess, and Student's t with n - 1 degrees of freedom makes up for that": (
            lambda n, confidence: stats.norm.ppf((1 + confidence) / 2)
        ),
        "the quantile is 1.96, whatever the confidence and however few the seeds: take Student's t "
        "with n - 1 degrees of freedom": lambda n, confidence: 1.96,
        "the standard deviation is divided by n, as numpy's std does: a mean of n values has used "
        "up one of them, so divide the squares by n - 1": (
            lambda n, confidence: _t(n, confidence) * math.sqrt(1 - 1 / n)
        ),
        "this is where one more run would lie, not where the mean lies: divide the standard "
        "deviation by the root of n": lambda n, confidence: _t(n, confidence) * math.sqrt(n),
        "there is n - 1 under the root: n - 1 belongs to the standard deviation, and the root of n "
        "to the mean": lambda n, confidence: _t(n, confidence) / math.sqrt(1 - 1 / n),
        "the standard deviation is divided by n: divide it by the root of n": (
            lambda n, confidence: _t(n, confidence) / math.sqrt(n)
        ),
        "the quantile is one-sided: what lies outside is shared by two sides, so half of it lies "
        "below and half above": lambda n, confidence: stats.t.ppf(confidence, n - 1),
        "the degrees of freedom are n: they are n - 1": lambda n, confidence: _t(n + 1, confidence),
        "confidence is used as the probability outside the interval": lambda n, confidence: _t(
            n, 1 - confidence
        ),
        "the quantile is missing: this is one standard error to either side": (
            lambda n, confidence: 1
        ),
    }
    for message, reach in reaches.items():
        held = 2 * stats.t.cdf(reach(RUNS, CONFIDENCE), RUNS - 1) - 1
        yield (
            f"{message}; with six seeds {100 * held:.1f} % of such intervals hold the true mean, "
            "where 95 % are promised",
            _with(reach),
        )


def _quantiles(values: list[float], confidence: float = CONFIDENCE) -> Any:
    return np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])


@exercise(
    cases=[
        _case(6, 0.95),
        _case(2, 0.95),
        _case(9, 0.9),
        _case(30, 0.99),
        _case(6),
        _case(3, 0.5),
        _case(5, 0.1, low=-1, high=1),
        _case(500, 0.999, low=-2, high=-1),
    ],
    returns="the interval",
    use=lambda ends, *_: ends.tolist() if isinstance(ends, np.ndarray) else ends,
    praise="the share of such intervals that hold the true mean is the confidence.",
    otherwise="these are not the ends of the t interval: the mean, and to either side the quantile "
    "times the standard deviation over the root of n",
    slips={
        **dict(_reaches()),
        "low and high are swapped": _with(_t, ends=lambda mean, half: (mean + half, mean - half)),
        "confidence is ignored: this is always the 95 % interval": _with(
            lambda n, confidence: _t(n, CONFIDENCE)
        ),
        "this is the mean and how far the interval reaches: return mean - half, mean + half": (
            _with(_t, ends=lambda mean, half: (mean, half))
        ),
        "these are the smallest and the largest value: say where the mean lies": (
            lambda values, confidence=CONFIDENCE: (min(values), max(values))
        ),
        "these are quantiles of the values: they say where runs lie, not where their mean does": (
            _quantiles
        ),
        "the interval is centered on the median: center it on the mean": _with(
            _t, middle=statistics.median
        ),
        "low and high are nan: either a probability above 1 is handed to ppf, or there are 0 "
        "degrees of freedom": _with(lambda n, confidence: math.nan),
    },
)
def interval(values: list[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    ends: tuple[float, float] = _with(_t)(values, confidence)
    return ends

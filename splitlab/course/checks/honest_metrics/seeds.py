"""Exercise 4: an interval for a mean over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from splitlab.course.checks.base import Answer, check, expect_number, expect_right, what, wrong

Formula = Callable[[list[float], float], Tensor]
CONFIDENCE = 0.95  # where the call names none
EXPERIMENTS, RUNS = 1000, 6
MAY_DIFFER = 0.002  # of the experiments: one whose mean lies on the edge, up to rounding
TRUE_MEAN, SPREAD = 0.7, 0.05  # of the figure in the simulated experiments
ROUNDING = 1e-6


@check("of many such intervals, as many hold the true mean as they promise.")
def interval(answer: Answer) -> None:
    """`interval(values, confidence=0.95)`: the t interval of a mean over independent seeds."""
    cases = []
    for runs, confidence in ((6, CONFIDENCE), (2, 0.95), (9, 0.9), (30, 0.99), (3, 0.5)):
        values = 3 + 2 * torch.rand(runs, dtype=torch.float64).square()
        cases.append((values.tolist(), confidence))
    ends = [torch.tensor(_ends(answer, *case)) for case in cases]
    left_out = torch.tensor(_ends(answer, cases[0][0]))  # of the confidence
    held, right = _held(answer)
    consequence = (
        f"of {EXPERIMENTS} made-up experiments with {RUNS} seeds, {100 * held:.1f} % have the true "
        f"mean in this interval, and {100 * right:.1f} % in the t interval"
    )
    expect_right(
        [*(pair.double() for pair in ends), left_out.double()],
        [*cases, cases[0]],
        _t_interval,
        [(f"{message}; {consequence}", formula) for message, formula in _mistakes()],
        "these are not the ends of the t interval: the mean, and to either side the quantile times "
        f"the standard deviation over the root of n; {consequence}",
        ROUNDING,
    )
    if abs(held - right) > MAY_DIFFER:  # right for the cases above, and not for all
        wrong(f"these are not the ends of the t interval for all values; {consequence}")


def _held(answer: Answer) -> tuple[float, float]:
    """Return the share of simulated experiments whose interval holds the true mean.

    Returns:
        The share for the student's intervals, and for the t intervals; 0 to 1.
    """
    experiments = torch.randn(EXPERIMENTS, RUNS, dtype=torch.float64) * SPREAD + TRUE_MEAN
    ends = [_ends(answer, values) for values in experiments.tolist()]
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, RUNS - 1) * experiments.std(1) / math.sqrt(RUNS)
    right = (experiments.mean(1) - TRUE_MEAN).abs() <= reach
    held = sum(low <= TRUE_MEAN <= high for low, high in ends)
    return held / EXPERIMENTS, right.double().mean().item()


def _ends(answer: Answer, values: list[float], *confidence: float) -> tuple[float, float]:
    """Return low and high.

    Raises:
        CheckFailed: If the function returns anything else, or changes the values.
    """
    before = list(values)
    ends: Any = answer(values, *confidence)
    if values != before:
        wrong("interval changes the list of values: work on a copy")
    if not isinstance(ends, tuple | list) and getattr(ends, "shape", None) != (2,):
        wrong(f"interval returns {what(ends)}: two numbers are expected, so return low, high")
    if len(ends) != 2:
        wrong(
            f"interval returns {len(ends)} numbers: two numbers are expected, so return low, high"
        )
    return expect_number(ends[0], "low"), expect_number(ends[1], "high")


def _t_interval(values: list[float], confidence: float) -> Tensor:
    low, high = stats.t.interval(
        confidence, len(values) - 1, loc=statistics.fmean(values), scale=stats.sem(values)
    )
    return torch.tensor([low, high], dtype=torch.float64)


def _mistakes() -> Iterator[tuple[str, Formula]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "low and high are swapped",
        lambda values, confidence: _t_interval(values, confidence).flip(0),
    )
    halves: dict[str, Callable[[list[float], float], float]] = {
        "the quantile is the normal one, 1.96 at 95 %: with a few seeds the standard deviation is "
        "itself a guess, and Student's t with n - 1 degrees of freedom makes up for that": (
            lambda values, confidence: _normal(confidence) * _error(values)
        ),
        "the quantile is 1.96, whatever the confidence and however few the seeds: take Student's t "
        "with n - 1 degrees of freedom": lambda values, confidence: 1.96 * _error(values),
        "confidence is not used: the interval is the one of 95 %": (
            lambda values, confidence: _t(0.975, values) * _error(values)
        ),
        "the standard deviation is divided by n, as numpy's std does: a mean of n values has used "
        "up one of them, so divide the squares by n - 1": (
            lambda values, confidence: _half(values, confidence) * math.sqrt(1 - 1 / len(values))
        ),
        "this is where one more run would lie, not where the mean lies: divide the standard "
        "deviation by the root of n": (
            lambda values, confidence: _half(values, confidence) * math.sqrt(len(values))
        ),
        "there is n - 1 under the root: n - 1 belongs to the standard deviation, and the root of n "
        "to the mean": (
            lambda values, confidence: _half(values, confidence) / math.sqrt(1 - 1 / len(values))
        ),
        "the standard deviation is divided by n: divide it by the root of n": (
            lambda values, confidence: _half(values, confidence) / math.sqrt(len(values))
        ),
        "the quantile is one-sided: what lies outside is shared by two sides, so half of it lies "
        "below and half above": (
            lambda values, confidence: _t(confidence, values) * _error(values)
        ),
        "the degrees of freedom are n: they are n - 1": (
            lambda values, confidence: (
                stats.t.ppf((1 + confidence) / 2, len(values)) * _error(values)
            )
        ),
        "confidence is taken for what lies outside": (
            lambda values, confidence: _half(values, 1 - confidence)
        ),
        "the quantile is missing: this is one standard error to either side": (
            lambda values, confidence: _error(values)
        ),
    }
    for message, half in halves.items():
        yield (
            message,
            lambda values, confidence, half=half: _about(values, half(values, confidence)),
        )
    yield (
        "this is the mean and how far the interval reaches: return mean - half, mean + half",
        lambda values, confidence: torch.tensor(
            [statistics.fmean(values), _half(values, confidence)], dtype=torch.float64
        ),
    )
    yield (
        "these are the smallest and the largest value: say where the mean lies",
        lambda values, confidence: torch.tensor([min(values), max(values)], dtype=torch.float64),
    )
    yield (
        "these are quantiles of the values: they say where runs lie, not where their mean does",
        lambda values, confidence: torch.tensor(values, dtype=torch.float64).quantile(
            torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
        ),
    )
    yield (
        "the middle is the median: the t interval is one for the mean",
        lambda values, confidence: (
            _t_interval(values, confidence) - statistics.fmean(values) + statistics.median(values)
        ),
    )


def _about(values: list[float], half: float) -> Tensor:
    mean = statistics.fmean(values)
    return torch.tensor([mean - half, mean + half], dtype=torch.float64)


def _error(values: list[float]) -> float:
    """The standard error of the mean."""
    return statistics.stdev(values) / math.sqrt(len(values))


def _half(values: list[float], confidence: float) -> float:
    return _t((1 + confidence) / 2, values) * _error(values)


def _t(probability: float, values: list[float]) -> float:
    return float(stats.t.ppf(probability, len(values) - 1))


def _normal(confidence: float) -> float:
    return float(stats.norm.ppf((1 + confidence) / 2))

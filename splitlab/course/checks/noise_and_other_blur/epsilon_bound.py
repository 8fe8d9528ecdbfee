"""Exercise 4: the smallest epsilon that an audit has not refuted."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from splitlab.course.checks.judge import exercise
from splitlab.referee.intervals import proportion

Interval = Callable[[int, int], tuple[float, float]]
Bound = Callable[[float, float, float], float]


def _case(
    hits: int, false_alarms: int, trials: int, delta: float
) -> Callable[[], tuple[int, int, int, float]]:
    return lambda: (hits, false_alarms, trials, delta)


def _log(ratio: float) -> float:
    return math.log(ratio) if ratio > 0 else -math.inf


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.inf * (part > 0)


def _bound(high: float, low: float, delta: float) -> float:
    """The logarithm of the ratio of the high rate to the low one."""
    return _log(_share(high - delta, low))


def _normal(count: int, trials: int) -> tuple[float, float]:
    """The interval of the normal approximation, cut off at 0 and 1."""
    rate = count / trials
    half = 1.959963984540054 * math.sqrt(rate * (1 - rate) / trials)
    return max(0.0, rate - half), min(1.0, rate + half)


def _with(
    *,
    interval: Interval = proportion,
    ends: tuple[int, int] = (0, 1),
    bound: Bound = _bound,
    best: Callable[[float, float], float] = lambda a, b: max(0.0, a, b),
    trials_of: Callable[[int], int] = lambda trials: trials,
) -> Callable[[int, int, int, float], float]:
    """An answer that has one part wrong.

    Args:
        interval: (count, trials) -> its ends.
        ends: Which end is taken, of the hits' interval and of the false alarms'.
        bound: (the high rate, the low rate, delta) -> the bound in one direction.
        best: What is made of both directions.
        trials_of: How many trials the rates are divided by.
    """

    def answer(hits: int, false_alarms: int, trials: int, delta: float) -> float:
        hit = interval(hits, trials_of(trials))[ends[0]]
        false = interval(false_alarms, trials_of(trials))[ends[1]]
        return best(bound(hit, false, delta), bound(1 - false, 1 - hit, delta))

    return answer


def _changed(hits: int, false_alarms: int, trials: int, delta: float) -> float:
    return _with()(false_alarms, hits, trials, delta)


@exercise(
    cases=[
        _case(160, 20, 200, 0.01),
        _case(90, 4, 90, 1e-3),  # the images with the lower error rate are those without
        _case(30, 0, 200, 0.02),
        _case(97, 60, 100, 0.05),
        _case(12, 10, 20, 1e-5),  # nothing is refuted
        _case(0, 5, 8, 0.0),
        _case(7, 8, 8, 0.0),
        _case(195, 150, 200, 0.2),
        _case(3, 0, 3, 0.3),
    ],
    returns="the bound",
    tolerance=1e-6,
    praise="a nominal epsilon below this bound is refuted, with 95 % confidence.",
    otherwise="the bound is not right: with low, the lower end of the hits' interval, and high, "
    "the upper end of the false alarms', it is the largest of 0, log((low - delta) / high) and "
    "log((1 - high - delta) / (1 - low))",
    slips={
        "these are the rates themselves, which are too good by luck in about half of all audits: "
        "take the ends of their intervals": _with(interval=lambda k, n: (k / n, k / n)),
        "the other ends of the intervals are taken: an audit proves what holds at the unfavorable "
        "ones, the lower end for the hits and the upper end for the false alarms": (
            _with(ends=(1, 0))
        ),
        "both are lower ends: for the false alarms take the upper one": _with(ends=(0, 0)),
        "both are upper ends: for the hits take the lower one": _with(ends=(1, 1)),
        "the intervals are too short: these are one-sided limits of 95 %, and a two-sided interval "
        "leaves out 2.5 % on each side": _with(interval=partial(proportion, confidence=0.90)),
        "the intervals are too long: each leaves out 5 % in all, 2.5 % on each side": _with(
            interval=partial(proportion, confidence=0.975)
        ),
        "the intervals have 99 % confidence: take 95 %": _with(
            interval=partial(proportion, confidence=0.99)
        ),
        "these intervals rest on the normal approximation, which has no width where nothing "
        "happened: take the exact ones by Clopper and Pearson": _with(interval=_normal),
        "delta is missing: it is subtracted from the rate in the numerator": _with(
            bound=lambda high, low, delta: _bound(high, low, 0.0)
        ),
        "delta is added: differential privacy grants it to the numerator, so subtract it": _with(
            bound=lambda high, low, delta: _bound(high, low, -delta)
        ),
        "delta is subtracted from the denominator: subtract it from the numerator": _with(
            bound=lambda high, low, delta: _log(_share(high, low - delta))
        ),
        "delta is added to the denominator: subtract it from the numerator": _with(
            bound=lambda high, low, delta: _log(_share(high, low + delta))
        ),
        "delta is subtracted from the logarithm: subtract it from the rate, before the division": (
            _with(bound=lambda high, low, delta: _bound(high, low, 0.0) - delta)
        ),
        "only one direction counts here: a guess that the image was not in the data has two rates, "
        "too, which are 1 minus these": _with(best=lambda a, b: max(0.0, a)),
        "only the guess that the image was not in the data counts here: take the other direction, "
        "too, and the larger bound": _with(best=lambda a, b: max(0.0, b)),
        "the smaller of both directions is taken: each is a bound, so the larger one counts": _with(
            best=lambda a, b: max(0.0, min(a, b))
        ),
        "both directions are added: each is a bound on the same epsilon, so take the larger one": (
            _with(best=lambda a, b: max(0.0, a) + max(0.0, b))
        ),
        "the bound is below 0: an epsilon is at least 0": _with(best=max),
        "this is the ratio of the rates: epsilon is its logarithm": _with(
            bound=lambda high, low, delta: _share(high - delta, low)
        ),
        "this is a logarithm to the base 2: take the natural one": _with(
            bound=lambda high, low, delta: _bound(high, low, delta) / math.log(2)
        ),
        "this is a logarithm to the base 10: take the natural one": _with(
            bound=lambda high, low, delta: _bound(high, low, delta) / math.log(10)
        ),
        "hits and false alarms have changed places: a good auditor has many hits": _changed,
        "the rates are divided by twice the trials: there are as many with the image as without "
        "it, and each rate is of its own": _with(trials_of=lambda trials: 2 * trials),
    },
)
def epsilon_bound(hits: int, false_alarms: int, trials: int, delta: float) -> float:
    return _with()(hits, false_alarms, trials, delta)

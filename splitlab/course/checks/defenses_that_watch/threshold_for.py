"""Exercise 3: a threshold that few honest runs exceed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from splitlab.course.checks.judge import exercise

Runs = list[list[float]]


def _case(n: int, budget: float) -> Callable[[], tuple[Runs, float]]:
    """Honest runs of various lengths, some of which have higher scores than others."""

    def case() -> tuple[Runs, float]:
        lengths = torch.randint(3, 9, (n,)).tolist()
        return [(torch.randn(()) + torch.randn(m)).tolist() for m in lengths], budget

    return case


def _count(n: int, budget: float) -> int:
    return math.floor(budget * (n + 1))


def _maxima(runs: Runs) -> list[float]:
    return [max(run) for run in runs]


def _with(
    *,
    figures: Callable[[Runs], Sequence[float]] = _maxima,
    count: Callable[[int, float], int] = _count,
    place: Callable[[int], int] = lambda k: k - 1,
    descending: bool = True,
    least: int | None = 1,
) -> Callable[[Runs, float], float]:
    """An answer that has one part wrong.

    Args:
        figures: One number for each run, or for each step.
        count: (how many runs, budget) -> k.
        place: Where in the sorted list the threshold stands, by k.
        descending: Whether the list begins with the highest.
        least: The smallest k without an error; None for no error at all.
    """

    def answer(runs: Runs, budget: float) -> float:
        found = sorted(figures(runs), reverse=descending)
        k = count(len(found), budget)
        if least is not None and k < least:
            raise ValueError(f"{len(runs)} honest runs are too few for a budget of {budget}")
        return found[place(k)]

    return answer


def _one_of(of: Callable[[list[float]], float]) -> Callable[[Runs, float], float]:
    """A threshold that is computed from all runs' maxima and ignores the budget."""
    return lambda runs, budget: of(_maxima(runs))


@exercise(
    cases=[
        _case(23, 0.25),  # exactly 6
        _case(7, 0.5),
        _case(22, 0.25),  # 5.75, rounded down
        _case(11, 0.35),  # 4.2
        _case(10, 0.15),
        _case(19, 0.05),
        _case(18, 0.05),  # 0.95: too few runs
        _case(3, 0.2),
    ],
    returns="the threshold",
    praise="one more honest run exceeds it with a chance of at most the budget, if it is a run of "
    "the same kind.",
    otherwise="the threshold is not right: it is the k-th highest of the runs' maxima, where k is "
    "budget * (n + 1), rounded down",
    slips={
        "there is no error where k is 0: no threshold of so few runs keeps to the budget, so raise "
        "a ValueError with that message": _with(least=None),
        "the budget is spent on steps: one step above the threshold is an alarm for the whole run, "
        "so take the highest score of each run first": _with(
            figures=lambda runs: [score for run in runs for score in run]
        ),
        "k is computed from n: use n + 1, for the new run is one of n + 1 runs of the same kind": (
            _with(count=lambda n, budget: math.floor(budget * n))
        ),
        "k is rounded up: then more runs alarm than the budget allows, so round down": _with(
            count=lambda n, budget: math.ceil(budget * (n + 1))
        ),
        "k is rounded to the nearest whole number: round down": _with(
            count=lambda n, budget: round(budget * (n + 1))
        ),
        "the place in the list is off by one: the k-th highest has the index k - 1": _with(
            place=lambda k: k
        ),
        "the place in the list is one too early: the k-th highest has the index k - 1": _with(
            place=lambda k: k - 2
        ),
        "the list begins with the lowest: high scores are suspicious, so take the k-th highest": (
            _with(descending=False)
        ),
        "the lowest score of each run is taken: high scores are suspicious, so take its highest": (
            _with(figures=lambda runs: [min(run) for run in runs])
        ),
        "the mean score of each run is taken: a run alarms at its highest score": _with(
            figures=lambda runs: [sum(run) / len(run) for run in runs]
        ),
        "the last score of each run is taken: a run alarms at its highest score": _with(
            figures=lambda runs: [run[-1] for run in runs]
        ),
        "this is the mean of the maxima: take the k-th highest of them": _one_of(
            lambda maxima: sum(maxima) / len(maxima)
        ),
        "this is the highest score of all, whatever the budget is: take the k-th highest maximum": (
            _one_of(max)
        ),
        "this is an interpolated quantile, which promises nothing for one more run: take the k-th "
        "highest maximum": lambda runs, budget: float(np.quantile(_maxima(runs), 1 - budget)),
    },
)
def threshold_for(runs: Runs, budget: float) -> float:
    return _with()(runs, budget)

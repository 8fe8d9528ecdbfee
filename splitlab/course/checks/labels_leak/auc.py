"""Exercise 2: the area under the curve, counted in pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from splitlab.course.checks.base import (
    Answer,
    CheckFailed,
    NotWrittenYet,
    check,
    expect_number,
    expect_right,
    wrong,
)
from splitlab.course.checks.labels_leak.common import undisturbed

Formula = Callable[[Tensor, Tensor], Tensor]
ROUNDING = 1e-6  # an answer may count in float32


@check("1 is a leak, 1/2 is guessing, and a tie is a guess.")
def leak_auc(answer: Answer) -> None:
    """`leak_auc(scores, positive)`: the share of pairs in the right order, ties counting 1/2."""
    cases = [
        _scores(count, positives, lead)
        for count, positives, lead in ((40, 6, 1.0), (30, 15, 0.5), (25, 20, 2.0), (36, 9, -1.5))
    ]
    cases.append((cases[0][0] * 1e-10, cases[0][1]))  # gradients are small late in training
    values = [torch.tensor(_asked(answer, *case)) for case in cases]
    expect_right(
        [value.double() for value in values],
        cases,
        _auc,
        _mistakes(),
        "the share is not right: go through all pairs of a positive and a negative, and count 1 "
        "where the positive scores higher and 1/2 where both score the same",
        ROUNDING,
    )
    for what, positive in (("positives", False), ("negatives", True)):
        _check_missing(answer, what, torch.full((5,), positive))


def _check_missing(answer: Answer, what: str, positive: Tensor) -> None:
    """Without a pair there is no share: nan, and no crash."""
    try:
        value = _asked(answer, torch.rand(len(positive), dtype=torch.float64), positive)
    except NotWrittenYet:
        raise
    except CheckFailed as error:
        raise CheckFailed(f"in a batch without {what}, {error}") from error
    if not math.isnan(value):
        wrong(
            f"a batch without {what} gets {value:.4g}: it has no pair to put in order, so it says "
            "nothing; return nan, for any number would be averaged with the others"
        )


def _asked(answer: Answer, scores: Tensor, positive: Tensor) -> float:
    value = undisturbed(answer, scores, positive, what="the scores or the labels")
    return expect_number(value, "the share", finite=False)


def _mistakes() -> Iterator[tuple[str, Formula]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "the order is reversed: a pair is right where the positive scores higher than the negative",
        lambda scores, positive: 1 - _auc(scores, positive),
    )
    yield from _tie_mistakes()
    yield (
        "a share below 1/2 is turned around: without the labels one cannot know that the "
        "score is to be turned, so leave it below 1/2",
        lambda scores, positive: torch.maximum(_auc(scores, positive), 1 - _auc(scores, positive)),
    )
    yield (
        "this is how far the share is from 1/2, doubled: return the share itself",
        lambda scores, positive: 2 * _auc(scores, positive) - 1,
    )
    yield (
        "this is a percentage: return the share, from 0 to 1",
        lambda scores, positive: 100 * _auc(scores, positive),
    )
    counts: dict[str, Callable[[Tensor], float]] = {
        "this is the number of pairs in the right order: divide it by the number of pairs": (
            lambda positive: 1.0
        ),
        "the pairs are divided by N squared: there are as many as positives times negatives": (
            lambda positive: len(positive) ** 2
        ),
        "the pairs are divided by the number of all pairs: only those of a positive and a negative "
        "count": lambda positive: len(positive) * (len(positive) - 1) / 2,
    }
    for message, count in counts.items():
        yield (
            message,
            lambda scores, positive, count=count: (
                _auc(scores, positive) * positive.sum() * (~positive).sum() / count(positive)
            ),
        )
    yield from _threshold_mistakes()


def _tie_mistakes() -> Iterator[tuple[str, Formula]]:
    ties = {
        "ties count 0: a score that is the same for all images would look worse than guessing; "
        "count 1/2": 0.0,
        "ties count 1: a score that is the same for all images would look like a perfect one; "
        "count 1/2": 1.0,
    }
    for message, worth in ties.items():
        yield message, lambda scores, positive, worth=worth: _auc(scores, positive, worth)
    yield (
        "ties are left out of the pairs: they are pairs that the score does not order, so they "
        "count, by 1/2",
        _without_ties,
    )
    yield (
        "ties are broken by the order of the rows: the images' place in the batch says nothing of "
        "their labels, so count 1/2",
        _by_rows,
    )
    yield (
        "scores that differ by little count as ties: late in training all norms are small, and the "
        "order is still there",
        _nearly,
    )


def _threshold_mistakes() -> Iterator[tuple[str, Formula]]:
    thresholds: dict[str, Callable[[Tensor], Tensor]] = {
        "0": lambda scores: torch.zeros(()),
        "0.5": lambda scores: torch.tensor(0.5),
        "the mean score": lambda scores: scores.mean(),
        "the median score": lambda scores: scores.median(),
    }
    for name, threshold in thresholds.items():
        yield (
            f"this is the accuracy at a threshold, {name}: the share of ordered pairs needs none, "
            "and does not rise where one class is rare",
            lambda scores, positive, threshold=threshold: (
                ((scores > threshold(scores)) == positive).double().mean()
            ),
        )
    yield (
        "this is the accuracy at the best threshold, which only the labels can tell: the share of "
        "ordered pairs needs no threshold",
        _best_accuracy,
    )
    yield (
        "the positives are compared with the mean of the negatives: compare each with each",
        lambda scores, positive: (scores[positive] > scores[~positive].mean()).double().mean(),
    )
    yield (
        "this is the average precision, which depends on how rare the positives are: count pairs",
        _average_precision,
    )


def _auc(scores: Tensor, positive: Tensor, tie: float = 0.5) -> Tensor:
    high, low = scores[positive][:, None], scores[~positive]
    return ((high > low).double() + tie * (high == low)).mean()


def _without_ties(scores: Tensor, positive: Tensor) -> Tensor:
    high, low = scores[positive][:, None], scores[~positive]
    return (high > low).sum() / (high != low).sum().double()


def _nearly(scores: Tensor, positive: Tensor) -> Tensor:
    high, low = scores[positive][:, None], scores[~positive]
    tied = torch.isclose(high, low)
    return ((high > low).logical_and(~tied).double() + 0.5 * tied).mean()


def _by_rows(scores: Tensor, positive: Tensor) -> Tensor:
    ranks = torch.empty_like(scores)
    ranks[scores.argsort(stable=True)] = torch.arange(len(scores), dtype=scores.dtype)
    return _auc(ranks, positive)


def _best_accuracy(scores: Tensor, positive: Tensor) -> Tensor:
    called = scores >= scores[:, None]  # row i: with score i as the threshold
    return torch.stack([*(called == positive).double().mean(1), (~positive).double().mean()]).max()


def _average_precision(scores: Tensor, positive: Tensor) -> Tensor:
    called = (scores >= scores[:, None]).double()
    precision = (called * positive).sum(1) / called.sum(1)
    return precision[positive].mean()


def _scores(count: int, positives: int, lead: float) -> tuple[Tensor, Tensor]:
    """Make scores, float64, with ties within the classes and across, and labels.

    Args:
        count: How many images.
        positives: How many of them are positive.
        lead: By how much these score higher.

    Returns:
        Scores (N,) and labels, bool (N,), in random order.
    """
    positive = torch.zeros(count, dtype=torch.bool)
    positive[torch.randperm(count)[:positives]] = True
    scores = torch.randn(count, dtype=torch.float64) + lead * positive
    # Half of the scores come in steps of 1/2, so that some of them meet; the rest are all unlike.
    return torch.where(torch.rand(count) < 0.5, (2 * scores).round() / 2, scores), positive

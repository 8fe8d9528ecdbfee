"""Exercise 2: the area under the curve, counted in pairs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Formula = Callable[[Tensor, Tensor], Tensor]


def _scores(
    count: int, positives: int, lead: float, scale: float = 1.0, shift: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Scores (N,), those of positives higher by `lead`, and labels in random order.

    Half of the scores come in steps of 1/2, so that some of them meet, within the classes and
    across; the rest are all unlike.
    """
    positive = torch.arange(count)[torch.randperm(count)] < positives
    scores = torch.randn(count) + lead * positive
    scores = torch.where(torch.rand(count) < 0.5, (2 * scores).round() / 2, scores)
    return shift + scale * scores, positive


def _auc(scores: Tensor, positive: Tensor, tie: float = 0.5) -> Tensor:
    high, low = scores[positive][:, None], scores[~positive]
    return ((high > low).double() + tie * (high == low)).mean()


def _changed(change: Callable[[Tensor], Tensor]) -> Formula:
    return lambda scores, positive: change(_auc(scores, positive))


def _per(count: Callable[[Tensor], float]) -> Formula:
    """The number of pairs in the right order, divided by another count than that of pairs."""
    return lambda scores, positive: (
        _auc(scores, positive) * positive.sum() * (~positive).sum() / count(positive)
    )


def _alone(value: float) -> Formula:
    """With another value where a class is missing."""
    return lambda scores, positive: _auc(scores, positive).nan_to_num(value)


def _accuracy(threshold: Callable[[Tensor], float | Tensor]) -> Formula:
    return lambda scores, positive: ((scores > threshold(scores)) == positive).double().mean()


def _best_accuracy(scores: Tensor, positive: Tensor) -> Tensor:
    called = scores >= scores[:, None]  # row i: with score i as the threshold
    return torch.stack([*(called == positive).double().mean(1), (~positive).double().mean()]).max()


def _average_precision(scores: Tensor, positive: Tensor) -> Tensor:
    called = (scores >= scores[:, None]).double()
    precision = (called * positive).sum(1) / called.sum(1)
    return precision[positive].mean()


def _by_rows(scores: Tensor, positive: Tensor) -> Tensor:
    return _auc(scores.argsort(stable=True).argsort(), positive)


def _without_ties(scores: Tensor, positive: Tensor) -> Tensor:
    high, low = scores[positive][:, None], scores[~positive]
    return (high > low).sum() / (high != low).sum()


def _nearly(scores: Tensor, positive: Tensor) -> Tensor:
    high, low = scores[positive][:, None], scores[~positive]
    tied = torch.isclose(high, low)
    return ((high > low).logical_and(~tied).double() + 0.5 * tied).mean()


def _needs_pairs(scores: Tensor, positive: Tensor) -> Tensor:
    pairs = float(positive.sum() * (~positive).sum())
    return torch.tensor(float(_auc(scores, positive).nan_to_num(0)) * pairs / pairs)


@exercise(
    cases=[
        lambda: _scores(40, 6, 1.0),
        lambda: _scores(25, 20, 2.0, shift=-9.0),
        lambda: _scores(36, 9, -1.5),
        lambda: _scores(31, 15, 0.5, scale=1e-10),  # gradients are small late in training
        lambda: _scores(30, 12, 0.5, scale=1e-4, shift=1.0),
        lambda: _scores(600, 200, 0.5),
        lambda: (torch.rand(5), torch.zeros(5, dtype=torch.bool)),
        lambda: (torch.rand(5), torch.ones(5, dtype=torch.bool)),
        lambda: (torch.rand(2), torch.tensor([True, False])),
    ],
    returns="the share",
    tolerance=1e-6,  # a share may be counted in float32
    praise="1 is a leak, 1/2 is guessing, and a tie is a guess.",
    otherwise="the share is not right: go through all pairs of a positive and a negative, and "
    "count 1 where the positive scores higher and 1/2 where both score the same; without a pair it "
    "is nan",
    slips={
        "the order is reversed: a pair is right where the positive scores higher than the "
        "negative": _changed(lambda share: 1 - share),
        "ties count 0: a score that is the same for all images would look worse than guessing; "
        "count 1/2": lambda scores, positive: _auc(scores, positive, tie=0),
        "ties count 1: a score that is the same for all images would look like a perfect one; "
        "count 1/2": lambda scores, positive: _auc(scores, positive, tie=1),
        "ties are left out of the pairs: they are pairs that the score does not order, so they "
        "count, by 1/2": _without_ties,
        "ties are broken by the order of the rows: the images' place in the batch says nothing of "
        "their labels, so count 1/2": _by_rows,
        "scores that differ by little count as ties: late in training all norms are small, and the "
        "order is still there": _nearly,
        "a share below 1/2 is replaced by 1 minus the share: without the labels nobody knows "
        "that the score should be reversed, so leave it below 1/2": _changed(
            lambda share: max(share, 1 - share)
        ),
        "this is how far the share is from 1/2, doubled: return the share itself": _changed(
            lambda share: 2 * share - 1
        ),
        "this is a percentage: return the share, from 0 to 1": _changed(lambda share: 100 * share),
        "this is the number of pairs in the right order: divide it by the number of pairs": _per(
            lambda positive: 1
        ),
        "the pairs are divided by N squared: there are as many as positives times negatives": _per(
            lambda positive: len(positive) ** 2
        ),
        "the pairs are divided by the number of all pairs: only those of a positive and a negative "
        "count": _per(lambda positive: len(positive) * (len(positive) - 1) / 2),
        "a batch without positives, or without negatives, gets 1/2: it has no pair to put in "
        "order, so it says nothing; return nan, for any number would be averaged with the "
        "others": _alone(0.5),
        "a batch without positives, or without negatives, gets 0: it has no pair to put in order, "
        "so it says nothing; return nan, for any number would be averaged with the others": (
            _alone(0.0)
        ),
        "a batch without positives, or without negatives, has no pair, and you divide by their "
        "number: return nan there": _needs_pairs,
        **{
            f"this is the accuracy at a threshold, {name}: the share of ordered pairs needs none, "
            "and does not rise where one class is rare": _accuracy(threshold)
            for name, threshold in {
                "0": lambda scores: 0,
                "0.5": lambda scores: 0.5,
                "the mean score": torch.mean,
                "the median score": lambda scores: scores.median(),
            }.items()
        },
        "this is the accuracy at the best threshold, which only the labels can tell: the share of "
        "ordered pairs needs no threshold": _best_accuracy,
        "the positives are compared with the mean of the negatives: compare each with each": (
            lambda scores, positive: (scores[positive] > scores[~positive].mean()).double().mean()
        ),
        "this is the average precision, which depends on how rare the positives are: count "
        "pairs": _average_precision,
    },
)
def leak_auc(scores: Tensor, positive: Tensor) -> Tensor:
    return _auc(scores, positive)

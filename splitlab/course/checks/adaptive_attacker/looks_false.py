"""Exercise 2: how a server that knows SplitGuard recognizes a batch with false labels."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from splitlab.course.checks.judge import exercise

Call = tuple[Tensor, Tensor, list[float]]
IMAGES, CLASSES = 16, 5


def _batch(right: int, accuracies: list[float], confidence: float = 1.0) -> Call:
    """A batch with a given number of images classified as labeled."""
    logits = confidence * torch.randn(IMAGES, CLASSES)
    labels = logits.argmax(1)
    wrong = torch.randperm(IMAGES)[right:]
    labels[wrong] = (labels[wrong] + torch.randint(1, CLASSES, (len(wrong),))) % CLASSES
    return logits, labels, accuracies


def _batches() -> Iterator[Call]:
    """Batches at the limits of the rule, and batches that look false only relative to the usual."""
    yield _batch(3, [0.5] * 3)  # the usual accuracy is just enough
    yield _batch(4, [0.5] * 3)  # exactly half of it
    yield _batch(1, [0.25, 0.4375])  # the task is not learned yet
    yield _batch(3, [0.0] + [0.5] * 20)  # 21 of them
    yield _batch(3, [0.0] + [0.52] * 19)  # 20 of them
    yield _batch(8, [0.9] * 5)
    yield _batch(7, [0.9] * 5, confidence=9.0)
    yield _batch(6, [0.1] * 10 + [0.9] * 20, confidence=9.0)
    yield _batch(5, [1.0] * 10 + [0.5] * 20)
    yield _batch(6, [0.9] * 20 + [0.3] * 10)
    yield _batch(6, [0.9] * 7 + [0.1])
    yield _batch(7, [0.55] * 8 + [1.0])
    yield _batch(6, [1.0] * 3 + [0.3] * 2)
    yield _batch(16, [0.8] * 4, confidence=0.1)
    yield _batch(2, [0.8] * 4, confidence=0.1)
    yield _batch(0, [])


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())


def _mean(accuracies: list[float]) -> float:
    return sum(accuracies) / len(accuracies)


def _rule(
    *,
    usual: Callable[[list[float]], float] = lambda accuracies: _mean(accuracies[-20:]),
    figure: Callable[[Tensor, Tensor], float] = _accuracy,
    false: Callable[[float, float], bool] = lambda figure, usual: figure < usual / 2,
    known: Callable[[float], bool] = lambda usual: usual >= 0.5,
    at_first: bool = False,
) -> Callable[[Tensor, Tensor, list[float]], bool]:
    """The rule, with one part wrong."""

    def answer(logits: Tensor, labels: Tensor, accuracies: list[float]) -> bool:
        if not accuracies:
            return at_first
        mean = usual(accuracies)
        return known(mean) and false(figure(logits, labels), mean)

    return answer


def _without_history(logits: Tensor, labels: Tensor, accuracies: list[float]) -> bool:
    usual = _mean(accuracies[-20:])
    return usual >= 0.5 and _accuracy(logits, labels) < usual / 2


def _this_batch_too(logits: Tensor, labels: Tensor, accuracies: list[float]) -> bool:
    return _rule()(logits, labels, [*accuracies, _accuracy(logits, labels)])


@exercise(
    cases=[_batches],
    returns="the verdict",
    praise="a batch that looks false gets an honest answer, and SplitGuard sees an honest answer.",
    otherwise="the verdict is not right: a batch looks false if the mean of the last 20 accuracies "
    "is at least 0.5 and the accuracy of this batch is below half of this mean",
    slips={
        "all accuracies so far make the mean: take the last 20": _rule(usual=_mean),
        "the first 20 accuracies make the mean: take the last 20": _rule(
            usual=lambda accuracies: _mean(accuracies[:20])
        ),
        "the latest accuracy is used as the usual one: take the mean of the last 20": _rule(
            usual=lambda accuracies: accuracies[-1]
        ),
        "the largest accuracy is used as the usual one: take the mean of the last 20": _rule(
            usual=lambda accuracies: max(accuracies[-20:])
        ),
        "the median is used as the usual accuracy: take the mean": _rule(
            usual=lambda accuracies: statistics.median(accuracies[-20:])
        ),
        "this batch is part of its own usual accuracy: compare with the earlier ones "
        "alone": _this_batch_too,
        "batches look false before the task is learned: ask first whether the usual accuracy is at "
        "least 0.5": _rule(known=lambda usual: True),
        "a usual accuracy of exactly 0.5 is not enough here: it is enough": _rule(
            known=lambda usual: usual > 0.5
        ),
        "only batches before the task is learned look false: the usual accuracy should be at "
        "least 0.5": _rule(known=lambda usual: usual < 0.5),
        "an accuracy of exactly half the usual one looks false here: it should be below half": (
            _rule(false=lambda figure, usual: figure <= usual / 2)
        ),
        "any accuracy below the usual one looks false: it should be below half of it": _rule(
            false=lambda figure, usual: figure < usual
        ),
        "the batch is compared with the usual accuracy minus 0.5: compare with half of it": _rule(
            false=lambda figure, usual: figure < usual - 0.5
        ),
        "batches that fit their labels look false: it is those with a low accuracy": _rule(
            false=lambda figure, usual: figure > usual / 2
        ),
        "the accuracy is compared with the fixed number 0.5: compare with half of what is "
        "usual": _rule(false=lambda figure, usual: figure < 0.5),
        "the accuracy is compared with the fixed number 0.25: compare with half of what is "
        "usual": _rule(false=lambda figure, usual: figure < 0.25),
        "the loss is used instead of the accuracy: count how many images are classified as "
        "labeled": _rule(figure=lambda logits, labels: float(F.cross_entropy(logits, labels))),
        "the probability of the labels is used instead of the accuracy: count how many images are "
        "classified as labeled": _rule(
            figure=lambda logits, labels: float(logits.softmax(1).gather(1, labels[:, None]).mean())
        ),
        "with no history the batch looks false: with nothing to compare, it should not": _rule(
            at_first=True
        ),
        "with no history there is no mean to compare with: return False then": _without_history,
    },
)
def looks_false(logits: Tensor, labels: Tensor, accuracies: list[float]) -> bool:
    return _rule()(logits, labels, accuracies)

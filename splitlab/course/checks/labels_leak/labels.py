"""Exercise 4: labels from the gradient of one layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitlab.course.checks.base import Answer, check, expect_right, twin, what, wrong
from splitlab.course.checks.unsplit.common import Untouched, expect_unchanged

Case = tuple[Tensor, Tensor, nn.Linear]  # a, da, the attacker's tail
Distance = Callable[[Tensor, Tensor], Tensor]  # (K, B, D), (B, D) -> (K, B)


@check("one layer's gradient names the labels, and the tail was only asked.")
def infer_labels(answer: Answer) -> None:
    """`infer_labels(a, da, tail)`: each row's class, whose gradient is nearest to da."""
    cases = [
        _case(batch, width, classes, off=off, confident=confident)
        for batch, width, classes in ((9, 6, 5), (14, 3, 4), (1, 4, 3), (7, 8, 10))
        for off in (0.0, 0.5)
        for confident in (1.0, 4.0)
    ]
    expect_right(
        [_asked(answer, *case) for case in cases],
        cases,
        lambda a, da, tail: _euclid(_candidates(a, tail), da).argmin(0),
        _mistakes(),
        "these are not the classes whose gradients are nearest to da: for each class, let all rows "
        "have it as their label, take the gradient of the mean cross-entropy with respect to a, "
        "and pick for each row the class with the smallest Euclidean distance",
    )


def _asked(answer: Answer, a: Tensor, da: Tensor, tail: nn.Linear) -> Tensor:
    """Return the student's labels, if they can be labels.

    Raises:
        CheckFailed: If they cannot, or if something has changed.
    """
    before, net = (a.clone(), da.clone()), Untouched(tail, "the tail")
    labels = answer(a, da, tail)
    expect_unchanged("infer_labels", a=(a, before[0]), da=(da, before[1]))
    net.check()
    if not isinstance(labels, Tensor):
        wrong(f"the labels should be a tensor and are {what(labels)}")
    if labels.shape != (len(a),):
        wrong(
            f"the labels have shape {tuple(labels.shape)} where {(len(a),)} is expected: one class "
            "for each row of a"
        )
    if labels.dtype != torch.int64:
        wrong(f"the labels should be class numbers, int64, and are {labels.dtype}")
    return labels


def _candidates(a: Tensor, tail: nn.Linear, share: bool = True) -> Tensor:
    """For each class, the gradient that a would get, (K, B, D), written out.

    Args:
        a: The tail's input, (B, D).
        tail: One linear layer.
        share: Whether the loss is the mean over the batch, and not the sum.
    """
    with torch.no_grad():
        probability = tail(a).softmax(1)
        truth = torch.eye(tail.out_features, dtype=a.dtype)
        gradients = (probability[None] - truth[:, None]) @ tail.weight
    return gradients / len(a) if share else gradients


def _euclid(candidates: Tensor, da: Tensor) -> Tensor:
    return (candidates - da).square().sum(2)


def _mistakes() -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "the gradients of the classes are B times as long as da: the task's loss is the mean over "
        "the batch, so each row's gradient carries a factor 1 / B",
        lambda a, da, tail: _euclid(_candidates(a, tail, share=False), da).argmin(0),
    )
    yield (
        "these are what the tail predicts: da is not looked at, and where the network is wrong the "
        "label is another one",
        lambda a, da, tail: tail(a).argmax(1),
    )
    one_label = (
        "all rows get one label: the gradients, or their distances, are summed over the batch, and "
        "every row has a gradient of its own"
    )
    yield (
        one_label,
        lambda a, da, tail: _euclid(_candidates(a, tail), da).sum(1).argmin().expand(len(a)),
    )
    yield (
        one_label,
        lambda a, da, tail: (
            _euclid(_candidates(a, tail).sum(1, keepdim=True), da.sum(0)[None])
            .argmin(0)
            .expand(len(a))
        ),
    )
    yield (
        "the classes are counted from 1 here: the first one is number 0",
        lambda a, da, tail: _euclid(_candidates(a, tail), da).argmin(0) + 1,
    )
    yield (
        "da is projected on the tail's weights, and the softmax is left out: the gradient of a "
        "class is (softmax - one-hot) times the weight, over B",
        lambda a, da, tail: (da @ tail.weight.T).argmin(1),
    )
    yield (
        "the softmax is missing: the gradient of a class is (softmax - one-hot) times the weight, "
        "over B",
        lambda a, da, tail: _euclid(-tail.weight[:, None] / len(a), da).argmin(0),
    )
    distances: dict[str, Distance] = {
        "these are the classes whose gradients are the farthest from da: argmin, not argmax": (
            lambda candidates, da: -_euclid(candidates, da)
        ),
        "only the norms of the gradients are compared: two classes can have gradients of one "
        "norm in opposite directions": (
            lambda candidates, da: (candidates.norm(dim=2) - da.norm(dim=1)).abs()
        ),
        "the sign is turned: da goes uphill, and the gradients it is compared with go down": (
            lambda candidates, da: _euclid(-candidates, da)
        ),
        "only the angles are compared: they forget how long da is; take the distance": (
            lambda candidates, da: -F.cosine_similarity(candidates, da[None], dim=2)
        ),
        "the absolute differences decide here: take the Euclidean distance": (
            lambda candidates, da: (candidates - da).abs().sum(2)
        ),
        "the differences are not squared, and those of opposite sign cancel": (
            lambda candidates, da: (candidates - da).sum(2)
        ),
        "only the first number of each row is compared: the distance runs over all of them": (
            lambda candidates, da: (candidates - da)[..., 0].abs()
        ),
    }
    for message, distance in distances.items():
        yield (
            message,
            lambda a, da, tail, distance=distance: distance(_candidates(a, tail), da).argmin(0),
        )


def _case(batch: int, width: int, classes: int, *, off: float, confident: float) -> Case:
    """Make the client's gradient, and an attacker's tail.

    Args:
        batch: Rows.
        width: Numbers in a row of a.
        classes: How many there are.
        off: How far the attacker's weights are from the client's, relative to these.
        confident: A factor on the client's weights.
    """
    tail = nn.Linear(width, classes).double()
    with torch.no_grad():
        tail.weight *= confident
    a = torch.randn(batch, width, dtype=torch.float64)
    labels = torch.randint(classes, (batch,))
    leaf = a.clone().requires_grad_()
    (da,) = torch.autograd.grad(F.cross_entropy(tail(leaf), labels), leaf)
    clone = twin(tail)
    assert isinstance(clone, nn.Linear)
    with torch.no_grad():
        clone.weight += off * tail.weight.std() * torch.randn_like(tail.weight)
    return a, da, clone

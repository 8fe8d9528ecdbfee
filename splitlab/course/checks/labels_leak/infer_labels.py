"""Exercise 4: labels from the gradient of one layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitlab.course.checks.judge import exercise

Labels = Callable[[Tensor, Tensor, nn.Linear], Tensor]


def _case(
    batch: int, width: int, classes: int, *, off: float = 0.0, confident: float = 1.0
) -> tuple[Tensor, Tensor, nn.Linear]:
    """Make a, the client's gradient da, and an attacker's tail.

    Args:
        batch: Rows.
        width: Numbers in a row of a.
        classes: How many there are.
        off: How far the attacker's weights are from the client's, relative to these.
        confident: A factor on the client's weights.
    """
    tail = nn.Linear(width, classes)
    a = torch.randn(batch, width)
    with torch.no_grad():
        tail.weight *= confident
        truth = torch.eye(classes)[torch.randint(classes, (batch,))]
        da = (tail(a).softmax(1) - truth) @ tail.weight / batch
        tail.weight += off * tail.weight.std() * torch.randn_like(tail.weight)
    for parameter in tail.parameters():
        parameter.grad = torch.randn_like(parameter)
    return a, da, tail


def _frozen() -> tuple[Tensor, Tensor, nn.Linear]:
    a, da, tail = _case(7, 8, 10, off=0.5)
    return a, da, tail.eval().requires_grad_(False)


def _candidates(a: Tensor, tail: nn.Linear) -> Tensor:
    """For each class, the gradient with respect to a, (K, B, D), by its formula."""
    with torch.no_grad():
        truth = torch.eye(tail.out_features)
        gradients: Tensor = (tail(a).softmax(1) - truth[:, None]) @ tail.weight / len(a)
        return gradients


def _squares(candidates: Tensor, da: Tensor) -> Tensor:
    return (candidates - da).square().sum(2)


def _nearest(distance: Callable[[Tensor, Tensor], Tensor] = _squares) -> Labels:
    """An answer with another distance, (K, B, D), (B, D) -> (K, B)."""
    return lambda a, da, tail: distance(_candidates(a, tail), da).argmin(0).expand(len(a))


def _of_softmax(a: Tensor, da: Tensor, tail: nn.Linear) -> Tensor:
    leaf = a.detach().requires_grad_()
    logs = tail(leaf).softmax(1).log_softmax(1)
    sums = [torch.autograd.grad(-column.mean(), leaf, retain_graph=True)[0] for column in logs.T]
    return _squares(torch.stack(sums), da).argmin(0)


@exercise(
    cases=[
        lambda: _case(20, 6, 5, off=0.5),
        lambda: _case(9, 3, 4, off=0.5, confident=4.0),
        lambda: _case(1, 4, 3),
        _frozen,
        lambda: _case(3, 1, 2),
        lambda: _case(50, 2, 12, confident=3.0),
    ],
    returns="the tensor of labels",
    praise="one layer's gradient reveals the labels, and the tail was only used.",
    otherwise="these are not the classes whose gradients are nearest to da: for each class, let "
    "all rows have it as their label, take the gradient of the mean cross-entropy with respect to "
    "a, and pick for each row the class with the smallest Euclidean distance",
    slips={
        "the gradients of the classes are B times as long as da: the task's loss is the mean over "
        "the batch, so each row's gradient carries a factor 1 / B": _nearest(
            lambda candidates, da: _squares(candidates * len(da), da)
        ),
        "these are what the tail predicts: da is not looked at, and where the network is wrong the "
        "label is another one": lambda a, da, tail: tail(a).argmax(1),
        # Both have the same argmin.
        "all rows get one label: the gradients, or their distances, are summed over the batch, and "
        "every row has a gradient of its own": _nearest(
            lambda candidates, da: _squares(candidates, da).sum(1)
        ),
        "the classes are counted from 1 here: the first one is number 0": (
            lambda a, da, tail: _nearest()(a, da, tail) + 1
        ),
        "da is projected on the tail's weights, and the softmax is left out: the gradient of a "
        "class is (softmax - one-hot) times the weight, over B": (
            lambda a, da, tail: (da @ tail.weight.T).argmin(1)
        ),
        "the softmax is missing: the gradient of a class is (softmax - one-hot) times the weight, "
        "over B": lambda a, da, tail: _squares(-tail.weight[:, None] / len(a), da).argmin(0),
        "there is a softmax before the cross-entropy, which takes logits and has its own: hand it "
        "the tail's output as it is": _of_softmax,
        "these are the classes whose gradients are the farthest from da: argmin, not argmax": (
            _nearest(lambda candidates, da: -_squares(candidates, da))
        ),
        "only the norms of the gradients are compared: two classes can have gradients of one norm "
        "in opposite directions": _nearest(
            lambda candidates, da: (candidates.norm(dim=2) - da.norm(dim=1)).abs()
        ),
        "the sign is reversed: da is a gradient, and so is what it is compared with": _nearest(
            lambda candidates, da: _squares(-candidates, da)
        ),
        "only the angles are compared: they forget how long da is; take the distance": _nearest(
            lambda candidates, da: -F.cosine_similarity(candidates, da[None], dim=2)
        ),
        "the absolute differences decide here: take the Euclidean distance": _nearest(
            lambda candidates, da: (candidates - da).abs().sum(2)
        ),
        "the differences are not squared, and those of opposite sign cancel": _nearest(
            lambda candidates, da: (candidates - da).sum(2)
        ),
        "only the first number of each row is compared: the distance runs over all of them": (
            _nearest(lambda candidates, da: (candidates - da)[..., 0].abs())
        ),
    },
)
def infer_labels(a: Tensor, da: Tensor, tail: nn.Linear) -> Tensor:
    return _nearest()(a, da, tail)

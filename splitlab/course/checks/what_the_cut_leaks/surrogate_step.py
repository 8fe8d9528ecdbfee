"""Exercise 4: an imitation of f, trained through the server's own network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from splitlab.course.checks.judge import exercise

RATE = 0.1


def _turns(
    make: Callable[..., Optimizer], classes: int, *, rates: tuple[float, float] = (RATE, RATE)
) -> Callable[[], Iterator[tuple[Any, ...]]]:
    """Several steps beside one honest training.

    That has left s in training mode, with statistics that are those of no batch here, with the
    last step's gradients, one layer in evaluation mode and one parameter frozen.
    """

    def case() -> Iterator[tuple[Any, ...]]:
        conv, norm = nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        surrogate = nn.Sequential(conv, norm, nn.Tanh())
        groups = [{"params": net.parameters()} for net in (conv, norm)]
        optimizer = make([{**g, "lr": rate} for g, rate in zip(groups, rates, strict=True)])
        statistics, head = nn.BatchNorm2d(2), nn.Linear(2 * 3 * 4, classes)
        statistics.running_mean = 0.3 * torch.randn(2)
        statistics.running_var = 0.5 + 1.5 * torch.rand(2)
        server = nn.Sequential(
            nn.Conv2d(3, 2, 3, padding=1), statistics, nn.Tanh(), nn.Flatten(), head.eval()
        )
        for weight in server.parameters():
            weight.grad = torch.randn_like(weight)
        head.bias.requires_grad_(False)
        for size in (4, 4, 1, 5):
            surrogate.eval()  # as a look at its pictures may have left it
            x = 2 * torch.rand(size, 1, 3, 4) - 1
            yield surrogate, optimizer, server, x, torch.randint(classes, (size,))

    return case


def _with(
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    *,
    s_training: bool = False,
    f_training: bool = True,
    cut: Callable[[Tensor], Tensor] = lambda z: z,
    clear: bool = True,
    factor: float = 1,
    by_hand: bool = False,
    again: bool = False,
) -> Callable[..., Tensor]:
    """A step with another loss of scores and labels, or otherwise.

    Args:
        loss: (scores, labels) -> the loss.
        s_training: Whether s is in training mode.
        f_training: Whether the surrogate is.
        cut: What is done to the surrogate's z.
        clear: Whether earlier gradients are cleared.
        factor: Of the step.
        by_hand: Whether the step is plain descent, whatever the optimizer.
        again: Whether the loss is that after the step.
    """

    def answer(
        surrogate: nn.Module, optimizer: Optimizer, server: nn.Module, x: Tensor, labels: Tensor
    ) -> Tensor:
        frozen = copy.deepcopy(server).train(s_training)
        surrogate.train(f_training)
        value = loss(frozen(cut(surrogate(x))), labels)
        if clear:
            optimizer.zero_grad()
        (factor * value).backward()  # type: ignore[no-untyped-call]
        if by_hand:
            optimizer = SGD(surrogate.parameters(), lr=optimizer.param_groups[0]["lr"])
        optimizer.step()
        if again:
            value = loss(frozen(copy.deepcopy(surrogate)(x)), labels)
        surrogate.train()  # to leave it in another mode is another mistake
        return value.detach()

    return answer


def _one_hot(scores: Tensor, labels: Tensor) -> Tensor:
    return F.one_hot(labels, scores.shape[1]).to(scores.dtype)


@exercise(
    cases=[
        _turns(SGD, 5),
        _turns(partial(SGD, momentum=0.5), 3, rates=(RATE, 3 * RATE)),
    ],
    returns="the loss",
    praise="the surrogate learns features that s can use, and s is unchanged.",
    otherwise={
        "surrogate": "the surrogate's step is not one on the mean cross-entropy of "
        "server(surrogate(x)) with the labels, the surrogate in training mode and s in evaluation "
        "mode",
        "": "the number that is returned is not the mean cross-entropy of server(surrogate(x)) "
        "with the labels, the surrogate in training mode and s in evaluation mode",
    },
    slips={
        "s ran in training mode: its BatchNorm then uses this batch's statistics and not those "
        "of the client's z, which are what reveals f": _with(s_training=True),
        "the surrogate learned in evaluation mode: call surrogate.train() first": _with(
            f_training=False
        ),
        "the modes are the wrong way round: the surrogate is in evaluation mode, and s in training "
        "mode": _with(s_training=True, f_training=False),
        "the surrogate climbs the loss: it should descend, so that s can use its features": _with(
            factor=-1
        ),
        "the loss is summed over the images: take the mean cross-entropy": _with(
            partial(F.cross_entropy, reduction="sum")
        ),
        "the labels are shifted: each class is taken for the next one": _with(
            lambda s, y: F.cross_entropy(s, (y + 1) % s.shape[1])
        ),
        "the labels are shifted: classes count from 0, as the labels do": _with(
            lambda s, y: F.cross_entropy(s, (y - 1) % s.shape[1])
        ),
        "the labels are moved along the batch: each image is taught its neighbor's class": _with(
            lambda s, y: F.cross_entropy(s, y.roll(1))
        ),
        "the loss is a squared error between scores and labels: take the cross-entropy": _with(
            lambda s, y: F.mse_loss(s, _one_hot(s, y))
        ),
        "the loss is a squared error between probabilities and labels: take the cross-entropy": (
            _with(lambda s, y: F.mse_loss(s.softmax(1), _one_hot(s, y)))
        ),
        "the cross-entropy is taken of probabilities: it makes its own softmax, so give it the "
        "scores of s as they are": _with(lambda s, y: F.cross_entropy(s.softmax(1), y)),
        "the logarithm is missing: nll_loss wants log-probabilities; cross_entropy takes the "
        "scores of s as they are": _with(F.nll_loss),
        "the surrogate is trained to make s confident, and the labels are not used": _with(
            lambda s, y: F.cross_entropy(s, s.argmax(1))
        ),
        "the surrogate has not moved: either there was no step, or the graph is cut between it and "
        "s, by a detach or a no_grad, and the gradient ends there": _with(cut=torch.detach),
        "from the second turn on, the gradients of earlier turns are still in .grad and are added: "
        "call optimizer.zero_grad() before backward": _with(clear=False),
        "with plain SGD the surrogate moves as it should, and with another optimizer it does not: "
        "leave the step to optimizer.step()": _with(by_hand=True),
        "the loss was computed after the step: return that of the step itself": _with(again=True),
    },
)
def surrogate_step(
    surrogate: nn.Module, optimizer: Optimizer, server: nn.Module, x: Tensor, labels: Tensor
) -> Tensor:
    return _with()(surrogate, optimizer, server, x, labels)

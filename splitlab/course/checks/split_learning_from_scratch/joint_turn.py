"""Exercise 4: several clinics, one step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from splitlab.course.checks.judge import exercise
from splitlab.course.checks.loss_turn import (
    LossTurn,
    add_slips,
    loss_side,
    message,
    train_on,
    turns,
)

Batches = list[Tensor]


def _messages(sizes: list[int]) -> tuple[Batches, Batches]:
    zs, labels = zip(*map(message, sizes), strict=True)
    return list(zs), list(labels)


def _views(
    kind: type[LossTurn], net: nn.Module, optimizer: Optimizer, zs: Batches, labels: Batches
) -> Batches:
    """Take one turn on all rows, and split its dz."""
    dz = kind(net, optimizer, torch.cat(zs), torch.cat(labels)).take()
    return list(dz.split([len(z) for z in zs]))


def _joint(kind: type[LossTurn], *given: Any) -> Batches:
    return [dz.clone() for dz in _views(kind, *given)]


_right = partial(_joint, LossTurn)
_plain = turns(_messages, [3, 1, 2], [2, 2], [4], make=partial(loss_side, normalized=False))


@exercise(
    # Without BatchNorm first: there a pass for each clinic is as good as one.
    cases=[_plain[0], *turns(_messages, [3, 1, 2], [2, 2], [4]), *_plain[1:]],
    returns="dz",
    use=train_on,
    praise="several clinics, one step: as if all their rows had come in one batch.",
    otherwise={
        "dz": "dz is not the gradient of the mean loss over the rows of all clinics, each clinic's "
        "own part of it",
        "": "dz is right, but the step of s is not: take one step on the mean loss of all rows",
    },
)
def joint_turn(net: nn.Module, optimizer: Optimizer, zs: Batches, labels: Batches) -> Batches:
    return _right(net, optimizer, zs, labels)


def _of_means(
    total: Callable[[Tensor], Tensor],
) -> Callable[[nn.Module, Optimizer, Batches, Batches], Batches]:
    """A turn on a mean or a sum of the clinics' mean losses."""

    def answer(net: nn.Module, optimizer: Optimizer, zs: Batches, labels: Batches) -> Batches:
        def loss(turn: LossTurn) -> Tensor:
            parts = turn.net(turn.z).split([len(z) for z in zs])
            return total(torch.stack(list(map(F.cross_entropy, parts, labels))))

        return _joint(type("Slip", (LossTurn,), {"loss": loss}), net, optimizer, zs, labels)

    return answer


def _by_clinic(take: Callable[..., Batches]) -> Callable[..., Batches]:
    """A turn that processes one clinic after the other."""
    return lambda net, optimizer, *batches: [
        take(net, optimizer, [z], [own])[0] for z, own in zip(*batches, strict=True)
    ]


def _passes(net: nn.Module, optimizer: Optimizer, zs: Batches, labels: Batches) -> Batches:
    """A turn with a pass for each clinic, whose gradients add up to those of the mean loss."""
    rows = sum(map(len, zs))

    class Part(LossTurn):
        def loss(self) -> Tensor:
            return super().loss() * len(self.z) / rows

        def learn(self) -> None:
            self.loss().backward()

        def step(self) -> None:
            pass

    optimizer.zero_grad()
    dzs = _by_clinic(partial(_joint, Part))(net, optimizer, zs, labels)
    optimizer.step()
    return dzs


def _emptied(net: nn.Module, optimizer: Optimizer, zs: Batches, labels: Batches) -> Batches:
    dzs = _right(net, optimizer, zs, labels)
    zs.clear()
    return dzs


joint_turn.slips |= {
    "the clinics' mean losses were averaged, whatever their size: a row of a small batch then "
    "counts more than a row of a large one": _of_means(torch.mean),
    "each dz belongs to the mean of its own clinic's rows: average over the rows of all": _of_means(
        torch.sum
    ),
    "z and labels were joined in different orders: each row needs its own label": (
        lambda net, optimizer, zs, labels: _right(net, optimizer, zs, labels[::-1])
    ),
    "the dz come in reverse order: return them in the clinics' order": (
        lambda *given: _right(*given)[::-1]
    ),
    "dz was cut into equal parts: split it where each clinic's rows end": (
        lambda *given: [part.clone() for part in torch.cat(_right(*given)).chunk(len(given[2]))]
    ),
    "s took a step for each clinic: the later clinics met updated weights, so their dz depends on "
    "the order": _by_clinic(_right),
    "each clinic's z went through s by itself: BatchNorm then uses each clinic's own mean and "
    "variance, not those of all rows": _passes,
    "a dz lies in memory that it shares with another clinic's dz: the receiver could read both, "
    "so give each dz memory of its own": partial(_views, LossTurn),
    "the message has changed: the list zs is empty now, so work on a copy of it": _emptied,
}
add_slips(joint_turn, _joint, size="the number of rows")

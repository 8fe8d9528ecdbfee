"""Checks of the exercises "The server's turn" and "Several clinics, one step"."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim import SGD, Adam

from splitlab.course.checks.base import Answer, check, expect_tensor, same, twin, what, wrong
from splitlab.course.checks.loss_side import LossSide, LossTurn
from splitlab.course.checks.training import RATE, check_statistics, gradient, task_loss


@check("s learns the task, and dz is what the client needs to learn it too.")
def server_turn(answer: Answer) -> None:
    """`server_turn(net, optimizer, z, labels)`: the honest server's turn; returns dz."""
    for optimizer in (SGD, Adam):
        side = LossSide(functools.partial(optimizer, lr=RATE))
        for size in (4, 4, 1, 3):
            side.judge(side.turn_of_one(answer, size), answer.name)


@check("several clinics, one step: as if all their rows had come in one batch.")
def joint_turn(answer: Answer) -> None:
    """`joint_turn(net, optimizer, zs, labels)`: one server step for several clinics' batches."""
    for normalized, optimizer in ((False, SGD), (True, SGD), (True, Adam)):
        side = LossSide(functools.partial(optimizer, lr=RATE), normalized=normalized)
        for sizes in ([3, 1, 2], [2, 2], [4]):
            turn = side.turn(lambda zs, labels: (zs, labels), answer, sizes)
            if normalized and turn.forwards > 1:
                wrong(
                    "each clinic's z went through s by itself: BatchNorm then uses each clinic's "
                    "own mean and variance, not those of all rows"
                )
            dzs = _joint_dzs(turn)
            turn.check_message()
            turn.check_memory(dzs)
            side.check_step(turn)
            check_statistics(side.net, side.whole)


def _joint_dzs(turn: LossTurn) -> list[Tensor]:
    """Return the student's list of dz, if it is right."""
    if not isinstance(turn.result, list | tuple):
        wrong(
            "joint_turn should return a list, one dz for each clinic, and returns "
            f"{what(turn.result)}"
        )
    if len(turn.result) != len(turn.zs):
        wrong(f"joint_turn returns {len(turn.result)} gradients for {len(turn.zs)} clinics")
    dzs = [
        expect_tensor(dz, f"the dz of clinic {number} of {len(turn.zs)}", z.shape)
        for number, (dz, z) in enumerate(zip(turn.result, turn.zs, strict=True), 1)
    ]
    if any(dz.requires_grad for dz in dzs):
        wrong(
            "dz still has its computation graph: through grad_fn a clinic walks into the server's "
            "network, and to the other clinics' z"
        )
    if _all_same(dzs, turn.due_dz):
        return dzs
    sizes = [len(z) for z in turn.zs]
    rows = sum(sizes)
    due = list(zip(turn.due_dz, sizes, strict=True))
    slips = {
        "the clinics' mean losses were averaged, whatever their size: a row of a small batch then "
        "counts more than a row of a large one": [
            dz * rows / (len(sizes) * size) for dz, size in due
        ],
        "each dz belongs to the mean of its own clinic's rows: average over the rows of all": [
            dz * rows / size for dz, size in due
        ],
        "each dz is too large by the number of rows: it is the gradient of the sum of the losses, "
        "and the task's loss is their mean": [dz * rows for dz, _ in due],
        "z and labels were joined in different orders: each row needs its own label": list(
            gradient(
                lambda z: task_loss(turn.before.train(), z, torch.cat(turn.labels[::-1])),
                torch.cat(turn.zs),
            ).split(sizes)
        ),
        "s took a step for each clinic: the later clinics met updated weights, so their dz depends "
        "on the order": list(_one_by_one(turn)),
    }
    for message, gradients in slips.items():
        if _all_same(dzs, gradients):
            wrong(message)
    wrong("dz is not the gradient of the mean loss over the rows of all clinics")


def _one_by_one(turn: LossTurn) -> Iterator[Tensor]:
    """What the clinics would receive if plain SGD took a step for each of them."""
    net = twin(turn.before).train()
    optimizer = SGD(net.parameters(), lr=RATE)
    for z, labels in zip(turn.zs, turn.labels, strict=True):
        leaf = z.clone().requires_grad_()
        optimizer.zero_grad()
        task_loss(net, leaf, labels).backward()
        optimizer.step()
        yield leaf.grad


def _all_same(dzs: list[Tensor], others: list[Tensor]) -> bool:
    return all(same(dz, other) for dz, other in zip(dzs, others, strict=True))

"""Checks of the exercises "The server's turn" and "Several clinics, one step"."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from splitlab.checks.base import Answer, check, expect_tensor, same, twin, what, wrong
from splitlab.checks.training import (
    OLD_GRADIENTS,
    ONLY_SGD,
    RATE,
    check_statistics,
    factor,
    gradient,
    memory,
    task_loss,
    weights,
)

CLASSES = 5


@check("s learns the task, and dz is what the client needs to learn it too.")
def server_turn(answer: Answer) -> None:
    """`server_turn(net, optimizer, z, labels)`: the honest server's turn; returns dz."""
    kept: list[tuple[Tensor, Tensor]] = []
    for optimizer in (SGD, Adam):
        cloud = _Cloud(functools.partial(optimizer, lr=RATE), normalised=True)
        for size in (4, 4, 1, 3):
            turn = cloud.turn(lambda zs, labels: (zs[0], labels[0]), answer, [size])
            dz = _server_dz(turn)
            _check_message(turn)
            _check_memory(turn, [dz])
            cloud.check_step(turn)
            if turn.forwards > 1:
                wrong(
                    "s ran a second time in one turn: one forward pass gives the loss, dz and the "
                    "step, and BatchNorm's running statistics move once"
                )
            check_statistics(cloud.net, cloud.whole)
            kept.append((dz, dz.clone()))
            if not all(torch.equal(now, then) for now, then in kept):
                wrong(
                    "the dz of an earlier turn has changed: it lies in memory that the server "
                    "uses again, so the client finds another gradient than was sent"
                )


def _server_dz(turn: _ServerTurn) -> Tensor:
    """Return the student's dz, if it is right."""
    if turn.result is None:
        wrong(
            "server_turn returns None: end it with a return, and mind that .grad is filled only "
            "for a tensor that required a gradient before the forward pass"
        )
    (z,), (labels,), (due,) = turn.zs, turn.labels, turn.due_dz
    dz = expect_tensor(turn.result, "dz", z.shape)
    if same(dz, z):
        wrong("z itself comes back where its gradient is expected")
    if dz.requires_grad:
        wrong(
            "dz still has its computation graph: through grad_fn the client walks into the "
            "server's network"
        )
    if same(dz, due):
        return dz
    times = factor(dz, due)
    if times == -1:
        wrong("dz has the wrong sign: the client goes against it, and would climb the loss")
    if times == len(z):
        wrong(
            "dz is too large by the batch size: it is of the sum of the losses, and the task's "
            "loss is their mean"
        )
    if times is not None:
        wrong(f"dz is {times:.3g} times the gradient of the mean loss: send it unscaled")
    if same(dz, gradient(lambda z: task_loss(turn.after.train(), z, labels), z)):
        wrong(
            "dz was computed after the step: this z met the weights before it, and dz belongs to "
            "those"
        )
    if same(dz, gradient(lambda z: task_loss(turn.before.eval(), z, labels), z)):
        wrong(
            "dz was computed in evaluation mode: in training BatchNorm uses the batch's own mean "
            "and variance, so call net.train() first"
        )
    wrong("dz is not the gradient of the mean cross-entropy with respect to z")


@dataclass(frozen=True)
class _ServerTurn:
    """One turn of a server with one client or more.

    Attributes:
        result: What the student's function returned.
        zs: Smashed data, one tensor a client, as they arrived.
        labels: Labels, likewise.
        given: The tensors that the function was given; they may have changed.
        left: What it has left in the lists that they came in.
        due_dz: The right gradients, one for each client.
        moved: (before - after) / RATE; for plain SGD this is the gradient that was used.
        due: The same for a twin that is trained by the book.
        before: The network before the turn.
        after: The student's network after the turn.
        forwards: How often the network ran.
    """

    result: Any
    zs: list[Tensor]
    labels: list[Tensor]
    given: list[Tensor]
    left: list[Any]
    due_dz: list[Tensor]
    moved: Tensor
    due: Tensor
    before: nn.Module
    after: nn.Module
    forwards: int


class _Cloud:
    """An honest server's network s, beside a twin that is trained by the book.

    z has the shape (B, 3, 2, 4): no axis stands for another by accident.
    """

    def __init__(self, optimizer: Callable[..., Optimizer], *, normalised: bool) -> None:
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4) if normalised else nn.Identity(),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(4 * 2 * 4, CLASSES),
        ).double()
        self.whole = twin(self.net)
        self.optimizer = optimizer(self.net.parameters())
        self.whole_optimizer = optimizer(self.whole.parameters())
        self.forwards = 0
        self.net[-1].register_forward_hook(self._count)
        self.earlier = torch.zeros_like(weights(self.net))  # what earlier turns were due

    def _count(self, *_: Any) -> None:
        self.forwards += 1

    def turn(
        self,
        arguments: Callable[[list[Tensor], list[Tensor]], tuple[Any, Any]],
        answer: Answer,
        sizes: Sequence[int],
    ) -> _ServerTurn:
        """Take a turn by the book, and one with the student's function."""
        zs = [torch.randn(size, 3, 2, 4, dtype=torch.float64) for size in sizes]
        labels = [torch.randint(CLASSES, (size,)) for size in sizes]
        start, before = weights(self.whole), twin(self.whole)
        leaves = [z.clone().requires_grad_() for z in zs]
        self.whole_optimizer.zero_grad()
        task_loss(self.whole.train(), torch.cat(leaves), torch.cat(labels)).backward()
        self.whole_optimizer.step()

        self.net.eval()  # as an evaluation may have left it
        self.forwards = 0
        given_zs, given_labels = [z.clone() for z in zs], [part.clone() for part in labels]
        given = [*given_zs, *given_labels]
        result = answer.act(self.net, self.optimizer, *arguments(given_zs, given_labels))
        after = twin(self.whole)
        after.load_state_dict(self.net.state_dict())
        return _ServerTurn(
            result=result,
            zs=zs,
            labels=labels,
            given=given,
            left=[*given_zs, *given_labels],
            due_dz=[leaf.grad for leaf in leaves],
            moved=(start - weights(self.net)) / RATE,
            due=(start - weights(self.whole)) / RATE,
            before=before,
            after=after,
            forwards=self.forwards,
        )

    def check_step(self, turn: _ServerTurn) -> None:
        """Compare the server's step with the twin's, once dz is right."""
        if not turn.moved.any():
            wrong(
                "dz is right, and s has not moved: the order is zero_grad, backward, step, and "
                "then the server learns, too"
            )
        plain = isinstance(self.optimizer, SGD)
        if plain and self.earlier.any() and same(turn.moved, self.earlier + turn.due):
            wrong(OLD_GRADIENTS)
        self.earlier += turn.due
        if not same(turn.moved, turn.due):
            wrong(
                "dz is right, and the step of s is not: one step on the mean loss of the batch"
                if plain
                else ONLY_SGD.format(net="s")
            )


def _check_message(turn: _ServerTurn) -> None:
    if [id(tensor) for tensor in turn.left] != [id(tensor) for tensor in turn.given]:
        wrong("the message has changed: the lists zs and labels hold other tensors than before")
    for given, sent in zip(turn.given, [*turn.zs, *turn.labels], strict=True):
        if given.requires_grad or given.grad is not None:
            wrong(
                "the message has changed: z now requires a gradient, and a turn that is repeated "
                "would add to it; work on z.detach()"
            )
        if given.shape != sent.shape or not torch.equal(given, sent):
            wrong("the message has changed: z or the labels are not what arrived")


def _check_memory(turn: _ServerTurn, dzs: list[Tensor]) -> None:
    taken = {memory(tensor) for tensor in turn.given}
    for dz in dzs:
        if memory(dz) in taken:
            wrong(
                "a dz lies in memory that it shares, with z or with another clinic's dz: its "
                "receiver reads along; give each dz memory of its own"
            )
        taken.add(memory(dz))


@check("several clinics, one step: as if all their rows had come in one batch.")
def joint_turn(answer: Answer) -> None:
    """`joint_turn(net, optimizer, zs, labels)`: one server step for several clinics' batches."""
    for normalised, optimizer in ((False, SGD), (True, SGD), (True, Adam)):
        cloud = _Cloud(functools.partial(optimizer, lr=RATE), normalised=normalised)
        for sizes in ([3, 1, 2], [2, 2], [4]):
            turn = cloud.turn(lambda zs, labels: (zs, labels), answer, sizes)
            if normalised and turn.forwards > 1:
                wrong(
                    "each clinic's z went through s by itself: BatchNorm then uses each clinic's "
                    "own mean and variance, and the batch of all rows has others"
                )
            dzs = _joint_dzs(turn)
            _check_message(turn)
            _check_memory(turn, dzs)
            cloud.check_step(turn)
            check_statistics(cloud.net, cloud.whole)


def _joint_dzs(turn: _ServerTurn) -> list[Tensor]:
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
        "each dz belongs to the mean of its own clinic's rows: the mean is over the rows of all": [
            dz * rows / size for dz, size in due
        ],
        "each dz is too large by the number of rows: it is of the sum of the losses, and the "
        "task's loss is their mean": [dz * rows for dz, _ in due],
        "z and labels were joined in different orders: each row needs its own label": list(
            gradient(
                lambda z: task_loss(turn.before.train(), z, torch.cat(turn.labels[::-1])),
                torch.cat(turn.zs),
            ).split(sizes)
        ),
        "s took a step for each clinic: the later ones met other weights, and their dz depend on "
        "who came first": list(_one_by_one(turn)),
    }
    for message, gradients in slips.items():
        if _all_same(dzs, gradients):
            wrong(message)
    wrong("dz is not the gradient of the mean loss over the rows of all clinics")


def _one_by_one(turn: _ServerTurn) -> Iterator[Tensor]:
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

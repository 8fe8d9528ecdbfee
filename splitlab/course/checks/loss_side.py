"""What the checks of the side that computes the loss share: the server, or the U-shaped client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from splitlab.course.checks.base import Answer, expect_tensor, same, twin, wrong
from splitlab.course.checks.training import (
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


@dataclass(frozen=True)
class Words:
    """What the protocol calls things.

    Attributes:
        z: What arrives.
        dz: Its gradient, which is returned.
        net: The network.
        holder: Whose it is.
        sender: Who has sent z and gets dz.
        walks: Where the sender could walk through a graph.
    """

    z: str = "z"
    dz: str = "dz"
    net: str = "s"
    holder: str = "the server"
    sender: str = "the client"
    walks: str = "the server's network"


VANILLA = Words()


@dataclass(frozen=True)
class LossTurn:
    """One turn, with one batch or more.

    Attributes:
        result: What the student's function returned.
        zs: What arrives, one tensor a client.
        labels: Labels, likewise.
        given: The tensors that the function was given; they may have changed.
        left: What it has left in the lists that they came in.
        due_dz: The right gradients of zs.
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

    def check_message(self, words: Words = VANILLA) -> None:
        """Look whether what arrived is as it was.

        Raises:
            CheckFailed: If it is not.
        """
        z = words.z
        if [id(tensor) for tensor in self.left] != [id(tensor) for tensor in self.given]:
            wrong("the message has changed: the lists zs and labels hold other tensors than before")
        for given, sent in zip(self.given, [*self.zs, *self.labels], strict=True):
            if given.requires_grad or given.grad is not None:
                wrong(
                    f"the message has changed: {z} now requires a gradient, and a turn that is "
                    f"repeated would add to it; work on {z}.detach()"
                )
            if given.shape != sent.shape or not torch.equal(given, sent):
                wrong(f"the message has changed: {z} or the labels are not what arrived")

    def check_memory(self, dzs: Sequence[Tensor], words: Words = VANILLA) -> None:
        """Look whether every gradient has memory of its own.

        Raises:
            CheckFailed: If one does not.
        """
        taken = {memory(tensor) for tensor in self.given}
        for dz in dzs:
            if memory(dz) in taken:
                wrong(
                    f"a {words.dz} lies in memory that it shares, with {words.z} or with another "
                    f"clinic's {words.dz}: the receiver could read both; give each {words.dz} "
                    "memory of its own"
                )
            taken.add(memory(dz))


class LossSide:
    """The network from a cut to the loss, beside a twin that is trained by the book.

    What arrives has the shape (B, 3, 2, 4): no axis stands for another by accident.

    Args:
        optimizer: Makes both optimizers from the parameters, with the rate `RATE`.
        normalized: Whether there is a BatchNorm.
        words: What the protocol calls things.
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        *,
        normalized: bool = True,
        words: Words = VANILLA,
    ) -> None:
        self.words = words
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4) if normalized else nn.Identity(),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(4 * 2 * 4, CLASSES),
        ).double()
        self.whole = twin(self.net)
        self.optimizer = optimizer(self.net.parameters())
        self.whole_optimizer = optimizer(self.whole.parameters())
        self.forwards = 0
        self.net[-1].register_forward_hook(self._count)
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.earlier = torch.zeros_like(weights(self.net))  # what earlier turns were due

    def _count(self, *_: Any) -> None:
        self.forwards += 1

    def turn(
        self,
        arguments: Callable[[list[Tensor], list[Tensor]], tuple[Any, Any]],
        answer: Answer,
        sizes: Sequence[int],
    ) -> LossTurn:
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
        return LossTurn(
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

    def check_step(self, turn: LossTurn) -> None:
        """Compare the step with the twin's, once dz is right."""
        net, dz = self.words.net, self.words.dz
        if not turn.moved.any():
            wrong(
                f"{dz} is right, but {net} has not moved: call zero_grad, backward and step, in "
                "this order"
            )
        plain = isinstance(self.optimizer, SGD)
        if plain and self.earlier.any() and same(turn.moved, self.earlier + turn.due):
            wrong(OLD_GRADIENTS)
        self.earlier += turn.due
        if not same(turn.moved, turn.due):
            wrong(
                f"{dz} is right, but the step of {net} is not: take one step on the mean loss "
                "of the batch"
                if plain
                else ONLY_SGD.format(net=net)
            )

    def turn_of_one(self, answer: Answer, size: int) -> LossTurn:
        """Take a turn on one batch with a function of (net, optimizer, z, labels)."""
        return self.turn(lambda zs, labels: (zs[0], labels[0]), answer, [size])

    def judge(self, turn: LossTurn, name: str) -> None:
        """Judge all that a turn on one batch, by the function `name`, has returned and changed.

        Raises:
            CheckFailed: If something of it is wrong.
        """
        words = self.words
        dz = _expect_dz(turn, name, words)
        turn.check_message(words)
        turn.check_memory([dz], words)
        self.check_step(turn)
        if turn.forwards > 1:
            wrong(
                f"{words.net} ran a second time in one turn: one forward pass gives the loss, "
                f"{words.dz} and the step, and BatchNorm's running statistics move once"
            )
        check_statistics(self.net, self.whole)
        self.kept.append((dz, dz.clone()))
        if not all(torch.equal(now, then) for now, then in self.kept):
            wrong(
                f"the {words.dz} of an earlier turn has changed: it lies in memory that "
                f"{words.holder} uses again, so {words.sender} finds another gradient than was sent"
            )


def _expect_dz(turn: LossTurn, name: str, words: Words) -> Tensor:
    """Return the student's dz, if it is right."""
    z_name, dz_name = words.z, words.dz
    if turn.result is None:
        wrong(
            f"{name} returns None: end it with a return, and mind that .grad is filled only "
            "for a tensor that required a gradient before the forward pass"
        )
    (z,), (labels,), (due,) = turn.zs, turn.labels, turn.due_dz
    dz = expect_tensor(turn.result, dz_name, z.shape)
    if same(dz, z):
        wrong(f"{z_name} itself comes back where its gradient is expected")
    if dz.requires_grad:
        wrong(
            f"{dz_name} still has its computation graph: through grad_fn {words.sender} walks into "
            f"{words.walks}"
        )
    if same(dz, due):
        return dz
    times = factor(dz, due)
    if times == -1:
        wrong(
            f"{dz_name} has the wrong sign: {words.sender}'s optimizer steps against the gradient, "
            "so the loss would rise"
        )
    if times == len(z):
        wrong(
            f"{dz_name} is too large by the batch size: it is the gradient of the sum of the "
            "losses, and the task's loss is their mean"
        )
    if times is not None:
        wrong(f"{dz_name} is {times:.3g} times the gradient of the mean loss: send it unscaled")
    if same(dz, gradient(lambda z: task_loss(turn.after.train(), z, labels), z)):
        wrong(
            f"{dz_name} was computed after the step: return the gradient at the weights before the "
            "step"
        )
    if same(dz, gradient(lambda z: task_loss(turn.before.eval(), z, labels), z)):
        wrong(
            f"{dz_name} was computed in evaluation mode: in training BatchNorm uses the batch's "
            "own mean and variance, so call net.train() first"
        )
    wrong(f"{dz_name} is not the gradient of the mean cross-entropy with respect to {z_name}")

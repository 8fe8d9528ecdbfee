"""One turn of the side that computes the loss, in parts, and the mistakes possible in it.

That side is the server in the vanilla protocol and the label owner in the U-shaped one; each gets
one batch, or, as the server of several clients, many that it joins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from splitlab.course.checks.judge import Exercise

RATE = 0.1  # of plain descent, so that a step is in proportion to its gradient
CLASSES = 5
OLD_GRADIENTS = (
    "from the second turn on, the gradients of earlier turns are still in .grad and are added: "
    "call optimizer.zero_grad() before backward"
)
ONLY_SGD = (
    "with plain SGD {net} moves as it should, and with Adam it does not: leave the step to "
    "optimizer.step()"
)
Case = Callable[[], Iterator[tuple[Any, ...]]]


class LossTurn:
    """A correct turn. A slip overrides one part."""

    def __init__(self, net: nn.Module, optimizer: Optimizer, z: Tensor, labels: Tensor) -> None:
        self.net, self.optimizer, self.labels = net, optimizer, labels
        self.z = z.detach().requires_grad_()

    def take(self) -> Tensor:
        """Let the network learn; return dz."""
        self.set_mode()
        self.learn()
        self.step()
        return self.dz()

    def set_mode(self) -> None:
        """Put the network in training mode."""
        self.net.train()

    def loss(self) -> Tensor:
        """The mean cross-entropy."""
        return F.cross_entropy(self.net(self.z), self.labels)

    def learn(self) -> None:
        """Fill the gradients."""
        self.optimizer.zero_grad()
        self.loss().backward()

    def step(self) -> None:
        """Take the step."""
        self.optimizer.step()

    def dz(self) -> Tensor:
        """The gradient to return."""
        assert self.z.grad is not None
        return self.z.grad


def take(kind: type[LossTurn], *given: Any) -> Any:
    """Take a turn on the arguments of `server_turn`, or of `owner_turn`."""
    return kind(*given).take()


def train_on(result: Any, net: nn.Module, *_: Any) -> Any:
    """Put a network in training mode after a turn, which may restore the earlier mode."""
    net.train()
    return result


def add_slips(
    exercise: Exercise,
    play: Callable[..., Any] = take,
    *,
    dz: str = "dz",
    net: str = "s",
    sender: str = "the client",
    size: str = "the batch size",
) -> None:
    """Register the mistakes that are possible in any such turn.

    Args:
        exercise: What to add them to. Its first parameter is the network.
        play: (class of the turn, *arguments) -> result: it takes the turn.
        dz: What the messages call the gradient.
        net: What they call the network.
        sender: Who has sent z and gets dz.
        size: What they call the number of rows.
    """

    def slip(message: str, **parts: Callable[..., Any]) -> None:
        exercise.slip(message)(lambda *given: play(type("Slip", (LossTurn,), parts), *given))

    def logits(turn: LossTurn) -> Tensor:
        scores: Tensor = turn.net(turn.z)
        return scores

    def step_then_learn(turn: LossTurn) -> None:
        LossTurn.step(turn)
        turn.z.grad = None
        turn.loss().backward()

    def step_on(change: Callable[[LossTurn, Tensor], Tensor]) -> Callable[[LossTurn], None]:
        def step(turn: LossTurn) -> None:
            for weight in turn.net.parameters():
                if weight.grad is not None:
                    weight.grad = change(turn, weight.grad)
            LossTurn.step(turn)

        return step

    @torch.no_grad()
    def step_by_hand(turn: LossTurn) -> None:
        for weight in turn.net.parameters():
            if weight.grad is not None:
                weight.sub_(turn.optimizer.param_groups[0]["lr"] * weight.grad)

    def step_twice(turn: LossTurn) -> None:
        LossTurn.step(turn)
        LossTurn.step(turn)

    def learn_after_another_pass(turn: LossTurn) -> None:
        logits(turn)
        LossTurn.learn(turn)

    # The steps come first: where only steps are compared, a slip of the loss looks like one.
    slip(OLD_GRADIENTS, learn=lambda turn: turn.loss().backward())
    slip(
        f"{dz} is right, but {net} climbs the loss: its optimizer steps against the gradient, so "
        "do not negate it",
        step=step_on(lambda turn, gradient: -gradient),
    )
    slip(
        f"{dz} is right, but the step of {net} is too large by {size}: take it on the mean loss",
        step=step_on(lambda turn, gradient: gradient * len(turn.z)),
    )
    slip(f"{dz} is right, but {net} takes two steps in one turn: take one", step=step_twice)
    slip(ONLY_SGD.format(net=net), step=step_by_hand)
    slip(
        f"{net} ran a second time in one turn: one forward pass gives the loss, {dz} and the step, "
        "and BatchNorm's running statistics move once",
        learn=learn_after_another_pass,
    )
    slip(
        f"{dz} has the wrong sign: {sender}'s optimizer steps against the gradient, so the loss "
        "would rise",
        dz=lambda turn: -LossTurn.dz(turn),
    )
    slip(
        f"{dz} is too large by {size}: it is the gradient of the sum of the losses, and the task's "
        "loss is their mean",
        loss=lambda turn: F.cross_entropy(logits(turn), turn.labels, reduction="sum"),
    )
    slip(
        f"{dz} was computed after the step: return the gradient at the weights before the step",
        step=step_then_learn,
    )
    slip(
        f"{dz} was computed in evaluation mode: in training BatchNorm uses the batch's own mean "
        f"and variance, so call {exercise.parameters[0]}.train() first",
        set_mode=lambda turn: turn.net.eval(),
    )
    slip(
        "softmax is taken before the cross-entropy, which takes it itself: hand it the logits",
        loss=lambda turn: F.cross_entropy(logits(turn).softmax(1), turn.labels),
    )


def loss_side(*, normalized: bool = True) -> nn.Sequential:
    """Make a network from a z (B, 3, 2, 4) to logits; no two axes of z have the same size."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4) if normalized else nn.Identity(),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4 * 2 * 4, CLASSES),
    )


def message(size: int) -> tuple[Tensor, Tensor]:
    """Make a z with its labels."""
    return torch.randn(size, 3, 2, 4), torch.randint(CLASSES, (size,))


def turns(
    arguments: Callable[[Any], tuple[Any, ...]],
    *batches: Any,
    make: Callable[[], nn.Sequential] = loss_side,
) -> list[Case]:
    """Make cases of several turns in a row: with plain SGD; with Adam, and a frozen layer.

    Args:
        arguments: A batch's size, or sizes -> what the function gets besides network and optimizer.
        batches: Sizes, by turn.
        make: Makes the network.
    """

    def case(optimizer: Callable[..., Optimizer], *, frozen: bool) -> Iterator[tuple[Any, ...]]:
        net = make()
        net[0].requires_grad_(not frozen)
        groups = [{"params": part.parameters()} for part in (net[:1], net[1:])]
        steps = optimizer(groups, lr=RATE)
        for batch in batches:
            net.eval()  # as an evaluation may have left it
            yield net, steps, *arguments(batch)

    # A large eps, for where a gradient is next to 0 Adam's step hangs on its last digits.
    adam = partial(Adam, eps=1e-3)
    return [
        partial(case, SGD, frozen=False),
        partial(case, adam, frozen=False),
        partial(case, adam, frozen=True),
    ]

"""Check of the exercise "The clinic's turn"."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from splitlab.course.checks.base import Answer, check, same, twin, what, wrong
from splitlab.course.checks.training import (
    OLD_GRADIENTS,
    ONLY_SGD,
    RATE,
    check_statistics,
    factor,
    flat,
    gradient,
    memory,
    weights,
)
from splitlab.nets.evaluation import evaluating


@check("f moves as the whole network would have moved it, and the server has seen z alone.")
def client_turn(answer: Answer) -> None:
    """`client_turn(net, optimizer, x, ask)`: one turn of the client in the vanilla protocol."""
    clinic = _Clinic(functools.partial(SGD, lr=RATE))
    first = clinic.turn(answer, 4)
    first.check_slips()
    clinic.check(first)
    for batch in (3, 1):
        turn = clinic.turn(answer, batch)
        if same(turn.moved, first.due + turn.due):
            wrong(OLD_GRADIENTS)
        clinic.check(turn)
    clinic = _Clinic(functools.partial(Adam, lr=RATE))
    for batch in (2, 3):
        turn = clinic.turn(answer, batch)
        if not same(turn.moved, turn.due):
            wrong(ONLY_SGD.format(net="f"))


@dataclass(frozen=True)
class _ClientTurn:
    """How far the client's weights moved in a turn, and how far they should have.

    Attributes:
        moved: (before - after) / RATE; for plain SGD this is the gradient that was used.
        due: The same for a twin that is trained through the whole network.
        without_dz: The gradient of the sum of z.
    """

    moved: Tensor
    due: Tensor
    without_dz: Tensor

    def check_slips(self) -> None:
        """Name the likely mistakes that the first step of plain SGD shows."""
        if not self.moved.any():
            wrong(
                "f has not moved: start backward at the z that has its graph, and call zero_grad, "
                "backward and step in this order"
            )
        if same(self.moved, self.without_dz):
            wrong(
                "dz goes unused: this step follows the gradient of the sum of z; start backward "
                "at z with dz as its gradient"
            )
        times = factor(self.moved, self.due)
        if times == -1:
            wrong("f climbs the loss: the optimizer steps against dz, so do not negate it")
        if times not in (None, 1):
            wrong(
                f"the step of f is {times:.3g} times that of the whole network: dz already is "
                "the gradient of the mean loss, so do not average or scale it, and take one step"
            )


class _Clinic:
    """A client's network f, beside a twin that is trained through the whole network."""

    def __init__(self, optimizer: Callable[..., Optimizer]) -> None:
        self.net = nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Tanh()
        ).double()
        self.rest = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 4, 1), nn.Tanh()).double()
        self.whole = twin(self.net)
        self.optimizer = optimizer(self.net.parameters())
        self.whole_optimizer = optimizer(self.whole.parameters())
        self.forwards: list[Tensor] = []
        self.net[-1].register_forward_hook(lambda *call: self.forwards.append(call[-1]))

    def loss(self, z: Tensor) -> Tensor:
        return (self.rest(z) - 0.5).square().mean()

    def turn(self, answer: Answer, batch: int) -> _ClientTurn:
        """Take a turn through the whole network, and one with the student's function."""
        x = torch.randn(batch, 2, 5, 4, dtype=torch.float64)
        with evaluating(self.whole):
            evaluated = self.whole(x)
        before = weights(self.whole)
        z = self.whole.train()(x)
        parameters = list(self.whole.parameters())
        without_dz = flat(torch.autograd.grad(z.sum(), parameters, retain_graph=True))
        self.whole_optimizer.zero_grad()
        self.loss(z).backward()
        self.whole_optimizer.step()

        self.net.eval()  # as an evaluation may have left it
        self.forwards.clear()
        images, asked = x.clone(), []

        def ask(*sent: Any) -> Tensor:
            asked.append(sent)
            self.look_at(sent, x, z.detach(), evaluated)
            return gradient(self.loss, sent[0])

        answer.act(self.net, self.optimizer, images, ask)
        if not asked:
            wrong("nothing was sent: call ask with a delivered copy of z, and it returns dz")
        if len(asked) > 1:
            wrong(f"ask was called {len(asked)} times: a turn sends z once and receives dz once")
        if not torch.equal(images, x) or images.requires_grad:
            wrong("the images were changed: leave them as they are")
        if len(self.forwards) > 1:
            wrong(
                "f ran a second time in one turn: that costs a forward pass, and moves "
                "BatchNorm's running statistics twice; keep z from the first run"
            )
        due, moved = ((before - weights(net)) / RATE for net in (self.whole, self.net))
        return _ClientTurn(moved, due, without_dz)

    def look_at(self, given: tuple[Any, ...], x: Tensor, z: Tensor, evaluated: Tensor) -> None:
        """Look at what is sent, as the server could."""
        if len(given) != 1:
            wrong(f"ask was given {len(given)} things: send z alone")
        (sent,) = given
        if not isinstance(sent, Tensor):
            wrong(f"ask was given {what(sent)}: send z itself, one tensor")
        if sent.grad_fn is not None:
            wrong(
                "z was sent with its computation graph: through grad_fn the server walks back "
                "to the images and to f; deliver a copy"
            )
        if memory(sent) in [memory(output) for output in self.forwards]:
            wrong(
                "the z that was sent lies in the client's memory: detach alone shares it with "
                "the server; deliver a copy"
            )
        if sent.shape == x.shape and same(sent, x):
            wrong("the images themselves were sent: what crosses is z = net(x)")
        if sent.shape != z.shape:
            wrong(f"what was sent has shape {tuple(sent.shape)}, and z has {tuple(z.shape)}")
        if same(sent, evaluated):
            wrong(
                "z was computed in evaluation mode: in training BatchNorm uses the batch's own "
                "mean and variance, so call net.train() first"
            )
        if not same(sent, z):
            wrong("what was sent is not z: send net(x) as it is, from the weights before the step")

    def check(self, turn: _ClientTurn) -> None:
        if not same(turn.moved, turn.due):
            wrong(
                "the step of f is not that of the whole network: start backward at z, with dz as "
                "its gradient, and take one step"
            )
        check_statistics(self.net, self.whole)

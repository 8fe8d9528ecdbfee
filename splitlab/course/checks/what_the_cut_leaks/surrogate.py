"""Exercise 4: an imitation of f, trained through the server's own network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from splitlab.course.checks.base import Answer, check, expect_number, same, twin, what, wrong
from splitlab.course.checks.training import (
    OLD_GRADIENTS,
    ONLY_SGD,
    RATE,
    check_statistics,
    factor,
    flat,
    task_loss,
    weights,
)

CLASSES = 5
ROUNDING = 1e-6

Loss = Callable[[nn.Module, nn.Module, Tensor, Tensor], Tensor]


@check("the surrogate learns to be understood by s, and s does not notice.")
def surrogate_step(answer: Answer) -> None:
    """`surrogate_step(surrogate, optimizer, server, x, labels)`: one step of f^ through s."""
    for make in (SGD, Adam):
        attack = _Attack(functools.partial(make, lr=RATE))
        for size in (4, 4, 3, 5):
            attack.step(answer, size)


class _Attack:
    """A surrogate and a server's network, beside a twin that is trained by the book.

    Args:
        optimizer: Makes the surrogate's optimizer.
    """

    def __init__(self, optimizer: Callable[..., Optimizer]) -> None:
        self.surrogate = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Tanh()
        ).double()
        self.server = nn.Sequential(
            nn.Conv2d(3, 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(2 * 3 * 4, CLASSES),
        ).double()
        with torch.no_grad():  # statistics that are those of no batch here
            self.server[1].running_mean.normal_(0, 0.3)
            self.server[1].running_var.uniform_(0.5, 2)
        # As the honest training left it: in training mode, with the last step's gradients, and one
        # layer that its owner holds still.
        self.server.train()[-1].eval()
        for weight in self.server.parameters():
            weight.grad = torch.randn_like(weight)
        self.whole = twin(self.surrogate)
        self.optimizer = optimizer(self.surrogate.parameters())
        self.whole_optimizer = optimizer(self.whole.parameters())
        self.plain = self.optimizer.__class__ is SGD
        self.earlier = torch.zeros_like(weights(self.surrogate))  # what earlier steps were due

    def step(self, answer: Answer, size: int) -> None:
        """Take a step by the book, and one with the student's function.

        Raises:
            CheckFailed: If the two differ, or anything else has moved.
        """
        x = torch.rand(size, 1, 3, 4, dtype=torch.float64) * 2 - 1
        labels = torch.randint(CLASSES, (size,))
        old, frozen = twin(self.whole), twin(self.server).eval()
        start = weights(old)
        self.whole_optimizer.zero_grad()
        loss = _loss(self.whole.train(), frozen, x, labels)
        loss.backward()
        due = flat([weight.grad for weight in self.whole.parameters()])
        self.whole_optimizer.step()

        self.surrogate.eval()  # as a look at its pictures may have left it
        before, given = twin(self.server), (x.clone(), labels.clone())
        grads = [weight.grad.clone() for weight in self.server.parameters()]
        returned = answer(self.surrogate, self.optimizer, self.server, *given)
        if not (torch.equal(given[0], x) and torch.equal(given[1], labels)):
            wrong("the images or the labels have changed: they are only to be read")
        if given[0].requires_grad:
            wrong("the images require a gradient now: it is the surrogate that is to move")
        _check_server(self.server, before, grads)
        moved = (start - weights(self.surrogate)) / RATE
        if self.plain:
            self._check_moved(moved, due, old, x, labels)
        elif not same(weights(self.surrogate), weights(self.whole)):
            wrong(ONLY_SGD.format(net="the surrogate"))
        check_statistics(self.surrogate, self.whole)
        _check_returned(returned, loss.item(), self._afterwards(old, x, labels))
        self.earlier += due

    def _check_moved(
        self, moved: Tensor, due: Tensor, old: nn.Module, x: Tensor, labels: Tensor
    ) -> None:
        """Name the slip that this step of plain SGD shows."""
        if same(moved, due):
            return
        if not moved.any():
            wrong(
                "the surrogate has not moved: either there was no step, or the graph is cut "
                "between it and s, by a detach or a no_grad, and the gradient ends there"
            )
        if self.earlier.any() and same(moved, self.earlier + due):
            wrong(OLD_GRADIENTS)
        times = factor(moved, due)
        if times == -1:
            wrong("the surrogate climbs: s is to understand it better, so it goes down the loss")
        if times == len(x):
            wrong("the loss is summed over the images: take the mean cross-entropy")
        if times is not None:
            wrong(f"the step is {times:.3g} times that of the mean cross-entropy")
        for message, loss in _slips():
            net = twin(old)
            if same(moved, _gradient(net, loss(net, twin(self.server), x, labels))):
                wrong(message)
        wrong(
            "the surrogate's step is not one on the mean cross-entropy of server(surrogate(x)) "
            "with the labels, the surrogate in training mode and s in evaluation mode"
        )

    def _afterwards(self, old: nn.Module, x: Tensor, labels: Tensor) -> float:
        """The loss that the step leads to."""
        net = twin(self.whole).train()
        with torch.no_grad():
            return _loss(net, twin(self.server).eval(), x, labels).item()


def _loss(surrogate: nn.Module, server: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    return task_loss(server, surrogate(x), labels)


def _gradient(net: nn.Module, loss: Tensor) -> Tensor:
    parameters = list(net.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return flat(found)


def _slips() -> Iterator[tuple[str, Loss]]:
    """Yield (message, the loss that this slip descends on), with networks in any mode."""

    def scores(f: nn.Module, s: nn.Module, x: Tensor) -> Tensor:
        return s.eval()(f.train()(x))

    yield (
        "s ran in training mode: its BatchNorm then goes by this batch, and not by what it has "
        "learned of the client's z, which is what gives f away",
        lambda f, s, x, y: _loss(f.train(), s.train(), x, y),
    )
    yield (
        "the surrogate learned in evaluation mode: call surrogate.train() first",
        lambda f, s, x, y: _loss(f.eval(), s.eval(), x, y),
    )
    yield (
        "the modes are the wrong way round: the surrogate is in evaluation mode, and s in training "
        "mode",
        lambda f, s, x, y: _loss(f.eval(), s.train(), x, y),
    )
    for shift in range(1, CLASSES):
        yield (
            "the labels are shifted: each class is taken for another one",
            lambda f, s, x, y, shift=shift: F.cross_entropy(scores(f, s, x), (y + shift) % CLASSES),
        )
    for by in (1, -1):
        yield (
            "the labels are moved along the batch: each image is taught its neighbor's class",
            lambda f, s, x, y, by=by: F.cross_entropy(scores(f, s, x), y.roll(by)),
        )
    yield (
        "the loss is a squared error between scores and labels: take the cross-entropy",
        lambda f, s, x, y: (scores(f, s, x) - F.one_hot(y, CLASSES)).square().mean(),
    )
    yield (
        "the loss is a squared error between probabilities and labels: take the cross-entropy",
        lambda f, s, x, y: (scores(f, s, x).softmax(1) - F.one_hot(y, CLASSES)).square().mean(),
    )
    yield (
        "the cross-entropy is taken of probabilities: it makes its own softmax, so give it the "
        "scores of s as they are",
        lambda f, s, x, y: F.cross_entropy(scores(f, s, x).softmax(1), y),
    )
    yield (
        "the logarithm is missing: nll_loss wants log-probabilities; cross_entropy takes the "
        "scores of s as they are",
        lambda f, s, x, y: F.nll_loss(scores(f, s, x), y),
    )
    yield (
        "the surrogate is trained to be sure, whatever it sees: the labels go unused",
        lambda f, s, x, y: F.cross_entropy(scores(f, s, x), scores(f, s, x).argmax(1)),
    )


def _check_server(server: nn.Module, before: nn.Module, grads: list[Tensor]) -> None:
    """Look whether s is as it was."""
    pairs = list(zip(server.parameters(), before.parameters(), strict=True))
    if not all(torch.equal(one, other) for one, other in pairs):
        wrong(
            "s has moved: the attack would show in the honest training, and the surrogate could "
            "make s fit itself, where it is to learn what s expects of f"
        )
    if not all(map(torch.equal, server.buffers(), before.buffers())):
        wrong(
            "BatchNorm's running statistics in s have moved: s ran in training mode, and its "
            "honest evaluation would now go by the attacker's images"
        )
    if [m.training for m in server.modules()] != [m.training for m in before.modules()]:
        wrong(
            "s is left in another mode than before: put every one of its layers back into the mode "
            "it had, or work on a copy"
        )
    if any(one.requires_grad != other.requires_grad for one, other in pairs):
        wrong("the weights of s no longer require gradients: its honest training would stop")
    left = [weight.grad for weight in server.parameters()]
    if any(a is None or not torch.equal(a, b) for a, b in zip(left, grads, strict=True)):
        wrong(
            "the .grad of the weights of s has changed: a passive server trains as an honest one, "
            "bit for bit, so send backward() to the surrogate's weights alone, or work on a copy"
        )


def _check_returned(returned: Any, due: float, afterwards: float) -> None:
    """Compare the number that comes back with the loss."""
    if isinstance(returned, Tensor) and returned.requires_grad:
        wrong(
            "the loss that is returned carries its graph, and with it the whole batch: return a "
            "number, loss.item()"
        )
    if isinstance(returned, tuple | list):
        wrong(f"surrogate_step returns {what(returned)}: return the loss alone, one number")
    value = expect_number(returned, "the loss")
    if abs(value - due) <= ROUNDING:
        return
    if abs(value - afterwards) <= ROUNDING:
        wrong("the loss was computed after the step: return that of the step itself")
    wrong("the step is right, and the number that is returned is not the mean cross-entropy")

"""Exercise 2: the clinic's turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise
from splitlab.course.checks.loss_turn import OLD_GRADIENTS, ONLY_SGD, Case, train_on, turns
from splitlab.course.checks.sight import PLAIN, what


class _Server:
    """The server. It records f's output, and examines z as a real server could.

    It has no attributes that the judge would look at: what it notes are the client's affairs.
    """

    __slots__ = ("outputs", "sent")

    def __init__(self, net: nn.Sequential) -> None:
        self.sent: list[Tensor] = []
        self.outputs: list[Tensor] = []
        net[-1].register_forward_hook(lambda *call: self.outputs.append(call[-1]))

    def __call__(self, *given: Any) -> Tensor:
        if len(given) != 1:
            wrong(f"ask was given {len(given)} things: send z alone")
        if type(given[0]) not in PLAIN:
            wrong(f"ask was given {what(given[0])}: send z itself, one tensor")
        if self.sent:
            wrong("ask was called a second time: a turn sends z once and receives dz once")
        (sent,) = given
        if sent.grad_fn is not None:
            wrong(
                "z was sent with its computation graph: through grad_fn the server walks back to "
                "the images and to f; deliver a copy"
            )
        memories = [output.untyped_storage().data_ptr() for output in self.outputs]
        if sent.untyped_storage().data_ptr() in memories:
            wrong(
                "the z that was sent lies in the client's memory: detach alone shares it with the "
                "server; deliver a copy"
            )
        self.sent.append(sent)
        z = sent.detach().clone().requires_grad_()
        with torch.enable_grad():  # the answer may ask from inside a no_grad
            return torch.autograd.grad((z.tanh() - 0.5).square().sum() / len(z), z)[0]

    def received(self) -> Tensor:
        """Return the one z that has been sent.

        Raises:
            CheckFailed: If nothing was, or f ran more than once for it.
        """
        if not self.sent:
            wrong("nothing was sent: call ask with a delivered copy of z, and it returns dz")
        if len(self.outputs) > 1:
            wrong(
                "f ran a second time in one turn: that costs a forward pass, and moves BatchNorm's "
                "running statistics twice; keep z from the first run"
            )
        return self.sent[0].detach()


def _clinic() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Identity()
    )


def _asking(case: Case) -> Case:
    def asking() -> Iterator[tuple[Any, ...]]:
        for net, optimizer, x in case():
            yield net, optimizer, x, _Server(net)

    return asking


def _with(
    *,
    train: bool = True,
    clear: bool = True,
    sent: Callable[[Tensor, Tensor], Tensor] = lambda z, x: z.detach().clone(),
    back: Callable[[Tensor, Tensor], None] = lambda z, dz: z.backward(dz),
    step: Callable[[nn.Module, Optimizer], None] = lambda net, optimizer: optimizer.step(),
) -> Callable[..., None]:
    """A turn in parts, of which a slip changes one."""

    def answer(
        net: nn.Module, optimizer: Optimizer, x: Tensor, ask: Callable[[Tensor], Tensor]
    ) -> None:
        net.train(train)
        z = net(x)
        dz = ask(sent(z, x))
        if clear:
            optimizer.zero_grad()
        back(z, dz)
        step(net, optimizer)

    return answer


@torch.no_grad()
def _by_hand(net: nn.Module, optimizer: Optimizer) -> None:
    for weight in net.parameters():
        if weight.grad is not None:
            weight.sub_(optimizer.param_groups[0]["lr"] * weight.grad)


def _twice(net: nn.Module, optimizer: Optimizer) -> None:
    for _ in range(2):
        optimizer.step()


@exercise(
    cases=[
        _asking(case)
        for case in turns(lambda size: (torch.randn(size, 2, 5, 4),), 4, 3, 1, make=_clinic)
    ],
    returns="what was sent",
    use=lambda result, net, optimizer, x, ask: train_on(ask.received(), net),
    praise="f moves as the whole network would have moved it, and the server has seen only z.",
    otherwise={
        "what was sent": "what was sent is not z: send net(x) as it is, from the weights before "
        "the step",
        "": "the step of f is not that of the whole network: start backward at z, with dz as its "
        "gradient, and take one step",
    },
    slips={
        "the images themselves were sent: what crosses is z = net(x)": _with(
            sent=lambda z, x: x.clone()
        ),
        "z was computed in evaluation mode: in training BatchNorm uses the batch's own mean and "
        "variance, so call net.train() first": _with(train=False),
        OLD_GRADIENTS: _with(clear=False),
        "f has not moved: start backward at the z that has its graph, and call zero_grad, backward "
        "and step, in this order": _with(step=lambda net, optimizer: None),
        "f climbs the loss: the optimizer steps against dz, so do not negate it": _with(
            back=lambda z, dz: z.backward(-dz)
        ),
        "dz goes unused: this step follows the gradient of the sum of z; start backward at z with "
        "dz as its gradient": _with(back=lambda z, dz: z.sum().backward()),
        "the step of f is divided by the number of entries of z: the gradient of (z * dz).sum() is "
        "the right one, and that of its mean is not": _with(
            back=lambda z, dz: (z * dz).mean().backward()
        ),
        "the step of f is divided by the batch size: dz already is the gradient of the mean loss, "
        "so do not average it again": _with(back=lambda z, dz: z.backward(dz / len(dz))),
        "the step of f is multiplied by the batch size: dz already is the gradient of the mean "
        "loss, which is the one to follow": _with(back=lambda z, dz: z.backward(dz * len(dz))),
        "f takes two steps in one turn: take one": _with(step=_twice),
        ONLY_SGD.format(net="f"): _with(step=_by_hand),
    },
)
def client_turn(
    net: nn.Module, optimizer: Optimizer, x: Tensor, ask: Callable[[Tensor], Tensor]
) -> None:
    _with()(net, optimizer, x, ask)

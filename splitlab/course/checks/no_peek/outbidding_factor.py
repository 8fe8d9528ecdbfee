"""Exercise 4: by how much a server must lengthen its gradient to outbid the client's defense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splitlab.course.checks.judge import exercise

Statistic = Callable[[Tensor, Tensor], Tensor]
Length = Callable[[Sequence[Tensor]], Tensor]


def _case(
    count: int, *, alpha: float, ratio: float, training: bool = True
) -> Callable[[], tuple[Any, ...]]:
    """A network with old gradients, and a statistic that is not symmetric in images and z."""

    def case() -> tuple[Any, ...]:
        norm = nn.Identity() if training else nn.BatchNorm2d(3)
        net = nn.Sequential(nn.Conv2d(2, 3, 2), norm, nn.Tanh(), nn.Flatten(), nn.Linear(12, 5))
        for weight in net.parameters():
            weight.grad = torch.randn_like(weight)
        x, pattern = torch.randn(count, 2, 3, 3), torch.randn(5)

        def statistic(x: Tensor, z: Tensor) -> Tensor:
            value: Tensor = ((z @ pattern).sin() + 1.5 * x.mean((1, 2, 3))).square().mean()
            return value

        return net.train(training), x, 0.1 * torch.randn(count, 5), statistic, alpha, ratio

    return case


def _each(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of each gradient."""
    return torch.stack([gradient.norm() for gradient in gradients])


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together."""
    return _each(gradients).square().sum().sqrt()


def _with(
    *,
    at: Callable[[nn.Module, Tensor], Sequence[Tensor]] = lambda net, z: list(net.parameters()),
    sent: Callable[[Tensor, Tensor], Tensor] = lambda z, dz: (z * dz).sum(),
    length: Length = _norm,
    factor: Callable[[Tensor, Tensor, float, float], Tensor] = (
        lambda defense, server, alpha, ratio: ratio * alpha * defense / server
    ),
) -> Callable[..., Tensor]:
    """An answer that has one part wrong.

    Args:
        at: Where the gradients are compared.
        sent: What has the server's gradient as its own.
        length: How the lengths are taken.
        factor: What is returned: from the lengths of the statistic's gradient and the server's,
            alpha and ratio.
    """

    def answer(
        net: nn.Module, x: Tensor, dz: Tensor, statistic: Statistic, alpha: float, ratio: float
    ) -> Tensor:
        z = net(x)
        places = at(net, z)
        server = torch.autograd.grad(sent(z, dz), places, retain_graph=True)
        defense = torch.autograd.grad(statistic(x, z), places)
        return factor(length(defense), length(server), alpha, ratio)

    return answer


def _of_the_loss(
    net: nn.Module, x: Tensor, dz: Tensor, statistic: Statistic, alpha: float, ratio: float
) -> Tensor:
    z = net(x)
    server = torch.autograd.grad((z * dz).sum(), list(net.parameters()), retain_graph=True)
    return ratio * alpha * statistic(x, z).detach() / _norm(server)


@exercise(
    cases=[
        _case(4, alpha=0.5, ratio=3.0),
        _case(6, alpha=8.0, ratio=20.0, training=False),
        _case(1, alpha=2.0, ratio=0.5),
    ],
    returns="the factor",
    tolerance=1e-7,
    praise="f follows the server, whose gradient is longer by the chosen ratio.",
    otherwise="the factor is not right: it is ratio times the norm of the gradient of alpha * "
    "statistic(x, net(x)), divided by the norm of what backward makes of dz, both over all weights "
    "of net together",
    slips={
        "the gradients are compared in z: f moves by its weights, so carry both back to them": (
            _with(at=lambda net, z: [z])
        ),
        "alpha is missing: the client descends alpha times the statistic": _with(
            factor=lambda defense, server, alpha, ratio: ratio * defense / server
        ),
        "alpha divides: a larger alpha makes the defense's gradient longer, so multiply by it": (
            _with(factor=lambda defense, server, alpha, ratio: ratio * defense / (alpha * server))
        ),
        "ratio is missing: this factor only makes the two equally long": _with(
            factor=lambda defense, server, alpha, ratio: alpha * defense / server
        ),
        "ratio divides: the server wants the longer gradient, so multiply by it": _with(
            factor=lambda defense, server, alpha, ratio: alpha * defense / (ratio * server)
        ),
        "this is the inverse of the factor: divide the defense's norm by the server's": _with(
            factor=lambda defense, server, alpha, ratio: server / (ratio * alpha * defense)
        ),
        "the two norms have changed places: divide the defense's norm by the server's": _with(
            factor=lambda defense, server, alpha, ratio: ratio * server / (alpha * defense)
        ),
        "this is the norm that the server needs, not the factor: divide it by the norm that its "
        "gradient has": _with(factor=lambda defense, server, alpha, ratio: ratio * alpha * defense),
        "this takes the defense's loss for its gradient: take the norm of the gradient of alpha * "
        "statistic(x, net(x))": _of_the_loss,
        "this is the mean of the layers' own ratios: take each norm over all weights together": (
            _with(length=_each, factor=lambda d, s, alpha, ratio: (ratio * alpha * d / s).mean())
        ),
        "this is the largest of the layers' own ratios: take each norm over all weights together": (
            _with(length=_each, factor=lambda d, s, alpha, ratio: (ratio * alpha * d / s).max())
        ),
        "the norms of the layers are added: take the root of the sum of their squares": _with(
            length=lambda gradients: _each(gradients).sum()
        ),
        "the norms are squared: take the root": _with(
            length=lambda gradients: _norm(gradients).square()
        ),
        "these are sums of absolute values: take Euclidean norms": _with(
            length=lambda gradients: torch.cat([g.flatten() for g in gradients]).abs().sum()
        ),
        "only the first weights are compared: take each norm over all weights of net": _with(
            length=lambda gradients: gradients[0].norm()
        ),
        "only the last weights are compared: take each norm over all weights of net": _with(
            length=lambda gradients: gradients[-1].norm()
        ),
        "dz is not used: what the server sends is carried back with z.backward(dz), or as "
        "grad_outputs=dz": _with(sent=lambda z, dz: z.sum()),
        "the server's gradient is too small by the size of z: sum z * dz, do not take its mean": (
            _with(sent=lambda z, dz: (z * dz).mean())
        ),
        "the server's gradient is too small by the batch size: dz is the gradient of the whole "
        "batch already, so sum z * dz over its rows": _with(
            sent=lambda z, dz: (z * dz).flatten(1).sum(1).mean()
        ),
    },
)
def outbidding_factor(
    net: nn.Module, x: Tensor, dz: Tensor, statistic: Statistic, alpha: float, ratio: float
) -> Tensor:
    return _with()(net, x, dz, statistic, alpha, ratio)

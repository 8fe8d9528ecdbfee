"""Exercise 4: a turn of the backdoor that hides from a server which compares updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from splitlab.course.checks.client_turn import (
    CLASSES,
    Server,
    SharedTurn,
    add_slips,
    cases,
    shared_slips,
)
from splitlab.course.checks.judge import exercise


@dataclass
class ScaledTurn(SharedTurn):
    """f and tail learn from all rows, and the server from the honest ones."""

    net: nn.Module
    tail: nn.Module
    optimizer: Optimizer
    x: Tensor
    y: Tensor
    server: Server
    rows: int
    scale: float

    def images(self) -> Tensor:
        """The given batch."""
        return self.x

    def labels(self) -> Tensor:
        """Its labels."""
        return self.y

    def scaled(self, gradient: Tensor, factor: float) -> Tensor:
        """The gradient with the triggered rows multiplied by a factor."""
        return torch.cat([gradient[: self.rows] * factor, gradient[self.rows :]])

    def send(self, da: Tensor) -> Tensor:
        """Scale the triggered rows."""
        return self.scaled(da, self.scale)

    def receive(self, dz: Tensor) -> Tensor:
        """Undo the scaling."""
        return self.scaled(dz, 1 / self.scale)


def _play(kind: type[ScaledTurn], *given: Any) -> None:
    kind(*given).take()


def _slip(**parts: Any) -> Callable[..., None]:
    return lambda *given: _play(type("Slip", (ScaledTurn,), parts), *given)


def _last_rows(turn: ScaledTurn, gradient: Tensor, factor: float) -> Tensor:
    return torch.cat([gradient[: -turn.rows], gradient[-turn.rows :] * factor])


def _da_of_scaled_loss(turn: ScaledTurn, a: Tensor) -> Tensor:
    losses = F.cross_entropy(turn.tail(a), turn.y, reduction="none")
    turn.scaled(losses, turn.scale).mean().backward()
    assert a.grad is not None
    return a.grad


def _arguments(*given: Any) -> tuple[Any, ...]:
    generator, net, tail, optimizer, noise, server, turn = given
    rows, scale = ((1, 1e-2), (2, 0.5), (1, 1e-4))[turn]
    x, y = generator(noise).detach(), torch.randint(CLASSES, (len(noise),))
    y[:rows] = 3
    return net, tail, optimizer, x, y, server, rows, scale


@exercise(
    cases=cases(lambda generator, net, tail: (net, tail), _arguments),
    returns=("z", "da"),
    use=lambda result, *given: given[5].received(),
    praise="net and tail learn the trigger, and almost nothing of it reaches the server.",
    otherwise={
        "z and da": "what was sent is not z and da of this turn: z is net(x), and da is the "
        "gradient of the mean cross-entropy of tail(a) with the labels y, its first rows "
        "multiplied by scale",
        "": "the step does not follow: the tail's gradient is that of the loss without any factor, "
        "net's is what backward makes of dz, its first rows divided by scale, and the optimizer "
        "takes one step on both",
    },
    slips=shared_slips(_slip)
    | {
        "the server receives the whole gradient of the triggered images, and learns the trigger: "
        "multiply the first rows of da by scale": _slip(send=lambda turn, da: da),
        "all of da is scaled, so the server learns nothing from the honest images either: multiply "
        "only the first rows": _slip(
            send=lambda turn, da: da * turn.scale, receive=lambda turn, dz: dz / turn.scale
        ),
        "the last rows are scaled: the triggered images are the first rows": _slip(
            scaled=_last_rows
        ),
        "da was divided by scale, which makes the server learn more: multiply its first rows": (
            _slip(send=lambda turn, da: turn.scaled(da, 1 / turn.scale))
        ),
        "net hardly learns the trigger: divide the first rows of dz by scale": (
            _slip(receive=lambda turn, dz: dz)
        ),
        "all of dz is divided by scale: the honest rows were not scaled, so divide the first rows "
        "only": _slip(receive=lambda turn, dz: dz / turn.scale),
        "the loss is scaled, so the tail hardly learns the trigger: leave the loss as it is, and "
        "scale da": _slip(da=_da_of_scaled_loss, send=lambda turn, da: da),
    },
)
def scaled_turn(
    net: nn.Module,
    tail: nn.Module,
    optimizer: Optimizer,
    x: Tensor,
    y: Tensor,
    server: Server,
    rows: int,
    scale: float,
) -> None:
    _play(ScaledTurn, net, tail, optimizer, x, y, server, rows, scale)


add_slips(scaled_turn, ScaledTurn, _play, learner="net", stepping="net and tail")

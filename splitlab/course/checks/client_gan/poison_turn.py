"""Exercise 2: a poison turn."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from splitlab.course.checks.client_gan.turn import GANTurn
from splitlab.course.checks.client_turn import (
    Server,
    SharedTurn,
    Turn,
    add_slips,
    cases,
    shared_slips,
)
from splitlab.course.checks.judge import exercise


class PoisonTurn(SharedTurn, GANTurn):
    """f and tail learn, and the server with them."""

    def images(self) -> Tensor:
        """Generate images without a graph."""
        return super().images().detach()


def _play(kind: type[Turn], *given: Any) -> None:
    kind(*given).take()


def _slip(**parts: Any) -> Any:
    return lambda *given: _play(type("Slip", (PoisonTurn,), parts), *given)


@exercise(
    cases=cases(
        lambda generator, net, tail: (net, tail),
        lambda *given: (*given[:-1], (4, 2, 3)[given[-1]]),
    ),
    returns=("z", "da"),
    use=lambda result, *given: given[5].received(),
    praise="net, tail and server learn to separate generated images from honest clients' images.",
    otherwise={
        "z and da": "what was sent is not z and da of this turn: z is net(generator(noise)), and "
        "da the gradient of the mean cross-entropy of tail(a) with the label poison, both at the "
        "weights before the step",
        "": "the step does not follow: the tail's gradient is that of the loss, net's is what "
        "backward makes of dz, and the optimizer takes one step on both",
    },
    slips=shared_slips(_slip)
    | {
        "backward went on into the generator and has changed its .grad: generate the images under "
        "torch.no_grad(), or detach them": _slip(images=GANTurn.images),
    },
)
def poison_turn(
    generator: nn.Module,
    net: nn.Module,
    tail: nn.Module,
    optimizer: Optimizer,
    noise: Tensor,
    server: Server,
    poison: int,
) -> None:
    _play(PoisonTurn, generator, net, tail, optimizer, noise, server, poison)


add_slips(
    poison_turn,
    PoisonTurn,
    _play,
    label="poison",
    learner="net",
    stepping="net and tail",
    networks=("generator", "net"),
)

"""Exercise 3: a generator turn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from splitlab.course.checks.client_gan.turn import GANTurn
from splitlab.course.checks.client_turn import Server, Turn, add_slips, cases
from splitlab.course.checks.judge import exercise


class GeneratorTurn(GANTurn):
    """The generator alone learns."""

    def back(self, x: Tensor, z: Tensor, dz: Tensor) -> None:
        """Fill the generator's gradients, and no others."""
        (dx,) = torch.autograd.grad(z, x, dz)
        x.backward(dx)


def _play(kind: type[Turn], *given: Any) -> None:
    generator, optimizer, net, tail, *rest = given
    kind(generator, net, tail, optimizer, *rest).take()


def _slip(**parts: Any) -> Any:
    return lambda *given: _play(type("Slip", (GeneratorTurn,), parts), *given)


def _arguments(*given: Any) -> tuple[Any, ...]:
    generator, net, tail, optimizer, *rest, number = given
    label, scale = ((1, 1e-5), (3, 0.5), (2, 1e-2))[number]
    return generator, optimizer, net, tail, *rest, label, scale


@exercise(
    cases=cases(lambda generator, net, tail: (generator[:2], generator[2:]), _arguments),
    returns=("z", "da"),
    use=lambda result, *given: given[5].received(),
    praise="the generator follows the whole gradient, and the server received a fraction of it.",
    otherwise={
        "z and da": "what was sent is not z and da of this turn: z is net(generator(noise)), and "
        "da is scale times the gradient of the mean cross-entropy of tail(a) with the label target",
        "": "the generator's step does not follow: divide dz by scale, take it back through net "
        "and generator, and let generator_optimizer take one step",
    },
    slips={
        "the server receives the whole gradient, and learns from it: send da * scale": _slip(
            send=lambda turn, da: da
        ),
        "da was divided by scale, which makes the server learn more: multiply it": _slip(
            send=lambda turn, da: da / turn.scale
        ),
        "dz is followed as it arrives, and is too small by scale: divide it by scale": _slip(
            receive=lambda turn, dz: dz
        ),
        "dz was multiplied by scale a second time: divide it by scale": _slip(
            receive=lambda turn, dz: dz * turn.scale
        ),
        "the generator has not moved: its images need their graph, and its optimizer a step": _slip(
            step=lambda turn: None
        ),
    },
)
def generator_turn(
    generator: nn.Module,
    generator_optimizer: Optimizer,
    net: nn.Module,
    tail: nn.Module,
    noise: Tensor,
    server: Server,
    target: int,
    scale: float,
) -> None:
    _play(GeneratorTurn, generator, generator_optimizer, net, tail, noise, server, target, scale)


add_slips(
    generator_turn,
    GeneratorTurn,
    _play,
    label="target",
    learner="the generator",
    stepping="the generator",
    networks=("generator", "net"),
)

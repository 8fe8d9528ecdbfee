"""Check of the exercise "One whole turn"."""

from __future__ import annotations

from torch import Tensor, nn

from splitlab.course.checks.base import Answer, check
from splitlab.course.checks.hijack_turn import Attacker, Design, Given, Turns


@check("three networks moved, each by its own loss, and dz was taken before any of them did.")
def turn(answer: Answer) -> None:
    """`turn(client_z, x_public, ...)`: one turn of Algorithm 1; returns dz."""
    turns = Turns(DESIGN)
    for size, public in ((4, 4), (5, 3), (1, 2)):
        turns.judge(
            size,
            public,
            lambda given, nets, optimizers: answer(
                given.z, given.x, nets.pilot, nets.behind, nets.critic, *optimizers
            ),
        )


def _errors(nets: Attacker, given: Given) -> Tensor:
    return (nets.behind(nets.pilot(given.x)) - given.x).square()


def _across(nets: Attacker, given: Given) -> Tensor | None:
    if len(given.z) != len(given.x):
        return None
    return (nets.behind(given.z) - given.x).square().mean()


DESIGN = Design(
    function="turn",
    behind="decoder",
    net=lambda: nn.Sequential(nn.ConvTranspose2d(2, 1, 4, 2, 1)),
    z="client_z",
    loss=lambda nets, given: _errors(nets, given).mean(),
    mean="images and pixels of the squared error of decoder(pilot(x_public))",
    others={
        "the loss of pilot and decoder is a sum: (1) is the mean over images and pixels": (
            lambda nets, given: _errors(nets, given).sum()
        ),
        "the loss of pilot and decoder is a sum over the pixels of an image: (1) is the mean over "
        "images and pixels": lambda nets, given: _errors(nets, given).sum((1, 2, 3)).mean(),
        "the decoder learns to turn the client's z into public images: (1) compares "
        "decoder(pilot(x_public)) with x_public itself": _across,
    },
)

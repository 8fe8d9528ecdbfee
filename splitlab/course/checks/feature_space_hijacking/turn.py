"""Exercise 4: one whole turn of the hijack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from splitlab.course.checks.hijack_turn import SIZES, Turn, add_slips, attacker, variant
from splitlab.course.checks.judge import exercise


class _Turn(Turn):
    def own_loss(self) -> Tensor:
        return F.mse_loss(self.behind(self.z_public), self.x)


def _take(turn: Turn, client_z: Tensor, x_public: Tensor, *rest: Any) -> Tensor:
    turn.client_z, turn.x = client_z, x_public
    turn.pilot, turn.behind, turn.critic, turn.own_optimizer, turn.critic_optimizer = rest
    return turn.take()


def _turns(make: Callable[..., Optimizer]) -> Callable[[], Iterator[tuple[Any, ...]]]:
    """Several turns of one attacker; the client's and the public batch differ in size."""

    def case() -> Iterator[tuple[Any, ...]]:
        networks = attacker(nn.ConvTranspose2d(2, 1, 4, 2, 1), make)
        for size, public in SIZES:
            yield torch.randn(size, 2, 2, 3), 2 * torch.rand(public, 1, 4, 6) - 1, *networks

    return case


@exercise(
    cases=[_turns(SGD), _turns(partial(SGD, momentum=0.5))],
    returns="dz",
    praise="three networks moved, each by its own loss, and dz was taken before any of them moved.",
    otherwise={
        "dz": "dz is not the gradient of (3), the mean score of client_z under the critic as it "
        "was",
        "critic": "the critic's step does not follow (2), mean critic(z_public) - mean "
        "critic(client_z), at the old parameters: look at what has been added to its .grad, and "
        "how often it steps",
        "": "the step of pilot and decoder does not follow (1), the mean over images and pixels of "
        "the squared error of decoder(pilot(x_public)), at the old parameters: look at your loss, "
        "and at what has been added to their .grad",
    },
)
def turn(
    client_z: Tensor,
    x_public: Tensor,
    pilot: nn.Module,
    decoder: nn.Module,
    critic: nn.Module,
    autoencoder_optimizer: Optimizer,
    critic_optimizer: Optimizer,
) -> Tensor:
    networks = pilot, decoder, critic, autoencoder_optimizer, critic_optimizer
    return _take(_Turn(), client_z, x_public, *networks)


add_slips(turn, _Turn, _take, own="pilot and decoder")


turn.slips |= {
    "the loss of pilot and decoder is a sum: (1) is the mean over images and pixels": variant(
        _Turn, _take, own_loss=lambda turn: (turn.behind(turn.z_public) - turn.x).square().sum()
    ),
    "the loss of pilot and decoder is a sum over the pixels of an image: (1) is the mean over "
    "images and pixels": variant(
        _Turn,
        _take,
        own_loss=lambda turn: (turn.behind(turn.z_public) - turn.x).square().sum((1, 2, 3)).mean(),
    ),
    "the decoder learns to turn the client's z into public images: (1) compares "
    "decoder(pilot(x_public)) with x_public itself": variant(
        _Turn, _take, own_loss=lambda turn: F.mse_loss(turn.behind(turn.client_z), turn.x)
    ),
}

"""The accuracy under alpha and a clip at tiny scale, and the success of three attackers.

Client and server train on digits as at `sl.tiny`, with larger learning rates, so that a hundred
steps are enough. The attackers' settings are here and not in the notebook.
"""

from __future__ import annotations

import functools
import math
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Adam

from splitlab import (
    FSHA,
    BlackBoxInversion,
    Client,
    Critic,
    ImageData,
    Observer,
    Server,
    grant,
    settings,
    task_accuracy,
    train,
)
from splitlab.attacks.schedules import growing, half_at
from splitlab.course.checks.guard import secret
from splitlab.defenses import ClipGradient, NoPeek
from splitlab.nets.blocks import seeded
from splitlab.referee.metrics import explained_variance

SETTING, SPLIT, IMAGES = settings.tiny, 51, 200
TRIAL = 50  # the seed of a student's trainings, which are tested on the public images
SEEDS, HIJACK_SEEDS = (51, 52, 53), (51, 52)  # of the score, tested on the referee's images
LOOKS = (80, 85, 90, 95, 100)  # steps of an honest training; an accuracy is the mean over them
HIJACK_STEPS = 50


def _client(alpha: float, clip: float, seed: int) -> Client:
    defenses = [
        *([NoPeek(alpha)] if alpha else []),
        *([ClipGradient(clip)] if math.isfinite(clip) else []),
    ]
    options = SETTING.client(seed=seed, rate=1e-2)
    private = SETTING.split("digits", SPLIT).private
    return Client(SETTING.client_net(seed=seed), private, defenses=defenses, **options)


class _Accuracies(Observer):
    """The accuracies on some images after each of `LOOKS` steps."""

    def __init__(self, data: ImageData) -> None:
        self.data, self.found = data, list[float]()

    def step(self, step: int, client: Client, server: Server) -> None:
        """Measure the accuracies, if it is time."""
        if step + 1 in LOOKS:
            self.found.append(task_accuracy(client, server, self.data))


@functools.cache
def honest(alpha: float, clip: float, seed: int) -> tuple[float, Client, BlackBoxInversion]:
    """Train with an honest-but-curious server; return the accuracy, too."""
    split, client = SETTING.split("digits", SPLIT), _client(alpha, clip, seed)
    options: dict[str, Any] = {"questions": 100, "parameters": 1713, "batch_size": 16, "seed": seed}
    options |= {"public": split.public, "optimizer": partial(Adam, lr=3e-3)}
    server = BlackBoxInversion(SETTING.server_net(seed=seed), **options)
    assert split.referee is not None
    seen = _Accuracies(split.public if seed == TRIAL else split.referee)
    train([client], server, LOOKS[-1], observers=[seen])
    return math.fsum(seen.found) / len(LOOKS), client, server


@secret
def accuracy(alpha: float, clip: float) -> float:
    """The mean accuracy over `SEEDS`."""
    return math.fsum(honest(alpha, clip, seed)[0] for seed in SEEDS) / len(SEEDS)


@secret
@functools.cache
def explained_by_each(alpha: float, clip: float) -> list[float]:
    """The share of private variance that two hijacks and an attacker with an oracle explain."""
    _, client, curious = honest(alpha, clip, SEEDS[0])
    hijack = _hijack(alpha, clip, 1.0)
    # Without alpha there is nothing to outbid, and Adam cancels a constant factor.
    outbidding = _hijack(alpha, clip, 1e3) if alpha else hijack
    return [hijack, outbidding, _explained(client, grant(curious, client))]


def _hijack(alpha: float, clip: float, scale: float) -> float:
    """The mean over two seeds, of a server that lengthens its gradient by a factor."""
    public, found = SETTING.split("digits", SPLIT).public, []
    for seed in HIJACK_SEEDS:
        options: dict[str, Any] = {"critic_steps": 4, "gradient_scale": growing(1.0, start=scale)}
        server = FSHA.at(SETTING, public, steps=HIJACK_STEPS, seed=seed, **options)
        server.critic = Critic(
            _image_critic(seed=seed),
            through=server.decoder,
            penalty="sample",
            penalty_weight=10.0,
            optimizer=partial(Adam, lr=5e-3, betas=(0.5, 0.9)),
            rate=half_at(HIJACK_STEPS),
        )
        client = _client(alpha, clip, seed)
        train([client], server, HIJACK_STEPS)
        found.append(_explained(client, server))
    return math.fsum(found) / len(found)


@seeded
def _image_critic(*, seed: int = 0) -> nn.Module:
    """Scores of images, quick to train: (B, 1, 16, 16) -> (B, 1)."""
    layers = [nn.Linear(256, 200), nn.LeakyReLU(0.2), nn.Linear(200, 200), nn.LeakyReLU(0.2)]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(200, 1))


def _explained(client: Client, attack: Any) -> float:
    x = client.data.x[:IMAGES]
    return explained_variance(attack.reconstruct(client.smash(x)), x)

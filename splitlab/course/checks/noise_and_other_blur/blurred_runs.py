"""The accuracy under noise and pruning of z at tiny scale, and the success of three attackers.

Client and server train on digits as at `sl.tiny`, with larger learning rates, so that a hundred
steps are enough. The attackers' settings are here and not in the notebook.
"""

from __future__ import annotations

import functools
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from splitlab import (
    Client,
    Defense,
    HonestServer,
    ImageData,
    Observer,
    Server,
    settings,
    task_accuracy,
    train,
)
from splitlab.course.checks.guard import secret
from splitlab.defenses import GaussianNoise, TopK
from splitlab.nets.blocks import seeded
from splitlab.nets.pair_decoder import fit_linear_decoder, train_decoder
from splitlab.referee.metrics import explained_variance

SETTING, SPLIT, IMAGES = settings.tiny, 52, 200
NORM, NUMBERS = 8.0, 512  # the clip of z, and how many numbers z has
TRIAL = 60  # the seed of a student's trainings, which are tested on the public images
SEEDS = (61, 62, 63, 64, 65)  # of the score, tested on the referee's images
LOOKS = (80, 85, 90, 95, 100)  # steps of a training; an accuracy is the mean over them
REPEATS, DRAWS = 16, 4  # messages that are averaged, and such means of each public image
RIDGES = (1e-2, 1e-1, 1.0)


def numbers(keep: float) -> int:
    """Return the number of entries of z in this share; at least 1."""
    return max(1, round(keep * NUMBERS))


def defenses(sigma: float, keep: float) -> list[Defense]:
    """Return the client's defenses: pruning, then a clip and noise on the remaining entries."""
    return [
        *([TopK(numbers(keep))] if keep < 1 else []),
        *([GaussianNoise(sigma, norm=NORM)] if sigma else []),
    ]


class _Accuracies(Observer):
    """The accuracies on some images after each of `LOOKS` steps."""

    def __init__(self, data: ImageData) -> None:
        self.data, self.found = data, list[float]()

    def step(self, step: int, client: Client, server: Server) -> None:
        """Measure the accuracies, if it is time."""
        if step + 1 in LOOKS:
            self.found.append(task_accuracy(client, server, self.data))


@functools.cache
def honest(sigma: float, keep: float, seed: int) -> tuple[float, Client]:
    """Train with an honest server; return the accuracy and the client."""
    split = SETTING.split("digits", SPLIT)
    assert split.referee is not None
    options: dict[str, Any] = SETTING.client(seed=seed, rate=1e-2)
    f, blur = SETTING.client_net(seed=seed), defenses(sigma, keep)
    client = Client(f, split.private, defenses=blur, **options)
    server = HonestServer(
        SETTING.server_net(seed=seed), optimizer=partial(Adam, lr=3e-3), seed=seed
    )
    seen = _Accuracies(split.public if seed == TRIAL else split.referee)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the noise
        train([client], server, LOOKS[-1], observers=[seen])
    return math.fsum(seen.found) / len(LOOKS), client


@secret
def accuracy(sigma: float, keep: float) -> float:
    """The mean accuracy over `SEEDS`."""
    return math.fsum(honest(sigma, keep, seed)[0] for seed in SEEDS) / len(SEEDS)


@secret
@functools.cache
def explained_by_each(sigma: float, keep: float) -> list[float]:
    """The share of private variance that two linear decoders and a network explain.

    All three are fitted to pairs of a colluding client, which has the same f and the same defense.
    """
    _, client = honest(sigma, keep, SEEDS[0])
    x, public = client.data.x[:IMAGES], SETTING.split("digits", SPLIT).public.x
    several = public.repeat(DRAWS, 1, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEEDS[0])
        once, mean = client.smash(several).z, _averaged(client, several)
        z, read = client.smash(x).z, _averaged(client, x)
    hidden = _hidden_layer(seed=SEEDS[0])
    options: dict[str, Any] = {"steps": 400, "seed": SEEDS[0], "value_range": (-1, 1)}
    network = train_decoder(mean, several, decoder=hidden, **options)
    return [
        _linear(once, several, z, x),
        _linear(mean, several, read, x),
        explained_variance(network.images(read), x),
    ]


@seeded
def _hidden_layer(*, seed: int = 0) -> nn.Module:
    """A decoder that is quick to train: z -> images (B, 1, 16, 16)."""
    layers = [nn.Flatten(), nn.Linear(NUMBERS, 300), nn.ReLU(), nn.Linear(300, 256)]
    return nn.Sequential(*layers, nn.Unflatten(1, (1, 16, 16)))


def _averaged(client: Client, x: Tensor) -> Tensor:
    """The mean z of `REPEATS` messages about each image."""
    z = client.smash(x.repeat_interleave(REPEATS, 0)).z
    return z.view(len(x), REPEATS, *z.shape[1:]).mean(1)


def _linear(known: Tensor, images: Tensor, z: Tensor, x: Tensor) -> float:
    """The share that a linear decoder explains, fitted to pairs with the best of several ridges."""
    fitted = (fit_linear_decoder(known, images, value_range=(-1, 1), ridge=r) for r in RIDGES)
    return max(explained_variance(decoder.images(z), x) for decoder in fitted)

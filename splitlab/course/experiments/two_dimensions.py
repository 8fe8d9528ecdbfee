"""A hijack of points in the plane: small enough to draw all of it.

A point is an image of two pixels, (1, 1, 2), so the library's own client and attack serve.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Adam

import splitlab as sl
from splitlab.attacks.critic import Critic
from splitlab.course.experiments.base import Device, Experiment, Keeping
from splitlab.nets.blocks import seeded

POINTS = 2100  # of which split() makes 900 private, 600 public and 600 for nobody here
BATCH = 128
CLIENT_RATE = 2e-2
CRITIC_RATE = 5e-3
PENALTY_WEIGHT = 1.0
RANGE = (-5.0, 5.0)
BLOBS = ((-0.8, -0.5), (1.4, -0.5), (-0.8, 1.5))
SHARES = (0.72, 0.21, 0.07)  # of the points, by blob


@dataclass(frozen=True)
class TwoDimensions(Experiment):
    """A hijack in the plane, with the identity for pilot and decoder: what is decoded is z.

    `data` is the cloud of the points, "lopsided" or "round".

    Attributes:
        penalty_weight: Of the critic's gradient penalty; 0 for none.
        mirrors: Whether f is any affine map, (x, y) -> A (x, y) + b, or one that cannot mirror.
    """

    penalty_weight: float = PENALTY_WEIGHT
    mirrors: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {
            "cut": 1,
            "batch_size": BATCH,
            "client_rate": CLIENT_RATE,
            "critic_rate": CRITIC_RATE,
            "penalty_weight": self.penalty_weight,
            "mirrors": self.mirrors,
        }

    def parties(self, device: Device = "cpu") -> tuple[sl.Client, sl.FSHA]:
        """Return a client with a part of the cloud, and an attacker with another."""
        split = cloud(self.data, seed=self.seed).split(self.seed)
        common: dict[str, Any] = {"batch_size": BATCH, "seed": self.seed, "device": device}
        client = sl.Client(
            affine(seed=self.seed) if self.mirrors else Turn(seed=self.seed),
            split.private,
            optimizer=partial(Adam, lr=CLIENT_RATE),
            **common,
        )
        attack = sl.FSHA(
            split.public,
            pilot=nn.Identity(),
            decoder=nn.Identity(),
            critic=Critic(
                critic(seed=self.seed),
                penalty="sample",
                penalty_weight=self.penalty_weight,
                optimizer=partial(Adam, lr=CRITIC_RATE, betas=(0.5, 0.9)),
            ),
            critic_steps=3,
            critic_first=True,
            gradient_scale=sl.attacks.schedules.falling(self.steps, to=0.05),
            **common,
        )
        return client, attack

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Hijack, and score; returns the figures of `scores` and `cpu_seconds`."""
        started = time.process_time()
        client, attack = self.parties(device)
        before = turned(client.net)
        sl.train([client], attack, self.steps, observers=observers, **keeping)
        row = self.scores(client, attack)
        row["turned_by_hijack"] = between(row["turned"], before)
        return row | {"steps": self.steps, "cpu_seconds": time.process_time() - started}

    def scores(self, client: sl.Client, attack: sl.FSHA) -> dict[str, Any]:
        """Compare clouds and points; only the referee can compare points.

        Returns:
            `error`: mean squared distance of decoded and private points, in parts of the private
            points' variance (1: as good as their mean); `matched`, 1 of 500; `apart`, the energy
            distance of the clouds of z and z_public, and `apart_at_best`, that of the private and
            public points; `gap`, by how much the critic scores z above z_public on average, and
            `slope`, the mean norm of its gradient at z; `turned`, by how many degrees f ends up
            turning the points (-180 to 180), and `determinant`, the factor on areas (negative
            where f mirrors); `half_turn`, with error, apart and gap of the same z turned by half
            a turn about the middle of z_public; and the `floors`.
        """
        x, public = client.data.x, attack.public.x
        message = client.smash(x)
        z, decoded = message.z, attack.reconstruct(message)
        nearest = sl.floors.nearest_public(x, public)
        mean = public.mean(0).expand_as(x)
        points = z.clone().requires_grad_()
        (arrows,) = torch.autograd.grad(attack.critic.score(points).sum(), points)
        opposite = 2 * mean - z
        return {
            **_figures(decoded, x),
            **_agreement(attack, z),
            "half_turn": _figures(opposite, x) | _agreement(attack, opposite),
            "apart_at_best": apart(x, public),
            "slope": float(arrows.flatten(1).norm(dim=1).mean()),
            "turned": turned(client.net),
            "determinant": float(torch.linalg.det(matrix(client.net))),
            "floors": {"mean_public": _figures(mean, x), "nearest_public": _figures(nearest, x)},
        }


def cloud(shape: str, *, seed: int = 0) -> sl.ImageData:
    """Return points in the plane as images of two pixels, (N, 1, 1, 2).

    Args:
        shape: "lopsided", three blobs of unlike sizes, or "round", one that looks the same from
            all sides.
        seed: Draws the points.

    Raises:
        ValueError: If there is no such shape.
    """
    if shape not in ("lopsided", "round"):
        raise ValueError(f'there is no cloud {shape!r}: choose "lopsided" or "round"')
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(POINTS, 2, generator=draw)
    y = torch.zeros(POINTS, dtype=torch.int64)
    points = 0.9 * noise
    if shape == "lopsided":
        y = torch.multinomial(torch.tensor(SHARES), POINTS, replacement=True, generator=draw)
        points = torch.tensor(BLOBS)[y] + 0.2 * noise
    blobs = tuple(f"blob {number}" for number in range(1, int(y.max()) + 2))
    return sl.ImageData(points.view(-1, 1, 1, 2), y, blobs, name=shape, value_range=RANGE)


class Turn(nn.Module):
    """f: (x, y) -> (a x - b y, b x + a y) + shift. It only rotates, scales and shifts the plane.

    Two of its four weights are the others again, as a convolution's are. So it cannot mirror.

    Args:
        seed: Seeds the initial weights.
    """

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.ab = nn.Parameter(0.5 * torch.randn(2, generator=draw))
        self.shift = nn.Parameter(torch.randn(2, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        """Return z (B, 1, 1, 2) of points x (B, 1, 1, 2)."""
        a, b = self.ab
        return torch.stack([a * x[..., 0] - b * x[..., 1], b * x[..., 0] + a * x[..., 1]], -1) + (
            self.shift
        )


@seeded
def affine(*, seed: int = 0) -> nn.Module:
    """Return f as any affine map of the plane: (B, 1, 1, 2) -> (B, 1, 1, 2)."""
    return nn.Linear(2, 2)


@seeded
def critic(*, seed: int = 0) -> nn.Module:
    """Return a critic of points: (B, 1, 1, 2) -> scores (B, 1)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(2, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 1),
    )


def matrix(net: nn.Module) -> Tensor:
    """Return the 2x2 matrix A of an affine f, read off its values at three points."""
    device = next(net.parameters()).device
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], device=device).view(3, 1, 1, 2)
    with torch.no_grad():
        origin, *ends = net(corners).view(3, 2)
    return torch.stack([end - origin for end in ends], dim=1)


def turned(net: nn.Module) -> float:
    """Return the angle of the rotation nearest to an affine f, in degrees from -180 to 180."""
    (a, b), (c, d) = matrix(net).tolist()
    return math.degrees(math.atan2(c - b, a + d))


def between(one: float, other: float) -> float:
    """Return the smaller angle between two directions, in degrees from 0 to 180."""
    return abs((one - other + 180) % 360 - 180)


def apart(one: Tensor, other: Tensor) -> float:
    """Return the energy distance of two clouds, (M, ...) and (N, ...); 0 for the same cloud.

    2 E|X - Y| - E|X - X'| - E|Y - Y'|; which point is whose plays no part.
    """
    one, other = one.detach().flatten(1), other.detach().flatten(1)

    def mean(a: Tensor, b: Tensor) -> float:
        return float(torch.cdist(a, b).mean())

    return 2 * mean(one, other) - mean(one, one) - mean(other, other)


def _agreement(attack: sl.FSHA, z: Tensor) -> dict[str, float]:
    """The distance between z and z_public: of their clouds, and of the critic's mean scores."""
    z_public = attack.pilot(attack.public.x)
    with torch.no_grad():
        gap = attack.critic.score(z).mean() - attack.critic.score(z_public).mean()
    return {"apart": apart(z, z_public), "gap": float(gap)}


def _figures(decoded: Tensor, x: Tensor) -> dict[str, float]:
    """The error divided by the variance, and matched, 1 of 500."""
    return {
        "error": 1 - sl.metrics.explained_variance(decoded, x),
        "matched": sl.metrics.matched(decoded[:500], x[:500]),
    }

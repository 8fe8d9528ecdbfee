"""What an attacker reconstructs from a stored transcript after the client has left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

import splitlab as sl
from splitlab.attacks.critic import descend
from splitlab.core.randomness import RandomState
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.watched import SCORED, Watched
from splitlab.course.experiments.watched_kinds import ATTACKS, STEPS, UNSEEN
from splitlab.nets import tiny
from splitlab.nets.evaluation import in_parts
from splitlab.referee.metrics import matched, mse

ALIGNMENT = 600  # steps of the surrogate
STOPS = (10, 20, 30, 40, 60, 100)
KINDS = {n: o for n, o in (ATTACKS | UNSEEN).items() if n in ("fast", "paper", "passive")}


@dataclass(frozen=True)
class Transcript(Watched):
    """A run that ends early, and an attack on the z that the server has kept.

    Attributes:
        stopped: The steps taken; the hijack's schedules are laid over `steps`.
    """

    stopped: int = 30

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        return super().config | {"stopped": self.stopped, "alignment": ALIGNMENT}

    def detectors(self) -> list[sl.Defense]:
        """Return no detectors: the run ends at a chosen step."""
        return []

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train for some steps, then decode the last z that the server received of each image.

        Returns:
            `sent`, the share of the private images that crossed; the share matched, and the error
            relative to the nearest public image, of two attacks: with the weights of the moment
            (`matched_now`, `error_now`), and with a surrogate that is trained afterwards
            (`matched_later`, `error_later`); and `cpu_seconds`.
        """
        split, clock = self.split(), CpuTime()
        (client,), server = self.parties(split, device)
        rows = torch.randperm(len(client.data), generator=torch.Generator().manual_seed(self.seed))[
            :SCORED
        ]
        received = sl.ReceivedImages(torch.arange(len(client.data)))
        watching = [*observers, clock, received]
        sl.train([client], server, self.stopped, observers=watching, **keeping)
        assert received.kept is not None
        clock.start(None, None, 0)
        here = received.sent
        later = surrogate(received.kept[here].to(device), split.public, seed=self.seed)
        clock.step(0, None, None)
        sent = here[rows].view(-1, 1, 1, 1)
        x = received.images[rows]
        nearest = mse(sl.floors.nearest_public(x, split.public.x), x)
        row: dict[str, Any] = {"sent": round(float(here.float().mean()), 4)}
        found = {"now": received.shown(server)[rows], "later": later(received.kept[rows]).cpu()}
        for name, images in found.items():
            images = torch.where(sent, images, 0.0)
            row[f"matched_{name}"] = round(matched(images, x), 4)
            row[f"error_{name}"] = round(mse(images, x) / nearest, 4)
        return row | {"cpu_seconds": round(clock.seconds, 1)}


class Surrogate:
    """Reads z with a decoder of a surrogate's codes.

    Args:
        decoder: Standardized z -> images.
        mean: Of z, by channel.
        std: Its standard deviation, by channel.
        value_range: The range of the pixels.
    """

    def __init__(
        self, decoder: nn.Module, mean: Tensor, std: Tensor, value_range: tuple[float, float]
    ) -> None:
        self.decoder, self.mean, self.std, self.value_range = decoder, mean, std, value_range

    def __call__(self, z: Tensor) -> Tensor:
        """Return images of z, (N, C, H, W)."""
        z = (z.to(self.mean) - self.mean) / self.std
        return in_parts(self.decoder, z).clamp(*self.value_range)


def surrogate(z: Tensor, public: sl.ImageData, *, seed: int, steps: int = ALIGNMENT) -> Surrogate:
    """Train a network on public images to give codes like the stored z, and a decoder of these.

    It is the paper's hijack turned round: the attacker moves its own network towards the client's
    z. It needs no gradient sent, so it can be run afterwards, and on an honest run as well. Of f's
    layers it knows nothing; it uses the paper's pilot. Learning rates fall to 0, so that there is
    no best step to stop at, which an attacker could not know.

    Args:
        z: What was received, (N, C, H, W).
        public: The attacker's own images.
        seed: Of the networks and the batches.
        steps: How many.
    """
    randomness = RandomState("surrogate", seed, z.device)
    mean, std = z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True) + 1e-6
    z, public = (z - mean) / std, public.to(z.device)
    pilot, decoder = tiny.pilot(seed=seed).to(z), tiny.decoder(seed=seed).to(z)

    def falls(step: int) -> float:
        return 1 - step / steps

    critic = sl.Critic(
        tiny.critic(seed=seed).to(z),
        penalty="sample",
        penalty_weight=10.0,
        optimizer=partial(Adam, lr=1e-3, betas=(0.5, 0.9)),
        rate=falls,
    )
    moving = Adam(pilot.parameters(), lr=1e-3, betas=(0.5, 0.9))
    reading = Adam(decoder.parameters(), lr=1e-3)
    rates = [LambdaLR(moving, falls), LambdaLR(reading, falls), critic.schedule]
    stored = sl.Sampler(len(z), min(32, len(z)), owner="the transcript", seed=seed)
    images = sl.Sampler(len(public), 32, owner="public", seed=seed)
    with randomness.lent():
        for _ in range(steps):
            received, x = z[stored.next().to(z.device)], public.x[images.next().to(z.device)]
            descend(moving, critic.pull(pilot(x), received))
            with torch.no_grad():
                codes = pilot(x)
            critic.learn(codes, received)
            descend(reading, mse_loss(decoder(codes), x))
            for rate in rates:
                rate.step()
    return Surrogate(decoder, mean, std, public.value_range)


def transcripts(seed: int) -> list[Transcript]:
    """Return the recorded runs of a seed."""
    return [
        Transcript(
            "transcripts_tiny", f"{name}, {stop} steps", seed, STEPS, **options, stopped=stop
        )
        for name, options in KINDS.items()
        for stop in STOPS
    ]

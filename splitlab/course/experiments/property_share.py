"""The share of a property in a client's images, estimated from the z of a hijacked client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor

import splitlab as sl
from splitlab.course.experiments.base import CpuTime, Device, Keeping
from splitlab.course.experiments.property_inference import (
    PropertyHijack,
    inferrer,
    with_property,
)

IMAGES = 120  # of each client


@dataclass(frozen=True)
class PropertyShare(PropertyHijack):
    """The share of rising digits in each client's images, estimated from its z.

    Each client has `IMAGES` images, and no image is at two clients. They train in turn on one f.

    Attributes:
        shares: Of rising images, for each client.
        public_share: Of `IMAGES` * 2 public images that the hijack uses; None for all public
            images, of which half are rising.
    """

    secret: str = "slant"
    task: str = "digit"
    shares: tuple[float, ...] = (0.2, 0.5, 0.8)
    public_share: float | None = None

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        own = {"shares": list(self.shares), "public_share": self.public_share, "images": IMAGES}
        return super().config | own

    def measure(
        self, device: Device, observers: Sequence[sl.Observer], **keeping: Unpack[Keeping]
    ) -> dict[str, Any]:
        """Train and estimate.

        Returns:
            `steps`; `cpu_seconds` of the training; `estimates`: by the names of `share_estimates`
            and for the "true" share, a number for each client; and `error`, by the same names: the
            absolute difference from the true share, a mean over the clients.
        """
        split, setting, clock = self.split(), self.setting, CpuTime()
        truth = with_property(split.private, "slant", split.public)
        rows = draw(truth.y, self.shares, IMAGES, self.seed)
        clients = [
            sl.Client(
                setting.client_net(seed=self.seed),
                split.private.select(own),
                name=f"clinic {number}",
                **setting.client(seed=self.seed, device=device),
            )
            for number, own in enumerate(rows)
        ]
        server, protocol = self.attack(split, device), sl.Sequential()
        watching = [*observers, clock]
        sl.train(clients, server, self.steps, protocol=protocol, observers=watching, **keeping)
        public = split.public, super().known(split).y
        found = [share_estimates(client, inferrer(server), *public) for client in clients]
        estimates = {name: [round(one[name], 4) for one in found] for name in found[0]}
        true = torch.tensor(self.shares)
        error = {
            name: round(float((torch.tensor(values) - true).abs().mean()), 4)
            for name, values in estimates.items()
        }
        about = {"steps": self.steps, "cpu_seconds": clock.seconds}
        return about | {"estimates": {"true": list(self.shares)} | estimates, "error": error}

    def known(self, split: sl.data.Split) -> sl.ImageData:
        """Return the public images that the hijack uses, labeled with the slant."""
        known = super().known(split)
        if self.public_share is None:
            return known
        return known.select(draw(known.y, (self.public_share,), 2 * IMAGES, self.seed)[0])


def draw(y: Tensor, shares: Sequence[float], size: int, seed: int) -> list[Tensor]:
    """Draw the rows of several clients, with a given share of class 1 in each.

    Args:
        y: Classes 0 and 1, int64 (N,).
        shares: Of class 1, for each client.
        size: Rows of each client.
        seed: Seeds the draw.

    Returns:
        Row numbers, int64 (size,), for each client. No row is drawn twice.

    Raises:
        ValueError: If there are too few rows of a class.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=generator)
    without, having = (order[y[order] == label] for label in (0, 1))
    rows = []
    for share in shares:
        count = round(share * size)
        chosen = torch.cat([having[:count], without[: size - count]])
        if len(chosen) < size:
            raise ValueError(
                f"the data have too few images for clients of {size} with the shares {shares}: "
                "draw fewer images for each"
            )
        having, without = having[count:], without[size - count :]
        rows.append(chosen[torch.randperm(size, generator=generator)])
    return rows


def share_estimates(
    client: sl.Client, attack: sl.PropertyInference, public: sl.ImageData, rising: Tensor
) -> dict[str, float]:
    """Return what an attacker estimates the share of rising images at a client to be.

    Args:
        client: The client.
        attack: The attack, which reads the client's z.
        public: The attacker's images with their digits.
        rising: Whether each of them is rising, 0 or 1, int64 (P,).

    Returns:
        "head": the share that the head infers from z; "head, corrected": as `corrected`, with the
        head's answers for public images; "public share": of the images that the hijack uses;
        "labels": the mean, over the labels that the client sends, of the share of rising ones among
        the public images of that digit; "labels, corrected": as `corrected`, with the public
        images. Only the last two use the client's labels.
    """
    usual = torch.stack([rising[public.y == digit].double().mean() for digit in range(10)])
    own = attack.classify(attack.public.x).argmax(1).double().cpu()
    head = attack.infer_property(client.smash(client.data.x)).argmax(1).double().cpu()
    labels = usual[client.data.y.cpu()]
    return {
        "head": float(head.mean()),
        "head, corrected": corrected(head, own, attack.public.y.cpu()),
        "public share": float(attack.public.y.double().mean()),
        "labels": float(labels.mean()),
        "labels, corrected": corrected(labels, usual[public.y], rising),
    }


def corrected(scores: Tensor, known: Tensor, truth: Tensor) -> float:
    """Return the share of class 1, corrected by the scores of images whose class is known.

    With the mean score t of known images of class 1 and f of class 0, a share p has the mean score
    p t + (1 - p) f, which is solved for p and cut to [0, 1].

    Args:
        scores: Of images of unknown class, (N,).
        known: Of images of known class, (P,).
        truth: Their classes, 0 or 1, int64 (P,).
    """
    high, low = (float(known[truth == label].mean()) for label in (1, 0))
    return min(1.0, max(0.0, (float(scores.mean()) - low) / (high - low)))


# Kinds of `property_tiny`, too: clients alone, one of them with another public share, and three in
# turn, whose mean share is the public one or is not.
SHARES: dict[str, dict[str, Any]] = {
    "one client, share 0.2": {"shares": (0.2,)},
    "one client, share 0.5": {"shares": (0.5,)},
    "one client, share 0.8": {"shares": (0.8,)},
    "one client, share 0.5, public share 0.8": {"shares": (0.5,), "public_share": 0.8},
    "three clients": {},
    "three clients, no hijack": {"design": None},
    "three clients, shares 0.5, 0.8, 0.8": {"shares": (0.5, 0.8, 0.8)},
}

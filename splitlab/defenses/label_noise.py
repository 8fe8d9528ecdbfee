"""Noise against label inference: the label party adds it to the gradients that it sends.

Li, Sun and others: "Label Leakage and Protection in Two-party Split Learning", ICLR 2022. A
gradient dz_i is (p_i - y_i) times a vector, so its norm and its direction reveal the label y_i. The
server's own step is taken with the true gradient; only what is sent carries noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from splitlab.arguments import number
from splitlab.core.server import LabelDefense
from splitlab.data import ImageData

GRID, ROUNDS, ZOOM = 33, 12, 0.3  # of the search for Marvell's variances


class GradientNoise(LabelDefense):
    """Add Gaussian noise, with the same variance in all directions and for all rows.

    Args:
        strength: The root mean squared norm of the noise, divided by the norm of the largest
            gradient of the batch.

    Raises:
        ValueError: If the strength is negative.
    """

    def __init__(self, strength: float) -> None:
        self.strength = number("strength", strength)

    def outgoing(self, dz: Tensor, labels: Tensor) -> Tensor:
        """Add the noise."""
        rows = dz.flatten(1)
        deviation = self.strength * rows.norm(dim=1).max() / rows.shape[1] ** 0.5
        noisy: Tensor = dz + deviation * torch.randn_like(dz)
        return noisy

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example whose noise has the norm of the largest gradient."""
        return cls(1.0)


class MaxNorm(LabelDefense):
    """Scale each gradient at random, so that all have the expected squared norm of the largest.

    The noise lies in the gradient's own direction: the sign may turn, the line stays. It needs no
    labels and has no strength to choose. A gradient of 0 has no direction and stays 0.
    """

    def outgoing(self, dz: Tensor, labels: Tensor) -> Tensor:
        """Return dz_i (1 + s_i e), where e is standard normal and 1 + s_i^2 = max^2 / |dz_i|^2."""
        rows = dz.flatten(1).double()  # some are a billion times larger than others
        norms = rows.norm(dim=1)
        ratio = torch.where(norms == 0, 1.0, norms.max() / norms)
        stretch = (ratio.square() - 1).sqrt() * torch.randn_like(norms)
        return (rows + stretch[:, None] * rows).to(dz.dtype).view_as(dz)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example; there are no settings."""
        return cls()


@dataclass(frozen=True)
class Variances:
    """Marvell's noise: variances per direction, for class 0 and class 1.

    Attributes:
        along: In the direction from one class mean to the other.
        across: In each of the other d - 1 directions.
    """

    along: tuple[float, float]
    across: tuple[float, float]

    def power(self, share: float, d: int) -> float:
        """Return the mean squared norm of the noise; `share` is that of class 1."""
        zero, one = (a + (d - 1) * b for a, b in zip(self.along, self.across, strict=True))
        return share * one + (1 - share) * zero


class Marvell(LabelDefense):
    """Add Gaussian noise that makes two classes of gradients as similar as its power allows.

    It takes the gradients of class c for Gaussian, with their mean and the same variance in every
    direction, and chooses the noise's covariances to minimize KL(0, 1) + KL(1, 0) after noise. If
    that sum is eps < 4, no score has an AUC above 1/2 + sqrt(eps)/2 - eps/8, for one release and as
    far as the model is true. Means and variances are those of the batch. A batch that has rows of
    one class only gets the noise of the batch before; the first ones, before any with both, get
    none.

    Args:
        strength: The mean squared norm of the noise, divided by the squared distance of the means.

    Attributes:
        eps: KL(0, 1) + KL(1, 0) that they leave, by that batch.

    Raises:
        ValueError: If the strength is negative.
    """

    STATE = ("variances", "eps", "direction")

    def __init__(self, strength: float) -> None:
        self.strength = number("strength", strength)
        self.variances: tuple[tuple[float, float], tuple[float, float]] | None = None
        self.eps = float("inf")
        self.direction = torch.empty(0)

    @property
    def noise(self) -> Variances | None:
        """The variances in use; None before the first batch with both classes."""
        return None if self.variances is None else Variances(*self.variances)

    def outgoing(self, dz: Tensor, labels: Tensor) -> Tensor:
        """Add each class's noise.

        Raises:
            ValueError: If there are other labels than 0 and 1.
        """
        if labels.min() < 0 or labels.max() > 1:
            raise ValueError(
                f"Marvell's noise is for the labels 0 and 1, and there is a label "
                f"{int(labels.max())}: use GradientNoise for more classes"
            )
        rows = dz.flatten(1).double()  # late in training they are small, and their squares 0
        if labels.min() < labels.max():
            self._choose(rows, labels)
        if self.noise is None:
            return dz
        noise = torch.randn_like(rows)
        direction = self.direction.to(rows.device)  # a checkpoint's are on the CPU
        along = (noise @ direction)[:, None] * direction
        by_class = torch.tensor([self.noise.along, self.noise.across], dtype=rows.dtype)
        a, b = by_class.to(rows.device).sqrt()[:, labels]
        noise = a[:, None] * along + b[:, None] * (noise - along)
        noisy: Tensor = (rows + noise).to(dz.dtype).view_as(dz)
        return noisy

    def _choose(self, rows: Tensor, labels: Tensor) -> None:
        """Set the noise and its direction from a batch with both classes."""
        zero, one = rows[labels == 0], rows[labels == 1]
        difference = one.mean(0) - zero.mean(0)
        gap = float(difference.square().sum())
        if gap == 0:
            return
        # A class with one row has no spread of its own: it is given the other class's.
        spread = [float(c.var(0).mean()) for c in (zero, one) if len(c) > 1]
        u, v = spread if len(spread) == 2 else (spread or [0.0]) * 2
        d, share = rows.shape[1], len(one) / len(rows)
        self.direction = difference / gap**0.5
        noise = marvell(u, v, gap, d, share, self.strength * gap)
        self.variances = (noise.along, noise.across)
        self.eps = sum_kl(noise, u, v, gap, d)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example whose noise has the squared norm of the means' distance."""
        return cls(1.0)


def sum_kl(noise: Variances, u: float, v: float, gap: float, d: int) -> float:
    """Return KL(0, 1) + KL(1, 0) of two Gaussians after Marvell's noise.

    Args:
        noise: The noise.
        u: Variance of class 0 in every direction, before noise.
        v: Variance of class 1.
        gap: Squared distance of the means.
        d: Number of directions.
    """
    a = u + torch.tensor([noise.along[0], noise.across[0]], dtype=torch.float64)
    b = v + torch.tensor([noise.along[1], noise.across[1]], dtype=torch.float64)
    return float(_sum_kl(a[0], b[0], a[1], b[1], gap, d))


def auc_bound(eps: float) -> float:
    """Return the upper bound on any score's AUC if KL(0, 1) + KL(1, 0) is `eps`; 1 from 4 on."""
    return 0.5 + eps**0.5 / 2 - eps / 8 if eps < 4 else 1.0


def marvell(u: float, v: float, gap: float, d: int, share: float, budget: float) -> Variances:
    """Return the variances that minimize `sum_kl` under a budget for the noise's power.

    Across, noise is of use to the class that varies less, and no more of it than makes both equal.
    Along, all of the rest is used. That leaves two numbers to find: how much of the budget goes
    along, and how much of that to class 1. A grid that closes in on its best point finds them.

    Args:
        u: Variance of class 0 in every direction, before noise, 0 or more.
        v: Variance of class 1.
        gap: Squared distance of the means, above 0.
        d: Number of directions, at least 2.
        share: Share of class 1, between 0 and 1.
        budget: The noise's mean squared length, 0 or more.
    """
    if budget == 0:
        return Variances((0.0, 0.0), (0.0, 0.0))
    shares = (1 - share, share)
    smaller = int(v < u)
    most = min(abs(u - v), budget / (shares[smaller] * (d - 1)))  # across, per direction
    low, high = [0.0, 0.0], [1.0, 1.0]
    for _ in range(ROUNDS):
        x, y = (
            torch.linspace(a, b, GRID, dtype=torch.float64) for a, b in zip(low, high, strict=True)
        )
        x, y = x[:, None], y[None]
        across = x * most
        left = (budget - shares[smaller] * (d - 1) * across).clamp_min(0)
        along = [(1 - y) * left / shares[0], y * left / shares[1]]
        apart = [across * 0, across * 0]
        apart[smaller] = across
        score = _sum_kl(u + along[0], v + along[1], u + apart[0], v + apart[1], gap, d)
        best = int(score.nan_to_num(nan=torch.inf).argmin())
        center = [float(x.flatten()[best // GRID]), float(y.flatten()[best % GRID])]
        half = [ZOOM * (b - a) / 2 for a, b in zip(low, high, strict=True)]
        low = [max(0.0, c - h) for c, h in zip(center, half, strict=True)]
        high = [min(1.0, c + h) for c, h in zip(center, half, strict=True)]
    to_across, to_one = center
    # Rounding may go below 0.
    rest = max(budget - shares[smaller] * (d - 1) * to_across * most, 0.0)
    across_both = (0.0, to_across * most) if smaller else (to_across * most, 0.0)
    return Variances(((1 - to_one) * rest / shares[0], to_one * rest / shares[1]), across_both)


def _sum_kl(a: Tensor, b: Tensor, across_a: Tensor, across_b: Tensor, gap: float, d: int) -> Tensor:
    """Return the sum for variances along (a, b) and across, by class; infinite where one is 0."""
    along = _ratios(a, b) + gap * (1 / a + 1 / b)
    return (along + (d - 1) * _ratios(across_a, across_b)) / 2


def _ratios(a: Tensor, b: Tensor) -> Tensor:
    """Return a/b + b/a - 2; 0 where the two are equal, even if both are 0."""
    return torch.where(a == b, 0.0, (a - b).square() / (a * b))

"""Noise on a clipped z, and the local differential privacy of what is sent.

One release, with the Gaussian mechanism: Balle, Wang: "Improving the Gaussian Mechanism for
Differential Privacy", ICML 2018, theorem 8. With the Laplace mechanism: Dwork, McSherry, Nissim,
Smith: "Calibrating Noise to Sensitivity in Private Data Analysis", TCC 2006.

Two images count as neighbors, whatever they show: the guarantee is local, against a server that
sees everything that is sent.
"""

from __future__ import annotations

from math import exp, sqrt
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from splitlab.arguments import chance, count, number
from splitlab.core.client import Defense, Turn
from splitlab.data import ImageData

if TYPE_CHECKING:
    from splitlab.core.client import Client


class ClippedNoise(Defense):
    """Clip each row of z to a norm, and add fresh noise to every number of it.

    Without the clip there is no epsilon: the client can learn a z that is longer than the noise.

    Args:
        scale: Of the noise, above 0; what it is of which distribution, a subclass says.
        norm: The greatest norm of one image's z, above 0.

    Raises:
        ValueError: If either is not a positive number.
    """

    ORDER: ClassVar[int]  # of the norm

    def __init__(self, scale: float, *, norm: float) -> None:
        self.scale, self.norm = number("scale", scale, above=True), number("norm", norm, above=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.scale:g}, norm={self.norm:g})"

    def smash(self, client: Client, turn: Turn, z: Tensor) -> Tensor:
        """Return z, (B, ...), clipped and with noise."""
        return self.noisy(z)

    def noisy(self, z: Tensor) -> Tensor:
        """Return any z, (B, ...), clipped and with noise, with a graph to z.

        It draws from torch's global random stream. Nothing here is secret.
        """
        return self.clipped(z) + self.noise(z)

    def clipped(self, z: Tensor) -> Tensor:
        """Return z, (B, ...), with each row scaled down to the norm `norm` if it exceeds it."""
        rows = z.flatten(1).norm(self.ORDER, dim=1)
        factor = (self.norm / rows.clamp_min(self.norm)).view(-1, *[1] * (z.dim() - 1))
        shortened: Tensor = z * factor
        return shortened

    def noise(self, z: Tensor) -> Tensor:
        """Return noise in z's shape."""
        raise NotImplementedError

    def epsilon(self, releases: int = 1, *, delta: float = 1e-5) -> float:
        """Return the local epsilon of `releases` messages about one image.

        It holds for a network f that is given. While f learns from the same image, what other
        images' z say about that image through f is not counted, and the number is nominal.

        Args:
            releases: How often the image is sent, at least 1: once an epoch in training.
            delta: The chance that is left out, between 0 and 1.

        Returns:
            Epsilon, at least 0, by which any two images can be told apart.

        Raises:
            ValueError: If an argument is out of its range.
        """
        return self._epsilon(
            count("releases", releases, least=1), chance("delta", delta, such_as="1e-5")
        )

    def _epsilon(self, releases: int, delta: float) -> float:
        raise NotImplementedError


class GaussianNoise(ClippedNoise):
    """Clip each row of z to the L2 norm `norm`, and add Gaussian noise of deviation `scale`.

    Args:
        scale: Standard deviation of the noise, above 0.
        norm: The greatest L2 norm of one image's z, above 0.

    Raises:
        ValueError: If either is not a positive number.
    """

    ORDER = 2

    def noise(self, z: Tensor) -> Tensor:
        """Return independent normal numbers in z's shape."""
        return self.scale * torch.randn_like(z)

    def _epsilon(self, releases: int, delta: float) -> float:
        # Several releases of one value are one release with less noise: no composition is lost.
        return gaussian_epsilon(2 * self.norm * sqrt(releases) / self.scale, delta)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that clips z and adds noise."""
        return cls(0.5, norm=4.0)


class LaplaceNoise(ClippedNoise):
    """Clip each row of z to the L1 norm `norm`, and add Laplace noise of scale `scale`.

    Its standard deviation is `scale` times the root of 2. The guarantee needs no delta.

    Args:
        scale: Mean absolute value of the noise, above 0.
        norm: The greatest L1 norm of one image's z, above 0.

    Raises:
        ValueError: If either is not a positive number.
    """

    ORDER = 1

    def noise(self, z: Tensor) -> Tensor:
        """Return independent Laplace numbers in z's shape."""
        zero = torch.zeros_like(z)
        return torch.distributions.Laplace(zero, self.scale, validate_args=False).sample()

    def _epsilon(self, releases: int, delta: float) -> float:
        return 2 * self.norm / self.scale * releases

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that clips z and adds noise."""
        return cls(0.3, norm=60.0)


def gaussian_epsilon(ratio: float, delta: float) -> float:
    """Return the smallest epsilon of the Gaussian mechanism (Balle, Wang, 2018, theorem 8).

    Args:
        ratio: Largest distance of two values that are released, in standard deviations of the
            noise; at least 0.
        delta: Between 0 and 1.

    Raises:
        ValueError: If an argument is out of its range.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    ratio, delta = number("ratio", ratio), chance("delta", delta, such_as="1e-5")

    def excess(epsilon: float) -> float:
        """Return the mechanism's own delta at an epsilon, minus the given delta."""
        middle, aside = ratio / 2, epsilon / ratio
        shifted = epsilon + norm.logcdf(-middle - aside)  # its factor alone would overflow
        return float(norm.cdf(middle - aside)) - exp(float(shifted)) - delta

    if ratio == 0 or excess(0.0) <= 0:
        return 0.0
    highest = ratio**2 / 2 + ratio * float(norm.isf(delta))  # enough for its first term alone
    return float(brentq(excess, 0.0, highest, xtol=1e-9 * max(1.0, highest)))

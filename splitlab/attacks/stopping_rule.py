"""When to stop: the moment at which a hijack's own pictures look most like its public images.

The server cannot see its error. What it can see is whether the cloud of its pictures has the mean
and the spread of the public one. The rule is this library's; its distance is that of D. C. Dowson
and B. V. Landau (1982) between two normal distributions, which generative networks are judged by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from splitlab.core.messages import Message, SmashedData
from splitlab.core.observers import Observer
from splitlab.data import ImageData

COMPONENTS = 20


class StoppingRule(Observer):
    """Keeps the pictures of the window of steps in which they came nearest to the public images.

    It looks at the server's side of the wire alone: at the z that arrive, through the decoder of
    that moment. A window of an epoch's length holds each private image once.

    Args:
        public: The attacker's images.
        window: Steps in a window.

    Attributes:
        steps: The last step of each window, counted from 1.
        distances: `cloud_distance` of each window's pictures from the public images.
        pictures: Those of the best window so far, (window * B, C, H, W).

    Raises:
        ValueError: If the window is below 1.
    """

    STATE = (
        "steps",
        "distances",
        "pictures",
        "_under_way",
    )

    def __init__(self, public: ImageData, *, window: int = 20) -> None:
        if window < 1:
            raise ValueError(f"window is {window}: it holds at least one step")
        self.public, self.window = public, window
        self.steps: list[int] = []
        self.distances: list[float] = []
        self.pictures = torch.empty(0)
        self._under_way: list[Tensor] = []

    @property
    def best(self) -> int:
        """The number of the best window, from 0.

        Raises:
            ValueError: If no window is over yet.
        """
        if not self.distances:
            raise ValueError(f"no window of {self.window} steps is over yet: train on, or shorten")
        return self.distances.index(min(self.distances))

    def start(self, clients: Sequence[Any], server: Any, steps: int) -> None:
        """Remember the server."""
        self._server = server

    def message(self, message: Message) -> None:
        """Decode what arrives."""
        if isinstance(message, SmashedData):
            self._under_way.append(self._server.reconstruct(message))

    def step(self, step: int, client: Any, server: Any) -> None:
        """Measure a window that is over, and keep its pictures if it is the best."""
        if len(self._under_way) < self.window:
            return
        pictures, self._under_way = torch.cat(self._under_way), []
        self.steps.append(step + 1)
        self.distances.append(cloud_distance(pictures, self.public.x))
        if self.best == len(self.distances) - 1:
            self.pictures = pictures


def cloud_distance(pictures: Tensor, public: Tensor, components: int = COMPONENTS) -> float:
    """Return the squared distance of two clouds by their means and covariances.

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C2^1/2 C1 C2^1/2)^1/2), in the plane of the public images'
    first principal components. 0 for clouds that agree in mean and covariance.

    Args:
        pictures: Images, (N, C, H, W), two or more.
        public: Images, (M, C, H, W).
        components: How many.

    Returns:
        A number from 0, in squared pixel values.
    """
    a, b = (images.flatten(1).double() for images in (pictures, public))
    centre = b.mean(0)
    axes = torch.linalg.svd(b - centre, full_matrices=False).Vh[:components]
    a, b = (a - centre) @ axes.T, (b - centre) @ axes.T
    c1, c2 = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(c2)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ c1 @ root).clamp(min=0).sqrt().sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, float(means + c1.trace() + c2.trace() - 2 * cross))

"""Triggers: what a backdoor adds to an image, so that the network takes it for the target class.

Both are published. The patch is that of Gu, Dolan-Gavitt, Garg: "BadNets", arXiv 1708.06733, 2017.
The blended pattern is that of Chen, Liu, Li, Lu, Song: "Targeted Backdoor Attacks on Deep Learning
Systems Using Data Poisoning", arXiv 1712.05526, 2017.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Trigger(ABC):
    """Base of triggers: a function of images that changes them all in the same way.

    To write one of your own, override `__call__`, and return a new tensor.
    """

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return the images (N, C, H, W) with the trigger; `x` itself stays as it is."""


class Patch(Trigger):
    """A bright square in the lower right corner.

    Args:
        size: Its side in pixels, at least 1.
        value: The value of its pixels; 1 is the brightest of images from -1 to 1.

    Raises:
        ValueError: If the size is below 1; when called, if it exceeds the image.
    """

    def __init__(self, size: int = 3, *, value: float = 1.0) -> None:
        if size < 1:
            raise ValueError(f"size is {size}: a patch has a side of at least one pixel")
        self.size, self.value = size, value

    def __repr__(self) -> str:
        return f"Patch({self.size}, value={self.value:g})"

    def __call__(self, x: Tensor) -> Tensor:
        """Return the images (N, C, H, W) with the square."""
        if self.size > min(x.shape[-2:]):
            raise ValueError(
                f"size is {self.size} and the images are {tuple(x.shape[-2:])} pixels: choose a "
                "smaller patch"
            )
        x = x.clone()
        x[..., -self.size :, -self.size :] = self.value
        return x


class Blend(Trigger):
    """A random pattern over the whole image, mixed in faintly.

    Each pixel becomes (1 - strength) times itself plus strength times the pattern's, which is -1 or
    1 with equal probability.

    Args:
        strength: The pattern's share, above 0 and at most 1.
        seed: Seeds the pattern.

    Raises:
        ValueError: If the strength is out of range.
    """

    def __init__(self, strength: float = 0.2, *, seed: int = 0) -> None:
        if not 0 < strength <= 1:
            raise ValueError(f"strength is {strength}: choose a share above 0 and at most 1")
        self.strength, self.seed = strength, seed

    def __repr__(self) -> str:
        return f"Blend({self.strength:g}, seed={self.seed})"

    def __call__(self, x: Tensor) -> Tensor:
        """Return the images (N, C, H, W) with the pattern."""
        generator = torch.Generator().manual_seed(self.seed)
        pattern = torch.randint(2, x.shape[1:], generator=generator).to(x) * 2 - 1
        return (1 - self.strength) * x + self.strength * pattern

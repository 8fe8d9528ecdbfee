"""Triggers: what a backdoor adds to an image, so that the network predicts the target class.

Both are published. The patch is that of Gu, Dolan-Gavitt, Garg: "BadNets", arXiv 1708.06733, 2017.
The blended pattern is that of Chen, Liu, Li, Lu, Song: "Targeted Backdoor Attacks on Deep Learning
Systems Using Data Poisoning", arXiv 1712.05526, 2017.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from splitlab.arguments import call, count, described, ends, finite, function, generator, share
from splitlab.arguments import images as check_images
from splitlab.arguments import seed as whole
from splitlab.data import ImageData

RANGE = (-1.0, 1.0)


class Trigger(ABC):
    """Base class of triggers: functions that change all images in the same way.

    To write one of your own, override `__call__`, and return a new tensor of the same shape, with
    values inside the range.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abstractmethod
    def __call__(self, x: Tensor, value_range: tuple[float, float] = RANGE) -> Tensor:
        """Return the images with the trigger; `x` itself stays as it is.

        Args:
            x: Images, (N, C, H, W).
            value_range: The smallest and largest value that a pixel can take. An attack passes
                that of its data.
        """


class Patch(Trigger):
    """A bright square in the lower right corner.

    Args:
        size: Its side in pixels, at least 1.
        value: The value of its pixels; by default the largest of the images' range.

    Raises:
        ValueError: If the size is no whole number of pixels; when called, if the square exceeds
            the image, or its value the range.
    """

    def __init__(self, size: int = 3, *, value: float | None = None) -> None:
        self.size = count("size", size, least=1)
        self.value = None if value is None else finite("value", value)

    def __repr__(self) -> str:
        value = "" if self.value is None else f", value={self.value:g}"
        return f"Patch({self.size}{value})"

    def __call__(self, x: Tensor, value_range: tuple[float, float] = RANGE) -> Tensor:
        """Return the images (N, C, H, W) with the square; arguments as in `Trigger`."""
        check_images("x", x)
        low, high = ends(value_range)
        value = high if self.value is None else self.value
        if not low <= value <= high:
            raise ValueError(
                f"value is {value:g} and pixels run from {low:g} to {high:g}: choose a value in "
                "this range, or leave it out"
            )
        if self.size > min(x.shape[-2:]):
            raise ValueError(
                f"size is {self.size} and the images are {tuple(x.shape[-2:])} pixels: choose a "
                "smaller patch"
            )
        x = x.clone()
        x[..., -self.size :, -self.size :] = value
        return x


class Blend(Trigger):
    """A faint random pattern over the whole image.

    Each pixel becomes (1 - strength) times itself plus strength times the pattern's, which is the
    smallest or the largest value of the range with equal probability.

    Args:
        strength: The pattern's share, above 0 and at most 1.
        seed: Seeds the pattern.

    Raises:
        ValueError: If the strength is out of range, or the seed no whole number.
    """

    def __init__(self, strength: float = 0.2, *, seed: int = 0) -> None:
        self.strength, self.seed = share("strength", strength), whole(seed)

    def __repr__(self) -> str:
        return f"Blend({self.strength:g}, seed={self.seed})"

    def __call__(self, x: Tensor, value_range: tuple[float, float] = RANGE) -> Tensor:
        """Return the images (N, C, H, W) with the pattern; arguments as in `Trigger`."""
        check_images("x", x)
        low, high = ends(value_range)
        drawn = generator(self.seed)
        pattern = torch.randint(2, x.shape[1:], generator=drawn).to(x) * (high - low) + low
        return ((1 - self.strength) * x + self.strength * pattern).clamp(low, high)


def triggered_set(trigger: Trigger, target: int, data: ImageData) -> tuple[Tensor, Tensor, Tensor]:
    """Return the images of a test set that a backdoor targets, with its trigger.

    Returns:
        Rows of all images that are not of the target, int64 (n,); these images with the trigger,
        (n, C, H, W); and the target, int64 (n,).
    """
    rows = (data.y != target).nonzero()[:, 0]
    images = triggered(trigger, data.x[rows], data.value_range)
    return rows, images, data.y.new_full((len(rows),), target)


def triggered(trigger: Trigger, x: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Return images (N, C, H, W) with a trigger, as a new tensor.

    Raises:
        TypeError: If the trigger returns no tensor.
        ValueError: If the trigger makes images of another shape, or values outside of the range.
    """
    images = trigger(x.clone(), value_range)  # a copy, for a trigger that writes into what it gets
    if not isinstance(images, Tensor):
        raise TypeError(f"{trigger!r} returns {described(images)}: let it return the images")
    if images.shape != x.shape:
        raise ValueError(
            f"{trigger!r} turns images of shape {tuple(x.shape)} into {tuple(images.shape)}: "
            "let it return the same shape"
        )
    low, high = value_range
    slack = 1e-5 * (high - low)  # rounding
    outside = (images < low - slack) | (images > high + slack) | images.isnan()
    if outside.any():
        raise ValueError(
            f"{trigger!r} makes pixels outside of {low:g} to {high:g}, the images' range: clamp "
            "them"
        )
    return images.to(x)


def checked(trigger: Trigger | None, data: ImageData) -> Trigger:
    """Return a trigger, a `Patch` by default, after trying it on two images; changes nothing.

    Raises:
        TypeError: If it is none.
        ValueError: As in `triggered`, or if it fails.
    """
    trigger = Patch() if trigger is None else trigger
    do = "pass a trigger, such as sl.Patch() or sl.Blend()"
    function("trigger", trigger, do)
    with torch.random.fork_rng(devices=[]):
        call(f"{trigger!r} on an image", lambda: trigger(data.x[:2].clone(), data.value_range), do)
        triggered(trigger, data.x[:2], data.value_range)
    return trigger

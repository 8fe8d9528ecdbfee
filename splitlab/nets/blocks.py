"""Building blocks that the paper's and the tiny networks share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, unfold

from splitlab.arguments import (
    NETWORK,
    count,
    described,
    finite,
    flag,
    generator,
    instance,
    number,
    one_of,
    torch_seed,
    whole,
)
from splitlab.nets.shapes import shape_of_images

# Arguments of the factories that are numbers of something.
COUNTS = ("channels", "classes", "layers", "size", "units", "width")

P = ParamSpec("P")


class ResBlock(nn.Module):
    """Pre-activation residual block without BatchNorm, as in the paper's public architectures.

    (B, channels_in, H, W) -> (B, channels_out, H/stride, W/stride): skip plus
    ReLU-conv-ReLU-conv; the skip is a convolution where the shape changes, else the identity.

    Args:
        channels_in: Input channels.
        channels_out: Output channels.
        stride: 1 or 2.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        channels_in = count("channels_in", channels_in, least=1)
        channels_out = count("channels_out", channels_out, least=1)
        one_of("stride", stride, (1, 2))
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels_in, channels_out, 3, stride, 1),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1),
        )
        same = stride == 1 and channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return skip(x) + branch(x)."""
        return self.skip(x) + self.branch(x)


class SpaceToDepth(nn.Module):
    """A fixed pilot: each patch of the image becomes the channels of one position.

    (B, C, H, W) -> (B, channels, H/patch, W/patch). The image is first centred and scaled with the
    public data's mean and standard deviation; channels beyond patch * patch * C stay zero.

    Args:
        patch: Side of a patch; H and W must be multiples of it.
        channels: Channels of z, at least patch * patch (times 3 for color).
        mean: Mean of the public pixels.
        std: Standard deviation of the public pixels.
        grey: Whether the image channels repeat one gray channel; only that one is coded then.

    Raises:
        ValueError: If a number is out of range, such as a standard deviation of 0.
    """

    def __init__(
        self, patch: int, channels: int, *, mean: float, std: float, grey: bool = True
    ) -> None:
        super().__init__()
        self.patch, self.grey = count("patch", patch, least=1), grey
        self.channels = count("channels", channels, least=1)
        self.mean, self.std = finite("mean", mean), number("std", std, above=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the code of images x."""
        if self.grey:
            x = x[:, :1]
        code = pixel_unshuffle((x - self.mean) / self.std, self.patch)
        if code.shape[1] > self.channels:
            raise ValueError(
                f"patches of {self.patch}x{self.patch} need {code.shape[1]} channels and z has "
                f"{self.channels}: cut elsewhere or choose a smaller patch"
            )
        empty = code.new_zeros(len(x), self.channels - code.shape[1], *code.shape[2:])
        return torch.cat([code, empty], dim=1)


class DepthToSpace(nn.Module):
    """The exact inverse of `SpaceToDepth`, as a decoder: (B, channels, h, w) -> (B, C, H, W).

    Args:
        patch: As in `SpaceToDepth`.
        image_channels: Channels C of the images.
        mean: As in `SpaceToDepth`.
        std: As in `SpaceToDepth`.
        grey: As in `SpaceToDepth`; the one decoded channel is repeated C times.

    Raises:
        ValueError: As in `SpaceToDepth`.
    """

    def __init__(
        self, patch: int, image_channels: int, *, mean: float, std: float, grey: bool = True
    ) -> None:
        super().__init__()
        self.patch, self.grey = count("patch", patch, least=1), grey
        self.image_channels = count("image_channels", image_channels, least=1)
        self.mean, self.std = finite("mean", mean), number("std", std, above=True)

    def forward(self, z: Tensor) -> Tensor:
        """Return the images whose code is z."""
        coded = 1 if self.grey else self.image_channels
        image = pixel_shuffle(z[:, : coded * self.patch**2], self.patch) * self.std + self.mean
        return image.expand(-1, self.image_channels, -1, -1) if self.grey else image


class LastChannels(nn.Module):
    """Sets all channels of z but the last ones to zero; the gradient of the others is zero, too.

    Args:
        kept: How many of the last channels pass, at least 1. Where z has no more, all pass.

    Raises:
        ValueError: If that is no whole number of at least 1.
    """

    def __init__(self, kept: int) -> None:
        super().__init__()
        self.kept = count("kept", kept, least=1)

    def forward(self, z: Tensor) -> Tensor:
        """Return z, (B, C, H, W), with zeros in its first C - kept channels."""
        last = torch.arange(z.shape[1], device=z.device) >= z.shape[1] - self.kept
        return z * last.to(z)[:, None, None]


class FirstChannel(nn.Module):
    """(B, C, H, W) -> (B, 1, H, W): a gray image needs only one of its equal channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the first channel."""
        return x[:, :1]


class Shuffle(nn.Module):
    """Puts the pixels of each image into another order, the same for all images.

    (B, C, H, W) -> (B, C, H, W). Nothing is lost and nothing is learned; the order is kept in the
    state.

    Args:
        size: Height and width of the images.
        seed: Draws the order.
    """

    order: Tensor

    def __init__(self, size: int, *, seed: int = 0) -> None:
        super().__init__()
        pixels = count("size", size, least=1) ** 2
        self.register_buffer("order", torch.randperm(pixels, generator=generator(seed)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the images with pixel `order[i]` at place i, counted row by row.

        Raises:
            ValueError: If the images have another number of pixels.
        """
        if x[0, 0].numel() != len(self.order):
            raise ValueError(
                f"this order has {len(self.order)} pixels and the images have "
                f"{x[0, 0].numel()}: make the network for images of this size"
            )
        return x.flatten(2)[:, :, self.order].reshape(x.shape)


class Patches(nn.Module):
    """(B, 1, H, W) -> (B, places * size * size, 1): the pixels, patch by patch.

    Args:
        size: Side of a patch; H and W must be multiples of it.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return the pixels of gray images x in the new order; places count row by row."""
        return unfold(x, self.size, stride=self.size).transpose(1, 2).flatten(1)[..., None]


class Unpatch(nn.Module):
    """(B, places * channels, 1) -> (B, channels, side, side): the places in a square.

    Args:
        side: Places across, and as many down.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, z: Tensor) -> Tensor:
        """Return z with its places in rows and columns."""
        return z.view(len(z), self.side, self.side, -1).permute(0, 3, 1, 2)


class FreeImages(nn.Module):
    """A generator that ignores its noise: a fixed number of images, whose pixels are its weights.

    Trained as a generator, it is model inversion: each image is changed until the networks after it
    take it for the wanted class. Noise (B, D) -> images (B, C, H, W), the first ones again where B
    is larger than their number.

    Args:
        n: How many images.
        shape: The shape (C, H, W) of an image.
        seed: Draws the images at the start, which are gray but for a little noise.

    Raises:
        ValueError: If there is no image, or the shape is none.
    """

    def __init__(self, n: int, shape: tuple[int, int, int], *, seed: int = 0) -> None:
        super().__init__()
        n, shape = count("n", n, least=1), shape_of_images(shape, "shape")
        drawn = torch.randn(n, *shape, generator=generator(seed))
        self.pixels = nn.Parameter(0.1 * drawn)

    def forward(self, noise: Tensor) -> Tensor:
        """Return as many images as there are rows of noise, with values from -1 to 1."""
        rows = torch.arange(len(noise), device=noise.device) % len(self.pixels)
        return self.pixels[rows].tanh()


def seeded(make: Callable[P, nn.Module]) -> Callable[P, nn.Module]:
    """Decorate a network's factory so that its `seed` fixes the initial weights.

    The global random stream is left as it was. Numbers of channels, classes and the like, and what
    is True or False, are checked here: a ValueError says which is none.
    """
    defaults = {name: one.default for name, one in inspect.signature(make).parameters.items()}

    @functools.wraps(make)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> nn.Module:
        seed = torch_seed(kwargs.get("seed", 0))
        for name, value in kwargs.items():
            if name in COUNTS and not (value is None and defaults.get(name) is None):
                kwargs[name] = count(name, value, least=1)
            elif isinstance(defaults.get(name), bool):
                kwargs[name] = flag(name, value)
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: that would reseed every GPU, too.
            torch.default_generator.manual_seed(seed)
            return make(*args, **kwargs)

    return wrapped


@seeded
def upsampling_decoder(
    z_shape: tuple[int, ...],
    image_shape: tuple[int, int, int],
    *,
    parameters: int | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return a decoder for any z: (B, *z_shape) -> (B, *image_shape), linear output.

    Doubles height and width until the image's are reached; a z without positions first becomes
    32 channels at a quarter of the image's size.

    Args:
        z_shape: Shape of the z of one image.
        image_shape: Shape (C, H, W) of an image.
        parameters: About how many parameters the decoder has. A convolution first brings z to a
            number of channels that all later layers have, too, and that number is chosen to come
            as close as possible. By default the channels are those of z, halved at each doubling
            down to 32, so the decoder is larger where z has more channels or fewer positions.
        seed: Seeds the initial weights.

    Raises:
        ValueError: If doubling does not lead from z's height and width to the image's, or no number
            of channels from 1 to 1024 comes within a tenth of `parameters`.
    """
    channels, height, width = shape_of_images(image_shape)
    if parameters is not None:
        parameters = count("parameters", parameters, least=1)
    sizes = isinstance(z_shape, tuple | list) and all(whole(side) for side in z_shape)
    if not sizes or len(z_shape) not in (1, 3):
        raise ValueError(
            f"there is no upsampling decoder for z of shape {described(z_shape)}: pass a decoder "
            "of your own, or z of shape (F,) or (C, H, W)"
        )
    layers: list[nn.Module] = []
    if len(z_shape) == 1:
        layers += [
            nn.Linear(z_shape[0], 32 * (height // 4) * (width // 4)),
            nn.Unflatten(1, (32, height // 4, width // 4)),
        ]
        z_shape = (32, height // 4, width // 4)
    wide, z_height, z_width = z_shape
    doublings = (height // z_height).bit_length() - 1
    if (z_height << doublings, z_width << doublings) != (height, width):
        raise ValueError(
            f"doubling z of {z_height}x{z_width} does not give images of {height}x{width}: "
            "pass a decoder of your own"
        )
    if parameters is not None:
        before = sum(map(parameter_count, layers))
        hidden = _channels_for(parameters, before, wide, channels, doublings)
        layers += [nn.Conv2d(wide, hidden, 3, 1, 1), nn.LeakyReLU(0.2)]
        wide = hidden
    for _ in range(doublings):
        narrow = max(wide // 2, 32) if parameters is None else wide
        layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1), nn.LeakyReLU(0.2)]
        wide = narrow
    return nn.Sequential(*layers, nn.Conv2d(wide, channels, 3, 1, 1))


def _channels_for(parameters: int, before: int, wide: int, channels: int, doublings: int) -> int:
    """Return the number of channels that brings `upsampling_decoder` closest to `parameters`."""

    def count(hidden: int) -> int:
        doubling = 16 * hidden**2 + hidden
        rest = doublings * doubling + (9 * hidden + 1) * channels
        return before + (9 * wide + 1) * hidden + rest

    closest = min(range(1, 1025), key=lambda hidden: abs(count(hidden) - parameters))
    if abs(count(closest) - parameters) > 0.1 * abs(parameters):
        raise ValueError(
            f"parameters is {parameters}, and the closest decoder of this z has {count(closest)}: "
            "ask for about as many, or pass a decoder of your own"
        )
    return closest


def strided(channels_in: int, channels_out: int) -> nn.Module:
    """Return a layer of the client-side attack's networks that halves height and width."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 5, 2, 2), nn.LeakyReLU(0.3), nn.Dropout(0.3)
    )


def check_cut(cut: Any) -> None:
    """Raise a ValueError unless `cut` is 1, 2, 3 or 4."""
    whole = isinstance(cut, int | np.integer) and not isinstance(cut, bool)
    if not whole or cut not in (1, 2, 3, 4):
        raise ValueError(f"there is no cut {described(cut)}: choose 1 (shallow), 2, 3 or 4 (deep)")


def quarter(size: int) -> int:
    """Return a quarter of the images' side; a ValueError if it is not a whole number."""
    if size % 4:
        raise ValueError(f"size is {size}: choose a multiple of 4")
    return size // 4


def parameter_count(net: nn.Module) -> int:
    """Return the number of trainable parameters; a TypeError if it is not a network."""
    instance("net", net, nn.Module, NETWORK)
    return sum(p.numel() for p in net.parameters() if p.requires_grad)

"""Tiny networks for 16x16 images with one channel: a hijack in seconds on one CPU core.

The same kinds of layer as the paper's, with a tenth of the channels. z at cuts 1 to 4:
(8, 8, 8), (32, 4, 4), (32, 4, 4), (64, 2, 2).
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from splitlab.arguments import one_of
from splitlab.nets.blocks import (
    FirstChannel,
    Patches,
    ResBlock,
    Shuffle,
    Unpatch,
    check_cut,
    quarter,
    seeded,
    strided,
)

Z_SHAPE = {1: (8, 8, 8), 2: (32, 4, 4), 3: (32, 4, 4), 4: (64, 2, 2)}
NOISE = 32  # numbers from which the generator makes an image
PATCHES = 4  # patches of 4x4 pixels, and places of z at cut 2, across and down


@seeded
def client(
    *, cut: int = 2, channels: int = 1, width: int | None = None, seed: int = 0
) -> nn.Module:
    """Return the client's network f: (B, 1, 16, 16) -> z.

    Args:
        cut: 1 to 4.
        channels: Image channels.
        width: Channels of z, at least 1; those of `Z_SHAPE` by default. The layers before the last
            block keep theirs.
        seed: Seeds the initial weights.
    """
    check_cut(cut)
    widths = [8, 32, 32, 64][:cut]
    widths[-1] = _width(cut, width)
    first = widths[0]
    layers: list[nn.Module] = [
        nn.Sequential(
            nn.Conv2d(channels, first, 3, 1, 1), nn.BatchNorm2d(first), nn.ReLU(), nn.MaxPool2d(2)
        )
    ]
    for (width_in, width_out), stride in zip(pairwise(widths), (2, 1, 2), strict=False):
        layers.append(ResBlock(width_in, width_out, stride=stride))
    return nn.Sequential(*layers)


@seeded
def shuffled_client(*, seed: int = 0) -> nn.Module:
    """Return `client` at cut 2 behind a fixed shuffle of the pixels: (B, 1, 16, 16) -> (32, 4, 4).

    Args:
        seed: Seeds the initial weights, which are those of `client`, and the order of the pixels.
    """
    return nn.Sequential(Shuffle(16, seed=seed), client(seed=seed))


@seeded
def patch_client(*, shared: bool = True, units: int = 16, seed: int = 0) -> nn.Module:
    """Return a client that sees one patch of 4x4 pixels for each place of z, and no other.

    (B, 1, 16, 16) -> z of (32, 4, 4), as at cut 2, by two layers.

    Args:
        shared: Whether all places have the same weights, as in a convolution, or each its own.
        units: Units between the two layers, for each place.
        seed: Seeds the initial weights.
    """
    if shared:
        one, two = nn.Conv2d(1, units, 4, 4), nn.Conv2d(units, 32, 1)
        return nn.Sequential(one, nn.BatchNorm2d(units), nn.ReLU(), two)
    places = PATCHES**2
    return nn.Sequential(
        Patches(4),
        nn.Conv1d(16 * places, units * places, 1, groups=places),
        nn.BatchNorm1d(units * places),
        nn.ReLU(),
        nn.Conv1d(units * places, 32 * places, 1, groups=places),
        Unpatch(PATCHES),
    )


@seeded
def dense_client(*, as_patches: bool = False, seed: int = 0) -> nn.Module:
    """Return a client of two dense layers: (B, 1, 16, 16) -> z of (32, 4, 4), as at cut 2.

    Args:
        as_patches: Whether it starts as the same function as `patch_client` of this seed. Every
            weight from a patch to another place is there, and can be learned, but starts at 0.
        seed: Seeds the initial weights.
    """
    places = PATCHES**2
    first, second = nn.Linear(256, 16 * places), nn.Linear(16 * places, 32 * places)
    if as_patches:
        one, _, _, two = patch_client(seed=seed)
        _start_as_patches(first, one.weight.flatten(1), one.bias)
        _start_as_patches(second, two.weight.flatten(1), two.bias)
    return nn.Sequential(
        *(Patches(4), nn.Flatten(), first, nn.BatchNorm1d(16 * places), nn.ReLU(), second),
        *(nn.Unflatten(1, (32 * places, 1)), Unpatch(PATCHES)),
    )


def _start_as_patches(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Give each place the same weights and biases, and set those between two places to 0."""
    places = layer.in_features // weight.shape[1]
    with torch.no_grad():
        layer.weight.copy_(torch.block_diag(*[weight] * places))
        layer.bias.copy_(bias.repeat(places))


@seeded
def server(
    *, cut: int = 2, classes: int = 10, width: int | None = None, seed: int = 0
) -> nn.Module:
    """Return an honest server's network s: z -> logits (B, classes).

    Args:
        cut: 1 to 4.
        classes: How many.
        width: Channels of z, as in `client`.
        seed: Seeds the initial weights.
    """
    check_cut(cut)
    _, rows, columns = Z_SHAPE[cut]
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(_width(cut, width), 32, 3, 1, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * rows * columns, classes),
    )


@seeded
def shallow_client(*, channels: int = 1, seed: int = 0) -> nn.Module:
    """Return a client of one convolution: (B, channels, H, W) -> z of (8, H/2, W/2)."""
    return nn.Sequential(nn.Conv2d(channels, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2))


@seeded
def shallow_server(*, classes: int = 10, size: int = 16, seed: int = 0) -> nn.Module:
    """Return the server's network after `shallow_client`: z -> logits (B, classes).

    Args:
        classes: How many.
        size: Side of the images in pixels.
        seed: Seeds the initial weights.
    """
    return nn.Sequential(
        nn.Conv2d(8, 16, 3, 1, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (size // 4) ** 2, classes),
    )


@seeded
def shallow_tail(*, layers: int = 1, classes: int = 10, size: int = 16, seed: int = 0) -> nn.Module:
    """Return the part of `shallow_server` that a U-shaped protocol's client keeps: a -> logits.

    The server is left with all but its last layer, `shallow_server()[:-1]`.

    Args:
        layers: 1, or 2: then 64 units and a ReLU come before the last layer.
        classes: How many.
        size: Side of the images in pixels.
        seed: Seeds the initial weights.

    Raises:
        ValueError: If `layers` is neither 1 nor 2.
    """
    if layers not in (1, 2):
        raise ValueError(f"there is no tail of {layers!r} layers: choose 1 or 2")
    width = 16 * (size // 4) ** 2
    if layers == 1:
        return nn.Linear(width, classes)
    return nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, classes))


@seeded
def strided_client(*, channels: int = 1, seed: int = 0) -> nn.Module:
    """Return f of the client-side attack: (B, channels, H, W) -> z of (16, H/2, W/2).

    Args:
        channels: Image channels.
        seed: Seeds the initial weights.
    """
    return strided(channels, 16)


@seeded
def strided_server(*, seed: int = 0) -> nn.Module:
    """Return the server's layers after `strided_client`: z -> a of (32, H/4, W/4)."""
    return strided(16, 32)


@seeded
def strided_tail(*, classes: int = 11, size: int = 16, seed: int = 0) -> nn.Module:
    """Return the tail after `strided_server`: a -> logits (B, classes).

    Args:
        classes: How many: one more than the task has, if there is to be a poison class.
        size: Side of the images in pixels, a multiple of 4.
        seed: Seeds the initial weights.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(32 * quarter(size) ** 2, classes))


@seeded
def generator(*, channels: int = 1, size: int = 16, seed: int = 0) -> nn.Module:
    """Return a malicious client's generator: noise (B, 32) -> images (B, channels, size, size).

    Args:
        channels: Image channels.
        size: Side of the images in pixels, a multiple of 4.
        seed: Seeds the initial weights.
    """
    side = quarter(size)
    return nn.Sequential(
        nn.Linear(NOISE, 32 * side**2, bias=False),
        nn.BatchNorm1d(32 * side**2),
        nn.LeakyReLU(0.3),
        nn.Unflatten(1, (32, side, side)),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(16, channels, 4, 2, 1),
        nn.Tanh(),
    )


@seeded
def pilot(*, cut: int = 2, channels: int = 1, linear: bool = False, seed: int = 0) -> nn.Module:
    """Return the attacker's pilot f~: (B, 1, 16, 16) -> z.

    Args:
        cut: 1 to 4.
        channels: Image channels.
        linear: Whether to leave out the activations: a chain of convolutions, for inferring a
            property.
        seed: Seeds the initial weights.
    """
    check_cut(cut)
    widths = {1: [8], 2: [16, 32], 3: [16, 32], 4: [16, 32, 64]}[cut]
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, 2, 1), *([] if linear else [nn.SiLU()])]
        channels = width
    return nn.Sequential(*layers, nn.Conv2d(channels, channels, 3, 1, 1))


@seeded
def decoder(
    *,
    cut: int = 2,
    channels: int = 1,
    output: Literal["tanh", "linear"] = "linear",
    seed: int = 0,
) -> nn.Module:
    """Return the attacker's decoder: z -> (B, 1, 16, 16).

    Args:
        cut: 1 to 4.
        channels: Image channels.
        output: "linear" (clamped when scored) or the paper's "tanh", which can die on images that
            are mostly black.
        seed: Seeds the initial weights.
    """
    check_cut(cut)
    one_of("output", output, ("linear", "tanh"))
    widths = {1: [8], 2: [32, 24], 3: [32, 24], 4: [64, 32, 24]}[cut]
    layers: list[nn.Module] = []
    for width, following in zip(widths, [*widths[1:], channels], strict=True):
        layers += [nn.ConvTranspose2d(width, following, 4, 2, 1), nn.LeakyReLU(0.2)]
    layers[-1] = nn.Tanh() if output == "tanh" else nn.Identity()
    return nn.Sequential(*layers)


@seeded
def head(*, cut: int = 2, classes: int = 2, seed: int = 0) -> nn.Module:
    """Return the attacker's classifier, which infers a property of z: z -> logits (B, classes)."""
    check_cut(cut)
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(Z_SHAPE[cut]), classes))


@seeded
def critic(*, cut: int = 2, seed: int = 0) -> nn.Module:
    """Return the critic D on z: z -> scores (B, 1)."""
    check_cut(cut)
    channels, height, width = Z_SHAPE[cut]
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, 1, 1),
        ResBlock(32, 32),
        ResBlock(32, 32),
        nn.Conv2d(32, 32, 3, 2, 1),
        nn.Flatten(),
        nn.Linear(32 * (height // 2) * (width // 2), 1),
    )


@seeded
def image_critic(*, grey: bool = True, seed: int = 0) -> nn.Module:
    """Return the fast design's critic on decoded images: (B, 1, 16, 16) -> scores (B, 1)."""
    widths = [1 if grey else 3, 32, 64, 64]
    layers: list[nn.Module] = [FirstChannel()] if grey else []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Conv2d(width_in, width_out, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 2 * 2, 1))


def _width(cut: int, width: int | None) -> int:
    """Return the channels of z: the number requested, or else the cut's."""
    return Z_SHAPE[cut][0] if width is None else width

"""The paper's networks for 32x32 images with three channels, and four for 28x28 with one.

Source: the public code of "Unleashing the Tiger" (architectures), in torch's terms. Keras' 'same'
padding at stride 2 pads on the other side than torch does: the same network, turned by 180 degrees.

z at cuts 1 to 4: (64, 16, 16), (128, 8, 8), (128, 8, 8), (256, 4, 4).
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Literal

from torch import nn

from splitlab.arguments import number, one_of, within
from splitlab.nets.blocks import FirstChannel, ResBlock, check_cut, quarter, seeded, strided

NOISE = 100  # numbers from which the generator makes an image
Z_SHAPE = {1: (64, 16, 16), 2: (128, 8, 8), 3: (128, 8, 8), 4: (256, 4, 4)}


@seeded
def client(
    *, cut: int = 4, channels: int = 3, momentum: float = 0.01, eps: float = 1e-3, seed: int = 0
) -> nn.Module:
    """Return the client's network f: (B, 3, 32, 32) -> z.

    Args:
        cut: 1 to 4; trainable parameters 75,776, 371,072, 666,240, 1,846,656.
        channels: Image channels.
        momentum: BatchNorm's, in torch's sense; Keras' default .99 is .01 here.
        eps: BatchNorm's; Keras' default.
        seed: Seeds the initial weights.
    """
    check_cut(cut)
    momentum, eps = within("momentum", momentum, 0, 1), number("eps", eps, above=True)
    layers = [
        nn.Conv2d(channels, 64, 3, 1, 1),
        nn.BatchNorm2d(64, eps=eps, momentum=momentum),
        nn.ReLU(),
        nn.MaxPool2d(2),
        ResBlock(64, 64),
        ResBlock(64, 128, stride=2),
        ResBlock(128, 128),
        ResBlock(128, 256, stride=2),
    ]
    return nn.Sequential(*layers[: 4 + cut])


@seeded
def server(*, cut: int = 4, classes: int = 10, seed: int = 0) -> nn.Module:
    """Return an honest server's network s: z -> logits (B, classes).

    The paper's code has none; this one averages the last activations over the positions.
    """
    check_cut(cut)
    channels = Z_SHAPE[cut][0]
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, 256, 3, 1, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(256, classes),
    )


@seeded
def pilot(*, cut: int = 4, channels: int = 3, seed: int = 0) -> nn.Module:
    """Return the attacker's pilot f~: (B, 3, 32, 32) -> z; a chain of linear convolutions."""
    check_cut(cut)
    if cut == 1:
        widths = [64]
    elif cut <= 3:
        widths = [64, 128]
    else:
        widths = [64, 128, 256]
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(nn.Conv2d(channels, width, 3, 2, 1))
        channels = width
    return nn.Sequential(*layers, nn.Conv2d(channels, channels, 3, 1, 1))


@seeded
def decoder(
    *,
    cut: int = 4,
    channels: int = 3,
    output: Literal["tanh", "linear"] = "tanh",
    seed: int = 0,
) -> nn.Module:
    """Return the attacker's decoder, the pilot's inverse: z -> (B, 3, 32, 32).

    Args:
        cut: 1 to 4.
        channels: Image channels.
        output: The paper's "tanh", or "linear" (clamped when scored), which does not die on
            images that are mostly black.
        seed: Seeds the initial weights.
    """
    check_cut(cut)
    one_of("output", output, ("tanh", "linear"))
    width = Z_SHAPE[cut][0]
    if cut == 1:
        layers = [_up(width, 256), nn.Conv2d(256, channels, 3, 1, 1)]
    elif cut <= 3:
        layers = [_up(width, 256), _up(256, 128), nn.Conv2d(128, channels, 3, 1, 1)]
    else:
        layers = [_up(width, 256), _up(256, 128), _up(128, channels)]
    return nn.Sequential(*layers, *([nn.Tanh()] if output == "tanh" else []))


@seeded
def head(*, cut: int = 4, classes: int = 2, seed: int = 0) -> nn.Module:
    """Return the attacker's classifier, which infers a property of z: z -> logits (B, classes).

    The public code's has a BatchNorm before the linear layer where there are more than two classes,
    and one output with a sigmoid where there are two.
    """
    check_cut(cut)
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(Z_SHAPE[cut]), classes))


@seeded
def critic(*, cut: int = 4, seed: int = 0) -> nn.Module:
    """Return the critic D on z: z -> scores (B, 1); 8,262,145 parameters at cut 4.

    The public code also builds down-sampling layers for cuts 1 to 3, then overwrites them; this is
    the network that it runs.
    """
    check_cut(cut)
    channels, height, width = Z_SHAPE[cut]
    return nn.Sequential(
        nn.Conv2d(channels, 256, 3, 1, 1),
        *[ResBlock(256, 256) for _ in range(6)],
        nn.Conv2d(256, 256, 3, 2, 1),
        nn.Flatten(),
        nn.Linear(256 * (height // 2) * (width // 2), 1),
    )


@seeded
def image_critic(*, grey: bool = True, seed: int = 0) -> nn.Module:
    """Return the fast design's critic on decoded images: (B, 3, 32, 32) -> scores (B, 1).

    Not the paper's. 427,361 parameters when `grey` (it looks at one of the equal channels).
    """
    widths = [1 if grey else 3, 32, 64, 128, 128]
    layers: list[nn.Module] = [FirstChannel()] if grey else []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Conv2d(width_in, width_out, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 2 * 2, 1))


def _up(channels_in: int, channels_out: int) -> nn.Module:
    """Return a transposed convolution that doubles height and width."""
    return nn.ConvTranspose2d(channels_in, channels_out, 3, 2, 1, output_padding=1)


@seeded
def strided_client(*, channels: int = 1, seed: int = 0) -> nn.Module:
    """Return f of the client-side attack: (B, channels, H, W) -> z of (64, H/2, W/2).

    Args:
        channels: Image channels.
        seed: Seeds the initial weights.
    """
    return strided(channels, 64)


@seeded
def strided_server(*, seed: int = 0) -> nn.Module:
    """Return the server's layers after `strided_client`: z -> a of (128, H/4, W/4)."""
    return strided(64, 128)


@seeded
def strided_tail(*, classes: int = 11, size: int = 28, seed: int = 0) -> nn.Module:
    """Return the tail after `strided_server`: a -> logits (B, classes).

    Args:
        classes: How many: one more than the task has, if there is to be a poison class.
        size: Side of the images in pixels, a multiple of 4.
        seed: Seeds the initial weights.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(128 * quarter(size) ** 2, classes))


@seeded
def generator(*, channels: int = 1, size: int = 28, seed: int = 0) -> nn.Module:
    """Return a malicious client's generator: noise (B, 100) -> images (B, channels, size, size).

    That of the public code, which has Keras' defaults for BatchNorm and LeakyReLU.

    Args:
        channels: Image channels.
        size: Side of the images in pixels, a multiple of 4.
        seed: Seeds the initial weights.
    """
    side = quarter(size)
    return nn.Sequential(
        nn.Linear(NOISE, 256 * side**2, bias=False),
        nn.BatchNorm1d(256 * side**2, eps=1e-3, momentum=0.01),
        nn.LeakyReLU(0.3),
        nn.Unflatten(1, (256, side, side)),
        nn.ConvTranspose2d(256, 128, 5, 1, 2, bias=False),
        nn.BatchNorm2d(128, eps=1e-3, momentum=0.01),
        nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(128, 64, 5, 2, 2, 1, bias=False),
        nn.BatchNorm2d(64, eps=1e-3, momentum=0.01),
        nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(64, channels, 5, 2, 2, 1, bias=False),
        nn.Tanh(),
    )

"""Checks that the shapes of networks fit, on a few rows, when a party is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from splitlab.arguments import NETWORK, call, count, described, function, instance, reason
from splitlab.nets.evaluation import evaluating


def output_of(name: str, net: nn.Module, x: Tensor, *, what: str, do: str) -> Tensor:
    """Return a network's output for a few rows; changes nothing and draws no random numbers.

    The network is in evaluation mode, without gradients.

    Args:
        name: The network's name in a sentence, such as "pilot".
        net: The network.
        x: One row or a few, (n, ...), on the network's device.
        what: What the rows are, such as "public images".
        do: What to do where it does not take them.

    Raises:
        TypeError: If it is no network.
        ValueError: If it does not take rows of this shape, or returns no row for each.
    """
    instance(name, net, nn.Module, NETWORK)
    devices = [x.device] if x.is_cuda else []
    shape = tuple(x.shape[1:])
    try:
        with torch.random.fork_rng(devices=devices), evaluating(net):
            made = net(x.clone())  # a first layer may write into what it gets
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"{name} does not take {what} of shape {shape} ({reason(error)}): {do}"
        ) from error
    if not isinstance(made, Tensor) or made.ndim == 0 or len(made) != len(x):
        raise ValueError(
            f"{name} makes {described(made)} of {len(x)} {what} of shape {shape}, not one row "
            f"for each: {do}"
        )
    return made


def check_shape(name: str, made: Tensor, wanted: tuple[int, ...], *, what: str, do: str) -> None:
    """Refuse an output of a network if one row of it has another shape.

    Args:
        name: The network's name in a sentence.
        made: What it makes, (n, ...).
        wanted: The shape that a row must have.
        what: What has that shape, such as "the public images".
        do: What to do.

    Raises:
        ValueError: If the shapes differ.
    """
    if tuple(made.shape[1:]) != tuple(wanted):
        raise ValueError(
            f"{name} makes rows of shape {tuple(made.shape[1:])} and {what} {tuple(wanted)}: {do}"
        )


def check_factory(name: str, make: Any, x: Tensor, *, do: str) -> None:
    """Make one network and run it on an image; draws none of the caller's random numbers.

    Args:
        name: The argument's name.
        make: Makes a network; called with `seed=`.
        x: One image, (1, C, H, W).
        do: What to do where it does not.

    Raises:
        TypeError: If it is a network itself, cannot be called, or makes no network.
        ValueError: If it fails, or the network does not take the image.
    """
    if isinstance(make, nn.Module):
        raise TypeError(f"{name} is {described(make)}, a network: {do}")
    function(name, make, do)
    with torch.random.fork_rng(devices=[]):
        net = call(f"{name}(seed=0)", lambda: make(seed=0), do)
    output_of(f"the network of {name}", net, x, what="images", do=do)


def shape_of_images(value: Any, name: str = "image_shape") -> tuple[int, int, int]:
    """Return the shape (C, H, W) of an image; a ValueError if it is not a shape."""
    sides = tuple(value) if isinstance(value, tuple | list) else ()
    if len(sides) != 3:
        raise ValueError(
            f"{name} is {described(value)}: pass channels, height and width, such as (1, 16, 16)"
        )
    channels, height, width = (
        count(f"{name}[{place}]", side, least=1) for place, side in enumerate(sides)
    )
    return channels, height, width

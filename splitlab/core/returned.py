"""Checks of what networks, losses and defenses return, before it is used."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from splitlab.arguments import call, described
from splitlab.nets.shapes import output_of

# Network -> kind of input that it is known to take -> shape of one row of its output.
_TAKEN: weakref.WeakKeyDictionary[nn.Module, dict[Any, tuple[int, ...]]]
_TAKEN = weakref.WeakKeyDictionary()


def row_of(net: nn.Module, x: Tensor, *, name: str, given: str) -> tuple[int, ...]:
    """Return the shape of one row of net(x); the network is run once for each kind of x.

    Args:
        net: The network.
        x: What it is to take, (N, ...), N at least 1.
        name: The network's name, such as "the network of client".
        given: The name of x, such as "images".

    Raises:
        ValueError: If the network does not take it.
    """
    known = _TAKEN.setdefault(net, {})
    kind = (x.shape[1:], x.dtype, x.device)
    if kind not in known:
        do = "give it a network made for them"
        known[kind] = tuple(output_of(name, net, x[:1].detach(), what=given, do=do).shape[1:])
    return known[kind]


def loss_takes(
    loss: Any,
    net: nn.Module,
    row: tuple[int, ...],
    labels: Tensor,
    dtype: torch.dtype,
    *,
    name: str,
) -> None:
    """Refuse outputs that a loss cannot take; it is called once for each kind of output.

    Args:
        loss: Of what the network returns, and labels.
        net: The network.
        row: Shape of one row of what it returns.
        labels: int64 (B,).
        dtype: Of what it takes.
        name: The network's name, such as "the tail of client".

    Raises:
        ValueError: If it cannot.
    """
    known, kind = _TAKEN.setdefault(net, {}), ("loss", row, dtype)
    if kind not in known:
        outputs = labels.new_zeros(len(labels), *row, dtype=dtype)
        what, do = f"the loss of {name} on outputs {tuple(outputs.shape)}", "let it return (B, K)"
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            call(what, lambda: loss(outputs, labels), do)
        known[kind] = row


def images(client: Any, x: Tensor) -> None:
    """Refuse images that a client's network cannot process; errors as in `row_of`."""
    row_of(client.net, x, name=f"the network of {client.name}", given="images")


def loss_of(loss: Any, *, who: str, step: int) -> Tensor:
    """Return a loss after checking that an optimizer can minimize it.

    Args:
        loss: What a loss function returned.
        who: The party's name.
        step: The step.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it is no scalar, NaN or infinite, or does not depend on the network.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"the loss of {who} is {described(loss)}: return a scalar tensor")
    if loss.numel() != 1 or not loss.requires_grad:
        raise ValueError(
            f"the loss of {who} has shape {tuple(loss.shape)}"
            f"{'' if loss.requires_grad else ' and no graph'}: return one number, such as a mean, "
            "computed with torch from what the network returns"
        )
    if not loss.isfinite():
        raise ValueError(
            f"the loss of {who} is {float(loss.detach())} at step {step}, so no step is taken: "
            "lower the learning rates, or look at the loss and at the images"
        )
    return loss


def in_place_of(
    returned: Any, given: Tensor, defense: Any, hook: str, party: Any, step: int
) -> Tensor:
    """Return the tensor that a defense's hook returned, after checking that it fits.

    Args:
        returned: What it returned.
        given: What it was given: z or a gradient.
        defense: The defense.
        hook: The name of the hook.
        party: Whose defense it is.
        step: The step.

    Raises:
        TypeError: If it returned no tensor.
        ValueError: If it returned another shape or type, NaN or infinity, or z without its graph.
    """
    name = f"at step {step} of {party.name}, {type(defense).__name__}.{hook}"
    what = "z" if hook == "smash" else "the gradient"
    same: bool = returned is given
    if same:
        return given
    if not isinstance(returned, Tensor):
        raise TypeError(
            f"{name} returns {described(returned)} in place of {what}: return {what} itself, or a "
            f"tensor of its shape {tuple(given.shape)}"
        )
    if returned.shape != given.shape or returned.dtype != given.dtype:
        raise ValueError(
            f"{name} returns {returned.dtype} of shape {tuple(returned.shape)} in place of {what}, "
            f"which is {given.dtype} of {tuple(given.shape)}: return the same shape and type"
        )
    if given.requires_grad and not returned.requires_grad:
        raise ValueError(
            f"{name} returns {what} without its graph, so f would learn nothing: compute it "
            "from the tensor it is given, without detach(), .data, numpy or torch.no_grad()"
        )
    if not returned.isfinite().all():
        raise ValueError(
            f"{name} returns {what} with NaN or infinity in it: look for a division by zero, or a "
            "logarithm or a root of a number that is not positive"
        )
    return returned


def local_losses(client: Any, turn: Any) -> list[Tensor]:
    """Return the losses that a client's defenses add; errors as in `loss_of`."""
    losses = []
    for defense in client.defenses:
        loss = defense.local_loss(client, turn)
        if loss is not None:
            who = f"{type(defense).__name__} at {client.name}"
            losses.append(loss_of(loss, who=who, step=client.step))
    return losses

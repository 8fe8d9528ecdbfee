"""The messages of split learning: nothing else passes between the parties.

A message is a frozen record of tensors. It travels through a wire (`splitlab.core.protocols.Wire`),
which notes whom it is to and hands the receiver a copy: `detach()` alone would still expose the
sender's memory, and `clone()` alone the sender's computation graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Message:
    """Base class of all messages.

    Attributes:
        sender: Name of the party that sent it.
        step: Training step (from 0) that the message belongs to.
        to: Name of the party that receives it; "" until it is sent.
    """

    sender: str
    step: int
    to: str = ""

    def tensors(self) -> Iterator[Tensor]:
        """Yield every tensor of the payload, also those inside dictionaries, lists and tuples."""
        for field in dataclasses.fields(self):
            yield from tensors_in(getattr(self, field.name))

    @property
    def nbytes(self) -> int:
        """Bytes of tensor payload; headers are not counted."""
        return sum(t.numel() * t.element_size() for t in self.tensors())

    def delivered(self, to: str | None = None) -> Self:
        """Return the copy that the receiver gets, with its own storage and no `grad_fn`.

        Args:
            to: The receiver's name; None keeps what the message says.
        """
        payload = {
            field.name: _map_tensors(getattr(self, field.name), lambda t: t.detach().clone())
            for field in dataclasses.fields(self)
        }
        return type(self)(**payload | ({} if to is None else {"to": to}))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SmashedData(Message):
    """Client -> server: the activations at the cut.

    Attributes:
        z: Smashed data, float, (B, C, H, W) or (B, F).
        labels: Class numbers, int64 (B,); None when the labels stay at home.
        index: Row numbers, int64 (B,), when the server holds the labels; else None.
        asks: What the client waits for: "gradient", or "output" in the U-shaped protocol.
    """

    z: Tensor
    labels: Tensor | None = None
    index: Tensor | None = None
    asks: str = "gradient"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Gradient(Message):
    """Server -> client: the gradient of the server's loss with respect to `z`, in `z`'s shape."""

    dz: Tensor


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ServerOutput(Message):
    """Server -> client in the U-shaped protocol: the output `a` of the server's layers."""

    a: Tensor


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OutputGradient(Message):
    """Client -> server in the U-shaped protocol: the gradient `da` with respect to `a`."""

    da: Tensor


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Weights(Message):
    """Client -> next client, or client -> aggregator: what its network has learned.

    Attributes:
        state: The network's state, by name.
        optimizer: The optimizer's state, where agreed; else None.
        samples: Number of images that they come from, by which an average weights them.
    """

    state: dict[str, Tensor]
    optimizer: dict[str, Any] | None = None
    samples: int | None = None


KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (SmashedData, Gradient, ServerOutput, OutputGradient, Weights)
}


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in a value, also those inside dictionaries, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply `function` to every tensor; containers are rebuilt, so that they are not shared."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map_tensors(item, function) for item in value)
    if value is None or isinstance(value, str | int | float | bool | torch.dtype):
        return value
    raise TypeError(
        f"a message carries tensors, numbers and text, not {type(value).__name__}: "
        "send the tensors themselves"
    )

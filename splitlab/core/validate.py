"""Checks of what arrives: a message must answer what its receiver asked for, in its shape."""

from __future__ import annotations

import operator
from typing import Any

from torch import Tensor, nn

from splitlab.core.messages import Message, SmashedData
from splitlab.core.party import Party


def can_be_sent(message: Any, receiver: Any) -> None:
    """Refuse to send what is no message, or to what is no party.

    Raises:
        TypeError: If it is either.
    """
    if not isinstance(message, Message):
        raise TypeError(
            f"only messages cross the wire, not {type(message).__name__}: "
            "send SmashedData or Gradient (splitlab.core.messages)"
        )
    if not isinstance(receiver, Party):
        raise TypeError(
            f"a message is sent to a party, not to {type(receiver).__name__}: write "
            "send(message, server), with the client or server itself"
        )


def answers(step: int, asked: int | None, *, who: str, what: str, first: str) -> None:
    """Refuse an answer to what was not asked.

    Args:
        step: The answer's step.
        asked: The step that is waited for; None where nothing is.
        who: The receiver's name.
        what: What arrived, such as "a gradient".
        first: What must come before it.

    Raises:
        RuntimeError: If the two steps differ.
    """
    if step != asked:
        expected = "" if asked is None else f", and answer step {asked}"
        raise RuntimeError(
            f"{who} did not ask for {what} of step {step}: call {first} first{expected}"
        )


def gradient_fits(dz: Tensor, of: Tensor, *, name: str, who: str) -> None:
    """Refuse a gradient of another shape than what it is the gradient of.

    Raises:
        ValueError: If the shapes differ.
    """
    if dz.shape != of.shape:
        raise ValueError(
            f"the gradient has shape {tuple(dz.shape)} and {name} {tuple(of.shape)}: "
            f"the {who} must return one number for each number of {name}"
        )


def output_fits(a: Tensor, rows: int) -> None:
    """Refuse an output with another number of rows than the batch.

    Raises:
        ValueError: If the numbers differ.
    """
    if len(a) != rows:
        raise ValueError(
            f"the server's output has {len(a)} rows and the batch {rows}: "
            "the server must return one row for each row of z"
        )


def labels_of(message: SmashedData, labels: Tensor | None, who: str) -> Tensor:
    """Return the labels that came with z, or else the server's own at the row numbers that came.

    Args:
        message: What arrived.
        labels: The server's own labels, int64 (N,); None where it holds none.
        who: The server's name.

    Returns:
        Labels, int64 (B,).

    Raises:
        ValueError: If there are none, or it cannot be told which rows these are.
    """
    if message.labels is not None:
        return message.labels
    if labels is None and message.asks == "output":
        raise ValueError(
            f"{message.sender} has a tail, and keeps its labels: use protocol=u_shaped in place of "
            "vanilla"
        )
    if labels is None:
        raise ValueError(
            f"{who} needs labels to compute the task's loss: make the client with "
            "sends_labels=True, or use a protocol in which the labels stay at home"
        )
    if message.index is None:
        raise ValueError(
            f"{who} holds labels and does not know whose z this is: make the client "
            "with sends_index=True, or if it has a tail, use protocol=u_shaped"
        )
    if message.index.min() < 0 or message.index.max() >= len(labels):
        raise ValueError(
            f"{message.sender} sends row numbers from {int(message.index.min())} to "
            f"{int(message.index.max())} and {who} holds {len(labels)} labels: "
            "give it a label for each of the client's images, in the same order"
        )
    return labels[message.index]


def can_label(tail: nn.Module | None) -> nn.Module:
    """Return the tail of a client that labels its images as it likes; ValueError without one."""
    if tail is None:
        raise ValueError(
            "the attacker labels its images at a tail: give it tail=, as the honest clients have "
            "it, and use protocol=u_shaped"
        )
    return tail


def class_number(value: Any, classes: int, *, name: str) -> int:
    """Return the number of a class that an argument called `name` gives.

    Raises:
        ValueError: If there is no such class among 0 to `classes` - 1.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(
            f"{name} is {value!r}: give the class by its number, from 0 to {classes - 1}"
        ) from None
    if not 0 <= number < classes:
        raise ValueError(f"{name} is {number}: choose a class from 0 to {classes - 1}")
    return number


def only_vanilla(server: Any, method: str) -> NotImplementedError:
    """Return the error of a server that takes part in the vanilla protocol alone."""
    return NotImplementedError(
        f"{type(server).__name__} has no {method} and so cannot take part in the U-shaped "
        "protocol: give it forward and backward, or use protocol=vanilla"
    )

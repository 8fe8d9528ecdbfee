"""Checks of the order of messages: every answer must match a request, within one protocol."""

from __future__ import annotations

from typing import Any

from splitlab.arguments import described
from splitlab.core.messages import Message, OutputGradient, SmashedData


def can_be_sent(message: Any, receiver: Any) -> None:
    """Refuse to send anything but a message, or to anything but a party.

    Raises:
        TypeError: If it is either.
    """
    if not isinstance(message, Message):
        raise TypeError(
            f"only messages can be sent, not {described(message)}: send SmashedData or Gradient "
            "(splitlab.core.messages)"
        )
    if not hasattr(type(receiver), "RECEIVES"):
        raise TypeError(
            f"a message is sent to a party, not to {described(receiver)}: write "
            "send(message, server), with the client or server itself"
        )


def takes_part(message: Message, receiver: Any, method: str) -> None:
    """Refuse smashed data in a protocol in which the sender does not take part.

    Args:
        message: Any message.
        receiver: The server.
        method: The name of its method that is called.

    Raises:
        ValueError: If the sender waits for something else than the method returns.
    """
    if not isinstance(message, SmashedData) or method not in ("reply", "forward"):
        return
    if message.asks not in ("gradient", "output"):
        raise ValueError(
            f"{receiver.name} is asked for {message.asks!r} by {message.sender}: ask for "
            '"gradient" or "output"'
        )
    if method == "reply" and message.asks == "output":
        raise ValueError(
            f"{message.sender} has a tail, and keeps its labels: use protocol=u_shaped in place of "
            "vanilla"
        )
    if method == "forward" and message.asks == "gradient":
        raise ValueError(
            f"{message.sender} has no tail to finish the forward pass with: make the client with "
            "tail=, or use protocol=vanilla"
        )


def between_turns(client: Any) -> None:
    """Raise a RuntimeError if a client still waits for an answer."""
    if client.turn is not None:
        raise RuntimeError(
            f"{client.name} still waits for the gradient of step {client.step}: call backward first"
        )


def answers(step: int, asked: int | None, *, who: str, what: str, first: str) -> None:
    """Refuse an answer that does not match the request.

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


def output_gradient(message: OutputGradient, asked: SmashedData | None, who: str) -> SmashedData:
    """Return the smashed data whose output an output gradient answers.

    Args:
        message: The gradient.
        asked: The smashed data under way; None where none are.
        who: The receiver's name.

    Raises:
        RuntimeError: If it is of another step, or of another client.
        ValueError: If it has another number of rows.
    """
    step = None if asked is None else asked.step
    answers(message.step, step, who=who, what="an output gradient", first="forward")
    assert asked is not None
    if message.sender != asked.sender:
        raise RuntimeError(
            f"{who} waits for the output gradient of {asked.sender}, and this is one of "
            f"{message.sender}: let each client end its turn before the next one begins"
        )
    if message.da.shape[:1] != asked.z.shape[:1]:
        raise ValueError(
            f"the gradient has shape {tuple(message.da.shape)} and the batch {len(asked.z)} rows: "
            "the client must return one row for each row of the output"
        )
    return asked


def only_vanilla(server: Any, method: str) -> NotImplementedError:
    """Return the error of a server that takes part in the vanilla protocol only."""
    return NotImplementedError(
        f"{type(server).__name__} has no {method} and so cannot take part in the U-shaped "
        "protocol: give it forward and backward, or use protocol=vanilla"
    )

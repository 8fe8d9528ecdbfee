"""The wire, and the two protocols of one client and one server."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import TypeVar

from splitlab.core import turns
from splitlab.core.client import Client
from splitlab.core.messages import Message
from splitlab.core.observers import Observer
from splitlab.core.party import Party
from splitlab.core.server import Server

M = TypeVar("M", bound=Message)


class Send(typing.Protocol):
    """A function that delivers a message to a party and returns the receiver's copy."""

    def __call__(self, message: M, receiver: Party) -> M:
        """Deliver a message to a party."""


Protocol = Callable[[Client, Server, Send], None]


class Wire:
    """Delivers messages within one process: hands over a copy, and notifies the observers.

    Args:
        observers: Told of every message, after delivery.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self.observers = observers

    def __call__(self, message: M, receiver: Party) -> M:
        """Return the copy that the receiver gets, with its own memory and no computation graph."""
        turns.can_be_sent(message, receiver)
        delivered = message.delivered(to=receiver.name)
        for observer in self.observers:  # a copy for each, for one is the receiver's
            observer.message(delivered.delivered())
        return delivered


def vanilla(client: Client, server: Server, send: Send) -> None:
    """One step of split learning with labels at the server: two messages."""
    client.backward(send(server.reply(send(client.forward(), server)), client))


def u_shaped(client: Client, server: Server, send: Send) -> None:
    """One step with the last layers and the labels at the client: four messages."""
    output = send(server.forward(send(client.forward(), server)), client)
    client.backward(send(server.backward(send(client.finish(output), server)), client))

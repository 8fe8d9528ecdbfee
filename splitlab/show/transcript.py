"""The messages of a run as they crossed, who got each, and what the parties held before them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from splitlab.core.client import Client
from splitlab.core.messages import (
    Gradient,
    Message,
    OutputGradient,
    ServerOutput,
    SmashedData,
    tensors_in,
)
from splitlab.core.observers import Observer
from splitlab.core.protocols import Protocol, vanilla
from splitlab.core.rounds import Rounds, Sequential, ServerCopies, SplitFed
from splitlab.core.server import Server


class Transcript(Observer):
    """Keeps a copy of every message of a run, who got it, and what each party held before it.

    For a few steps: it keeps all that crosses.

    Args:
        protocol: The run's, which alone says where weights go.

    Attributes:
        messages: The messages, in order.
        receivers: The name of each one's receiver.
        holds: Party -> name -> description of what it holds at the start: f, the tail, images and
            labels of a client; the networks of the server, and its labels where it has some. The
            parties stand in the order of clients, server, others.
    """

    def __init__(self, protocol: Protocol = vanilla) -> None:
        self.protocol = protocol
        self.messages: list[Message] = []
        self.receivers: list[str] = []
        self.holds: dict[str, dict[str, str]] = {}

    def start(self, clients: Sequence[Client], server: Server, steps: int) -> None:
        """Note who takes part, and what they hold.

        Raises:
            ValueError: If two parties have one name.
        """
        others = self.protocol.parties if isinstance(self.protocol, Rounds) else ()
        parties = [*clients, server, *others]
        names = [party.name for party in parties]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two parties are called {twice!r}: give each a name, with name=")
        self._clients, self._server = names[: len(clients)], server.name
        self.holds = {party.name: _holdings(party) for party in parties}
        self.messages, self.receivers = [], []

    def message(self, message: Message) -> None:
        """Keep a message, and note who gets it.

        Raises:
            ValueError: If the protocol does not say who gets these weights.
        """
        self.receivers.append(self._receiver(message))
        self.messages.append(message.delivered())

    def got(self, party: str) -> list[str]:
        """Return the names of what has reached a party, such as z, labels and state."""
        pairs = zip(self.messages, self.receivers, strict=True)
        return list(dict.fromkeys(name for m, to in pairs if to == party for name in contents(m)))

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        kept = [
            (type(m).__name__, {f.name: getattr(m, f.name) for f in dataclasses.fields(m)})
            for m in self.messages
        ]
        return {"messages": kept, "receivers": self.receivers, "holds": self.holds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        kinds = {kind.__name__: kind for kind in Message.__subclasses__()}
        self.messages = [kinds[kind](**payload) for kind, payload in state["messages"]]
        self.receivers, self.holds = list(state["receivers"]), dict(state["holds"])

    def _receiver(self, message: Message) -> str:
        """Who gets a message: what its kind, and for weights the protocol, says."""
        if isinstance(message, SmashedData | OutputGradient):
            return self._server
        if isinstance(message, Gradient | ServerOutput):
            return self.messages[-1].sender  # it answers what this client has sent
        if isinstance(self.protocol, Sequential):
            if message.sender == self._server:
                return self._next(self.messages[-1].sender)
            return self._server if self.protocol.through_server else self._next(message.sender)
        if isinstance(self.protocol, SplitFed):
            aggregator = self.protocol.aggregator.name
            if message.sender != aggregator:
                return aggregator
            answered = 0  # clients that have the average by now
            while self.messages[-1 - answered].sender == aggregator:
                answered += 1
            return self._clients[answered]
        raise ValueError(
            f"who gets the {type(message).__name__} of {message.sender} cannot be told: give "
            "Transcript the run's protocol, Sequential or SplitFed"
        )

    def _next(self, client: str) -> str:
        return self._clients[(self._clients.index(client) + 1) % len(self._clients)]


def contents(message: Message) -> dict[str, str]:
    """Describe what a message carries.

    Args:
        message: a message.

    Returns:
        The name of each field that it has -> description; without sender and step.
    """
    payload = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    return {
        name: describe(value)
        for name, value in payload.items()
        if name not in ("sender", "step") and value is not None
    }


def describe(value: Any) -> str:
    """Describe what a party holds or sends in a word or two.

    Args:
        value: a tensor, a network, a text or number, or a state made of tensors.

    Returns:
        A tensor's shape, how many weights or numbers there are, or the text as it is.
    """
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, nn.Module):
        return f"{sum(p.numel() for p in value.parameters()):,} weights"
    if isinstance(value, str | int):
        return str(value)
    return f"{sum(t.numel() for t in tensors_in(value)):,} numbers"


def _holdings(party: Any) -> dict[str, str]:
    """Describe what a party holds before the first step."""
    if isinstance(party, Client):
        things = {"x": party.data.x, "labels": party.data.y, "f": party.net, "tail": party.tail}
    elif isinstance(party, ServerCopies):
        things = {f"s for {name}": server.net for name, server in party.copies.items()}
    else:
        things = {name: v for name, v in vars(party).items() if isinstance(v, nn.Module)}
        things = {("s" if name == "net" else name): value for name, value in things.items()}
        things["labels"] = getattr(party, "labels", None)
    return {name: describe(value) for name, value in things.items() if value is not None}

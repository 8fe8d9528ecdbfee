"""The messages of a run as they crossed, and what the parties held before them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from splitlab.core.client import Client
from splitlab.core.messages import KINDS, Message, tensors_in
from splitlab.core.observers import Observer
from splitlab.core.rounds import ServerCopies
from splitlab.core.server import Server


class Transcript(Observer):
    """Keeps a copy of every message of a run, and what each party held before it.

    For a few steps: it keeps all that crosses.

    Attributes:
        messages: The messages, in order.
        holds: Party -> name -> description of what it holds at the start: f, the tail, images and
            labels of a client; the networks of the server, and its labels where it has some. The
            clients stand first, then the server.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.holds: dict[str, dict[str, str]] = {}

    def start(self, clients: Sequence[Client], server: Server, steps: int) -> None:
        """Note who takes part, and what they hold."""
        self.holds = {party.name: _holdings(party) for party in [*clients, server]}
        self.messages = []

    def message(self, message: Message) -> None:
        """Keep a message."""
        self.messages.append(message.delivered())

    def got(self, party: str) -> list[str]:
        """Return the names of what has reached a party, such as z, labels and state."""
        arrived = [message for message in self.messages if message.to == party]
        return list(dict.fromkeys(name for message in arrived for name in contents(message)))

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        kept = [
            (type(m).__name__, {f.name: getattr(m, f.name) for f in dataclasses.fields(m)})
            for m in self.messages
        ]
        return {"messages": kept, "holds": self.holds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.messages = [KINDS[kind](**payload) for kind, payload in state["messages"]]
        self.holds = dict(state["holds"])


def contents(message: Message) -> dict[str, str]:
    """Describe what a message carries.

    Args:
        message: a message.

    Returns:
        The name of each field of its payload -> description.
    """
    payload = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    return {
        name: describe(value)
        for name, value in payload.items()
        if name not in ("sender", "step", "to", "asks") and value is not None
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

"""SplitFed's averaging: the aggregator of the clients' weights, and the server's copies.

Thapa, Chamikara, Camtepe, Sun: "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from splitlab.messages import Gradient, Message, OutputGradient, ServerOutput, SmashedData, Weights
from splitlab.parties import HonestServer, Server
from splitlab.threat import ThreatModel


def average(states: Sequence[Mapping[str, Tensor]], samples: Sequence[int]) -> dict[str, Tensor]:
    """Return the mean of several states of one network, weighted by numbers of samples.

    Sums are in float64; whole numbers (BatchNorm's count of batches) are rounded. Of one state, the
    mean is that state to the last bit.

    Raises:
        ValueError: If there is nothing to average, or these are states of different networks.
    """
    if not states or sum(samples) < 1:
        raise ValueError("there is nothing to average: every client must send its weights first")
    if any(state.keys() != states[0].keys() for state in states):
        raise ValueError(
            "these are weights of different networks: give all clients networks of one kind"
        )
    shares = [count / sum(samples) for count in samples]
    averaged = {}
    for name, first in states[0].items():
        parts = [s[name].double() * share for s, share in zip(states, shares, strict=True)]
        mean = torch.stack(parts).sum(0)
        averaged[name] = (mean if first.is_floating_point() else mean.round()).to(first.dtype)
    return averaged


class Aggregator:
    """Averages the clients' weights, by their numbers of images: SplitFed's second server.

    A party of its own. It never sees z; were it one with the server, that server would hold f.

    Args:
        name: The sender's name on the messages.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="aggregator, honest",
        goal="average the clients' networks",
        sees=("each client's weights and number of images, once a round",),
        does_not_know=("the images", "z and its gradients", "the server's network"),
        source="Thapa, Chamikara, Camtepe, Sun, AAAI 2022",
    )

    def __init__(self, *, name: str = "aggregator") -> None:
        self.name = name
        self.received: list[Weights] = []

    def collect(self, message: Weights) -> None:
        """Take one client's weights.

        Raises:
            ValueError: If the message does not say how many images stand behind them.
        """
        if message.samples is None:
            raise ValueError(
                f"{message.sender} does not say how many images its weights come from: "
                "send Weights with samples="
            )
        self.received.append(message)

    def aggregate(self) -> Weights:
        """Return the average of what was collected, and forget it.

        Raises:
            ValueError: If nothing was collected, or the networks differ.
        """
        messages, self.received = self.received, []
        samples = [message.samples for message in messages]
        state = average([message.state for message in messages], samples)
        step = max(message.step for message in messages)
        return Weights(state=state, samples=sum(samples), sender=self.name, step=step)


class ServerCopies(Server):
    """The server of SplitFed v1: one copy of an honest server for each client, averaged each round.

    The copies' optimizers keep their own states, as the clients' do.

    Args:
        server: What the copies are made of.
        samples: Each client's name and number of images, the weights of the average.
    """

    threat: ClassVar[ThreatModel] = HonestServer.threat

    def __init__(self, server: HonestServer, samples: Mapping[str, int]) -> None:
        super().__init__(seed=server.randomness.seed, device=server.device, name=server.name)
        self.samples = dict(samples)
        self.copies = {name: copy.deepcopy(server) for name in samples}

    def reply(self, message: SmashedData) -> Gradient:
        """Answer with this client's copy (vanilla protocol)."""
        return self._answer("reply", message)

    def forward(self, message: SmashedData) -> ServerOutput:
        """Answer with this client's copy (U-shaped protocol)."""
        return self._answer("forward", message)

    def backward(self, message: OutputGradient) -> Gradient:
        """Answer with this client's copy (U-shaped protocol)."""
        return self._answer("backward", message)

    @property
    def labels(self) -> Tensor | None:
        """The labels that every copy holds, as in `HonestServer`; None where it holds none."""
        return next(iter(self.copies.values())).labels

    def output(self, message: SmashedData) -> Tensor:
        """Return what this client's copy makes of z in evaluation mode; changes nothing."""
        return self._copy(message).output(message)

    def predict(self, z: Tensor) -> Tensor:
        """Return the class of each row of z by the first copy; after a round, all are the same."""
        return next(iter(self.copies.values())).predict(z)

    def end_round(self) -> None:
        """Give every copy the average of all."""
        states = [server.net.state_dict() for server in self.copies.values()]
        averaged = average(states, list(self.samples.values()))
        for server in self.copies.values():
            server.net.load_state_dict(averaged)

    def state_dict(self) -> dict[str, Any]:
        """Return the copies' states."""
        copies = {name: server.state_dict() for name, server in self.copies.items()}
        return super().state_dict() | {"copies": copies}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        super().load_state_dict(state)
        for name, server in self.copies.items():
            server.load_state_dict(state["copies"][name])

    def _copy(self, message: Message) -> HonestServer:
        if message.sender not in self.copies:
            raise ValueError(
                f"there is no copy of the server for {message.sender}, only for "
                f"{', '.join(self.copies)}: name all clients in samples="
            )
        return self.copies[message.sender]

    def _answer(self, method: str, message: Any) -> Any:
        server = self._copy(message)
        answer = getattr(server, method)(message)
        self.metrics = server.metrics
        return answer

"""Several clients: they take turns, pass on their weights, or have them averaged.

Thapa, Chamikara, Camtepe, Sun: "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from splitlab.arguments import count, described, function, instance
from splitlab.arguments import seed as checked_seed
from splitlab.core import setup, weights
from splitlab.core.client import Client
from splitlab.core.messages import (
    Gradient,
    Message,
    OutputGradient,
    ServerOutput,
    SmashedData,
    Weights,
)
from splitlab.core.party import Party
from splitlab.core.protocols import Protocol, Send, vanilla
from splitlab.core.server import HonestServer, Server
from splitlab.core.threat import ThreatModel
from splitlab.nets.evaluation import duplicate


class Rounds:
    """A protocol of several clients that take turns: one step, and what happens between steps.

    By itself nothing happens between them: every client keeps its own weights. `train` asks nothing
    else of a protocol that is an object; what it must remember is at the parties, so that a run
    that was killed goes on.

    To write a protocol of your own:

    - What one step is, is a function of (client, server, send), such as `sl.vanilla`. Whatever
      crosses goes through `send(message, receiver)`, which returns the receiver's copy.
    - The order of the clients is `whose_turn`. It must follow from the step's number and the
      settings alone; a random order comes from a `torch.Generator` seeded with these.
    - What happens between steps, such as handing on weights, is `after`.
    - Settings that are whole numbers or True and False are in `name`, by which a checkpoint knows
      its run. Override `name` if there are others.
    - A third party (an `Aggregator`, say) derives from `sl.Party`, and `parties` returns it.

    Args:
        protocol: What one step is.
        turn: Steps that a client takes before the next client's turn, at least 1.
    """

    def __init__(self, protocol: Protocol = vanilla, *, turn: int = 1) -> None:
        self.protocol = function("protocol", protocol, setup.A_PROTOCOL)
        self.turn = count("turn", turn, least=1)

    @property
    def name(self) -> str:
        """The protocol and its settings in one line, by which a checkpoint recognizes its run."""
        plain = {key: v for key, v in vars(self).items() if isinstance(v, bool | int)}
        listed = "".join(f", {key}={value}" for key, value in plain.items())
        return f"{type(self).__name__}({self.protocol.__qualname__}{listed})"

    @property
    def parties(self) -> tuple[Any, ...]:
        """Parties other than the clients and the server; the audit checks them, too."""
        return ()

    def __repr__(self) -> str:
        return self.name

    def whose_turn(self, step: int, clients: Sequence[Client]) -> Client:
        """Return the client that takes step number `step` (from 0): by default in list order."""
        return clients[step // self.turn % len(clients)]

    def __call__(self, client: Client, server: Server, send: Send) -> None:
        """Take one step."""
        self.protocol(client, server, send)

    def after(self, step: int, clients: Sequence[Client], server: Server, send: Send) -> None:
        """Called after step number `step` (from 0). Does nothing by default."""


class Sequential(Rounds):
    """Clients take turns on one network: each continues with the previous client's weights.

    Handed on with the optimizer's state, this is training the whole network on the clients'
    batches in the order of their turns, however many clients there are. Without that state, each
    client's optimizer goes on with its own, which has not seen the others' steps. Either way
    Dropout draws from each client's own random state. Who receives weights holds f: the next
    client, and the server where they pass through it.

    Args:
        protocol: What one step is.
        turn: Steps that a client takes before it hands on, at least 1.
        optimizer_state: Whether the optimizer's state goes with the weights.
        through_server: Whether they pass through the server, which doubles the bytes.
    """

    def __init__(
        self,
        protocol: Protocol = vanilla,
        *,
        turn: int = 1,
        optimizer_state: bool = True,
        through_server: bool = False,
    ) -> None:
        super().__init__(protocol, turn=turn)
        self.optimizer_state, self.through_server = optimizer_state, through_server

    def after(self, step: int, clients: Sequence[Client], server: Server, send: Send) -> None:
        """Pass the weights on at the end of each turn, also of the last."""
        if (step + 1) % self.turn or len(clients) == 1:
            return
        giver, receiver = (self.whose_turn(number, clients) for number in (step, step + 1))
        weights = giver.weights(optimizer=self.optimizer_state)
        if self.through_server:
            weights = server.relay(send(weights, server))
        receiver.load(send(weights, receiver))


class SplitFed(Rounds):
    """Clients train side by side; once a round, an aggregator averages their networks.

    A round is one turn of every client, in a new random order in each round. The server decides
    the version: with a `HonestServer`, which all clients train in turn, it is SplitFed v2; with
    `ServerCopies`, a copy for each client, averaged too, it is v1, where the order changes
    nothing. Every optimizer keeps its own state.

    Args:
        aggregator: The party that averages; one of its own by default.
        protocol: What one step is.
        turn: Steps that each client takes in a round, at least 1.
        seed: Of the order of the turns, which follows from it and the round's number alone. Random,
            as in the paper's v2, where a fixed order would give the last client the last word
            in every round; None for the order of the list.
    """

    def __init__(
        self,
        aggregator: Aggregator | None = None,
        *,
        protocol: Protocol = vanilla,
        turn: int = 1,
        seed: int | None = 0,
    ) -> None:
        super().__init__(protocol, turn=turn)
        made = Aggregator() if aggregator is None else aggregator
        self.aggregator = instance("aggregator", made, Aggregator, "pass sl.Aggregator(), or None")
        self.seed = None if seed is None else checked_seed(seed)

    @property
    def parties(self) -> tuple[Any, ...]:
        """The aggregator."""
        return (self.aggregator,)

    def whose_turn(self, step: int, clients: Sequence[Client]) -> Client:
        """Return the client that takes step number `step` (from 0)."""
        if self.seed is None:
            return super().whose_turn(step, clients)
        number, place = divmod(step // self.turn, len(clients))
        # From the seed and the round's number: a run that was killed needs no other memory.
        mixed = zlib.crc32(f"order of round {number}:{self.seed}".encode())
        order = torch.randperm(len(clients), generator=torch.Generator().manual_seed(mixed))
        return clients[int(order[place])]

    def after(self, step: int, clients: Sequence[Client], server: Server, send: Send) -> None:
        """Average the weights when the round is over."""
        if (step + 1) % (self.turn * len(clients)):
            return
        self.aggregator.received = []  # of a round that ended in an error
        for client in clients:
            self.aggregator.collect(send(client.weights(optimizer=False), self.aggregator))
        averaged = self.aggregator.aggregate()
        for client in clients:
            client.load(send(averaged, client))
        server.end_round()


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


class Aggregator(Party):
    """SplitFed's second server: averages the clients' weights by their numbers of images.

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
    PASSING = ("received",)
    RECEIVES: ClassVar[dict[str, type[Message]]] = {"collect": Weights}

    def __init__(self, *, name: str = "aggregator") -> None:
        super().__init__(name=name)
        self.received: list[Weights] = []

    def check(self, message: Message) -> None:
        """Refuse weights of another network, without a number of images, or sent twice."""
        assert isinstance(message, Weights)
        sender = message.sender
        if message.samples is None:
            raise ValueError(
                f"{sender} does not say how many images its weights come from: "
                "send Weights with samples="
            )
        if any(other.sender == sender for other in self.received):
            raise ValueError(
                f"{sender} sends its weights twice in a round: give each client its own name, "
                "and call aggregate() at the end of a round"
            )
        if self.received:
            first = self.received[0].state
            weights.fit(message.state, first, sender=sender, who=self.name)

    def collect(self, message: Weights) -> None:
        """Take one client's weights.

        Raises:
            ValueError: If the message does not say how many images they come from, or they are of
                another network than the others, hold NaN, or were sent already.
        """
        self.received.append(message)

    def aggregate(self) -> Weights:
        """Return the average of the collected weights, and discard them.

        Raises:
            ValueError: If nothing was collected, or the networks differ.
        """
        messages, self.received = self.received, []
        samples = [message.samples for message in messages if message.samples is not None]
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
        instance("server", server, HonestServer, "pass the honest server to make copies of")
        if not isinstance(samples, Mapping) or not samples:
            raise TypeError(
                f"samples is {described(samples)}: pass each client's name and number of images, "
                "such as {'client': 100}"
            )
        for client, images in samples.items():
            count(f"samples[{client!r}]", images, least=1)
        super().__init__(seed=server.randomness.seed, device=server.device, name=server.name)
        self.samples = dict(samples)
        self.copies = {name: duplicate(server, server.net) for name in samples}

    def check(self, message: Message) -> None:
        """Refuse a message that this client's copy cannot use."""
        if not isinstance(message, Weights):
            self._copy(message).check(message)

    def reply(self, message: SmashedData) -> Gradient:
        """Answer with this client's copy (vanilla protocol)."""
        answer: Gradient = self._answer("reply", message)
        return answer

    def forward(self, message: SmashedData) -> ServerOutput:
        """Answer with this client's copy (U-shaped protocol)."""
        output: ServerOutput = self._answer("forward", message)
        return output

    def backward(self, message: OutputGradient) -> Gradient:
        """Answer with this client's copy (U-shaped protocol)."""
        answer: Gradient = self._answer("backward", message)
        return answer

    @property
    def labels(self) -> Tensor | None:
        """The labels that every copy holds, as in `HonestServer`; None if it holds none."""
        return next(iter(self.copies.values())).labels

    def output(self, message: SmashedData) -> Tensor:
        """Return this client's copy's output for z in evaluation mode; changes nothing."""
        return self._copy(message).output(message)

    def predict(self, z: Tensor) -> Tensor:
        """Return the first copy's class for each row of z; after a round, all copies agree."""
        return next(iter(self.copies.values())).predict(z)

    def end_round(self) -> None:
        """Load the average of all copies into each."""
        states = [server.net.state_dict() for server in self.copies.values()]
        averaged = average(states, list(self.samples.values()))
        for server in self.copies.values():
            server.net.load_state_dict(averaged)

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

"""The wire, the protocols, and the training loop."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from splitlab.aggregation import Aggregator
from splitlab.checkpoint import Checkpoint
from splitlab.messages import Message
from splitlab.observers import Observer
from splitlab.parties import Client, Server
from splitlab.threat import audit

M = TypeVar("M", bound=Message)
Send = Callable[[M], M]
Protocol = Callable[[Client, Server, Send], None]


class Wire:
    """Delivers messages within one process: hands over a copy, and tells the observers.

    Args:
        observers: Told of every message, after delivery.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self.observers = observers

    def __call__(self, message: M) -> M:
        """Return the copy that the receiver gets: own memory, no computation graph."""
        if not isinstance(message, Message):
            raise TypeError(
                f"only messages cross the wire, not {type(message).__name__}: "
                "send SmashedData or Gradient (splitlab.messages)"
            )
        delivered = message.delivered()
        for observer in self.observers:
            observer.message(delivered)
        return delivered


def vanilla(client: Client, server: Server, send: Send) -> None:
    """One step of split learning with labels at the server: two messages."""
    client.backward(send(server.reply(send(client.forward()))))


def u_shaped(client: Client, server: Server, send: Send) -> None:
    """One step with the last layers, and so the labels, at the client: four messages."""
    output = send(server.forward(send(client.forward())))
    client.backward(send(server.backward(send(client.finish(output)))))


class Rounds:
    """A protocol of several clients who take turns: one step, and what happens between steps.

    By itself nothing happens between them: every client keeps its own weights. `train` asks nothing
    else of a protocol that is an object; what it must remember is at the parties, so that a run
    that was killed goes on.

    Args:
        protocol: What one step is.
        turn: Steps that a client takes before the next client's turn, at least 1.
    """

    def __init__(self, protocol: Protocol = vanilla, *, turn: int = 1) -> None:
        if turn < 1:
            raise ValueError(f"turn is {turn}: a client takes at least one step in its turn")
        self.protocol, self.turn = protocol, turn

    @property
    def name(self) -> str:
        """The protocol and its settings in a line, by which a checkpoint knows its run."""
        plain = {key: v for key, v in vars(self).items() if isinstance(v, bool | int)}
        listed = "".join(f", {key}={value}" for key, value in plain.items())
        return f"{type(self).__name__}({self.protocol.__qualname__}{listed})"

    @property
    def parties(self) -> tuple[Any, ...]:
        """Parties beside the clients and the server; the audit looks at them, too."""
        return ()

    def __repr__(self) -> str:
        return self.name

    def whose_turn(self, step: int, clients: Sequence[Client]) -> Client:
        """Return the client that takes step number `step` (from 0): here in the list's order."""
        return clients[step // self.turn % len(clients)]

    def __call__(self, client: Client, server: Server, send: Send) -> None:
        """Take one step."""
        self.protocol(client, server, send)

    def after(self, step: int, clients: Sequence[Client], server: Server, send: Send) -> None:
        """Called after step number `step` (from 0). Does nothing by default."""


class Sequential(Rounds):
    """Clients take turns on one network: each goes on from the weights of the one before.

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
        """Hand the weights on at the end of a turn, the last turn's, too."""
        if (step + 1) % self.turn or len(clients) == 1:
            return
        giver, receiver = (self.whose_turn(number, clients) for number in (step, step + 1))
        weights = send(giver.weights(optimizer=self.optimizer_state))
        receiver.load(send(server.relay(weights)) if self.through_server else weights)


class SplitFed(Rounds):
    """Clients train side by side; once a round, an aggregator averages their networks.

    A round is one turn of every client, in an order drawn anew for each round. The server decides
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
        self.aggregator = Aggregator() if aggregator is None else aggregator
        self.seed = seed

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
        """Average when the round is over."""
        if (step + 1) % (self.turn * len(clients)):
            return
        for client in clients:
            self.aggregator.collect(send(client.weights(optimizer=False)))
        averaged = self.aggregator.aggregate()
        for client in clients:
            client.load(send(averaged))
        server.end_round()


class Log:
    """Metrics of every step of a training run.

    `log["task_loss"]` is the list of one metric's values; `log.steps` counts the steps, and
    `log.seconds` the wall time of the loop, observers included.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._rows: list[dict[str, Tensor | float]] = []
        self._settled = 0  # rows before this one are floats already

    def append(self, metrics: dict[str, Tensor]) -> None:
        """Add one step's scalars; kept as tensors until asked for, so as not to wait for a GPU."""
        self._rows.append(dict(metrics))

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self._rows)

    def names(self) -> list[str]:
        """Return the names of the metrics."""
        return list(self._rows[0]) if self._rows else []

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.names():
            raise KeyError(f"this run logged {', '.join(self.names()) or 'nothing'}; not {name}")
        return [float(row[name]) for row in self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def state_dict(self) -> dict[str, Any]:
        """Return {"seconds": ..., "metrics": {name: values}}; None where a step lacks a metric."""
        for row in self._rows[self._settled :]:
            row.update({name: float(value) for name, value in row.items()})
        self._settled = len(self._rows)
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        metrics = {name: [row.get(name) for row in self._rows] for name in names}
        return {"seconds": self.seconds, "steps": self.steps, "metrics": metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.seconds = state["seconds"]
        self._rows = [{} for _ in range(state["steps"])]
        for name, values in state["metrics"].items():
            for row, value in zip(self._rows, values, strict=True):
                if value is not None:
                    row[name] = value
        self._settled = len(self._rows)

    def __repr__(self) -> str:
        return f"Log({self.steps} steps, {self.seconds:.1f} s: {', '.join(self.names())})"


def _audit(clients: Sequence[Client], server: Server, others: Sequence[Any]) -> None:
    audit(clients, server)
    for other in others:
        audit(clients, other)
        audit([other], server)


def train(
    clients: Sequence[Client],
    server: Server,
    steps: int,
    *,
    protocol: Protocol = vanilla,
    observers: Sequence[Observer] = (),
    autocast: torch.dtype | None = None,
    checkpoint: Path | str | None = None,
    every: int = 100,
) -> Log:
    """Train for a number of steps; several clients take turns, one step each unless told otherwise.

    Clients keep their own weights unless the protocol hands them on (`Sequential`).

    Observers look and do not touch: the run is bit for bit the same without them. The audit of
    `splitlab.threat` runs at the start, after the first step and at the end.

    With `checkpoint`, a run that was killed goes on from its last checkpoint when the same lines
    run again, and ends where it would have ended (bit for bit on one thread). A run that is
    complete gives its parties, observers and log their final states, and trains no further.

    Args:
        clients: One client or more.
        server: The server.
        steps: Number of steps, at least 1.
        protocol: What one step is.
        observers: Told of the start, each message, each step and the end.
        autocast: A lower precision (torch.bfloat16) for both sides' matrix work; None for full.
        checkpoint: A file for the run's state; None for none.
        every: Steps between two checkpoints; there is one after the last step, too.

    Returns:
        The server's metrics of every step, and the client's where it has a tail.

    Raises:
        ThreatModelViolation: If client and server share memory.
        HijackingDetected: If a client's defense stops the training.
        CheckpointError: If the checkpoint is damaged, belongs to another run, or is past `steps`.
    """
    if isinstance(clients, Client):
        raise TypeError("clients is a list: write train([client], server, steps)")
    if not clients or steps < 1:
        raise ValueError(f"train needs a client and a step, not {len(clients)} and {steps}")
    if every < 1:
        raise ValueError(f"every is {every}: there is at least one step between two checkpoints")
    rounds = protocol if isinstance(protocol, Rounds) else Rounds(protocol)
    log = Log()
    send = Wire(observers)
    _audit(clients, server, rounds.parties)
    keep = None
    if checkpoint is not None:
        keep = Checkpoint(
            checkpoint, clients, server, observers, log, protocol=protocol, autocast=autocast
        )
        keep.read(steps)
    for observer in observers:
        observer.start(clients, server, steps)
    try:
        # After start, which is the same in every run and would wipe what observers had.
        first = keep.resume() if keep else 0
        started = time.perf_counter() - log.seconds
        for step in range(first, steps):
            client = rounds.whose_turn(step, clients)
            # No cache: it would hold the weights of before an optimizer step inside the same turn.
            with torch.autocast(
                client.device.type, autocast, enabled=autocast is not None, cache_enabled=False
            ):
                rounds(client, server, send)
            rounds.after(step, clients, server, send)
            log.append(server.metrics | client.metrics)
            log.seconds = time.perf_counter() - started
            for observer in observers:
                observer.step(step, client, server)
            if step == first:
                _audit(clients, server, rounds.parties)
            if keep and ((step + 1) % every == 0 or step + 1 == steps):
                keep.write(step + 1)
    finally:
        for observer in observers:
            observer.end()
    _audit(clients, server, rounds.parties)
    return log

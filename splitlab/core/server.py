"""Servers: their base class, and the honest server."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from splitlab import arguments
from splitlab.core import handling, returned, setup, turns, validate
from splitlab.core.messages import (
    Gradient,
    Message,
    OutputGradient,
    ServerOutput,
    SmashedData,
    Weights,
)
from splitlab.core.party import OptimizerFactory, Party
from splitlab.core.randomness import with_own_randomness
from splitlab.core.state import Stateful
from splitlab.core.threat import ThreatModel
from splitlab.nets.evaluation import in_parts


class LabelDefense(Stateful):
    """Base class of defenses of a server that holds labels. One instance per server.

    To write one of your own, override `outgoing`. `torch.rand` and the like draw from the server's
    own random state, which is lent while a defense works. The server is given it as
    `HonestServer(..., defenses=[...])`. It takes part in the vanilla protocol alone, for in the
    U-shaped one the client has the labels. For STATE and `conformance_example` see `Defense`.
    """

    PROTOCOLS: ClassVar[tuple[str, ...]] = ("vanilla",)

    def outgoing(self, dz: Tensor, labels: Tensor) -> Tensor:
        """Return the gradient to send in place of `dz`.

        Args:
            dz: The true gradient, (B, ...).
            labels: The batch's labels, int64 (B,).

        Returns:
            A new tensor of dz's shape; `dz` itself stays as it is.
        """
        return dz


class Server(Party, ABC):
    """Base class of all servers. An attack by the server is a subclass.

    To write an active attack of your own (for a passive one, see `PassiveServer`):

    - Override `reply`, and return `self.gradient(message, dz)`, with dz of z's shape.
    - What arrives is checked before `reply` runs: its kind, its step and its numbers. Override
      `check`, and call `super().check(message)`, to refuse what this attack cannot use.
    - For the U-shaped protocol, override `forward` too, which keeps the message in
      `self.under_way` and returns `sl.ServerOutput(a=..., sender=self.name, step=message.step)`,
      and `backward`, which gets that message back by `self.asked(message)` and sets
      `self.under_way = None`. Or say `PROTOCOLS = ("vanilla",)`.
    - Decorate `reply` with `sl.with_own_randomness`, and take batches of public images from a
      `sl.Sampler(len(public), batch_size, owner="public", seed=seed)`: `sampler.next()` returns
      row numbers. `sl.Critic` is a critic with its loss, penalty and optimizer.
    - Put scalars (0-d tensors without a graph) in `self.metrics`, and they are in the log.
    - Keep networks and optimizers as attributes: they are saved. Name plain values that change in
      `STATE`, what need not be saved in `PASSING`, and what is made late in `LATER` (`Stateful`).
    - Write a card: `threat = sl.ThreatModel(who="server, malicious (active)", goal=..., sees=...,
      knows=..., does_not_know=...)`.
    - Say what it infers by a method that `sl.evaluate` asks: `reconstruct(message)`,
      `infer_labels` or `infer_property(message)`. Its docstring says what each returns.
    - If it needs a last preparation after training, write `prepare(grant)`. `sl.grant(attack,
      client)` calls it once, with what the class attribute `GRANTED` names: "nothing" (None), "an
      oracle" (a function: images -> `SmashedData`) or "the client's weights" (`Weights`).
    - Write a classmethod `conformance_example(private, public)` that returns a small one, and run
      `pytest --splitlab-attack my_module:MyAttack`.

    To write a server that defends itself against clients, derive from `HonestServer`, override
    `relay`, which receives the weights at the end of a turn and returns those to pass on, and run
    `pytest --splitlab-defense my_module:MyServer`; `sl.SafeSplit` is one.

    Args:
        seed: Seeds the server's random state.
        device: Where the server computes.
        name: The sender's name on the messages.

    Attributes:
        under_way: U-shaped protocol: the smashed data whose output the client is working on.
        answered: The last answer to each sender and kind of message, by `handle`.
    """

    STATE: ClassVar[tuple[str, ...]] = ("answered",)
    RECEIVES: ClassVar[dict[str, type[Message]]] = {
        **{"reply": SmashedData, "forward": SmashedData},
        **{"backward": OutputGradient, "relay": Weights},
    }
    PASSING: ClassVar[tuple[str, ...]] = ("under_way", "outputs")

    def __init__(
        self, *, seed: int = 0, device: torch.device | str = "cpu", name: str = "server"
    ) -> None:
        super().__init__(name=name, seed=seed, device=device)
        self.under_way: SmashedData | None = None
        self.answered: dict[str, dict[str, Any]] = {}
        self.outputs: dict[str, dict[str, Any]] = {}  # answers that a client has yet to act on

    def check(self, message: Message) -> None:
        """Refuse an output gradient that does not answer an output of this server."""
        if isinstance(message, OutputGradient):
            self.asked(message)

    @abstractmethod
    def reply(self, message: SmashedData) -> Gradient:
        """Answer smashed data with a gradient of its shape (vanilla protocol)."""

    def forward(self, message: SmashedData) -> ServerOutput:
        """Answer smashed data with the output of the server's layers (U-shaped protocol).

        Raises:
            NotImplementedError: If this server takes part in the vanilla protocol alone.
        """
        raise turns.only_vanilla(self, "forward")

    def backward(self, message: OutputGradient) -> Gradient:
        """Answer the gradient of that output with a gradient of z's shape (U-shaped protocol).

        Raises:
            NotImplementedError: If this server takes part in the vanilla protocol alone.
        """
        raise turns.only_vanilla(self, "backward")

    def handle(self, message: Message) -> Message:
        """Answer a message of any kind; a transport calls this for each message that arrives.

        A message that arrives again, because its answer was lost, gets the same answer, and
        changes nothing; after a resume, too. The latest answer to each sender and kind is kept.

        Raises:
            TypeError: If no server answers this kind.
            ValueError: If the step is over and its answer is not kept any more.
        """
        return handling.answer_once(self, message)

    def output(self, message: SmashedData) -> Tensor:
        """Return the output of the server's layers for z in evaluation mode; changes nothing.

        Returns:
            Logits (N, K), or in the U-shaped protocol the output `a` for the client's tail.

        Raises:
            NotImplementedError: If this server has no layers for the task.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no layers for the task: use an HonestServer, or a "
            "server that takes part in the U-shaped protocol"
        )

    def relay(self, message: Weights) -> Weights:
        """Pass one client's weights on to the next; the server sees them (sequential training)."""
        return dataclasses.replace(message, sender=self.name)

    def end_round(self) -> None:
        """Called when all clients have taken their turns (SplitFed). Does nothing by default."""

    def asked(self, message: OutputGradient) -> SmashedData:
        """Return the smashed data in progress, which the tail's gradient must belong to.

        Raises:
            RuntimeError: If it answers no output that this server sent.
            ValueError: If it has another number of rows.
        """
        return turns.output_gradient(message, self.under_way, self.name)

    def gradient(self, message: SmashedData, dz: Tensor) -> Gradient:
        """Return a message with `dz` for the sender of `message`."""
        return Gradient(dz=dz, sender=self.name, step=message.step)


class HonestServer(Server):
    """A server that runs the rest of the network and returns the gradient of the agreed task.

    Args:
        net: The server's network s: z -> logits (B, K), or in the U-shaped protocol z -> a.
        optimizer: Makes the optimizer from the parameters.
        loss: Of logits (B, K) and labels (B,); cross-entropy by default.
        labels: Labels of its own, int64 (N,), by the client's row numbers; it keeps a copy. None
            where the client sends labels, or keeps them.
        defenses: What guards labels that the server holds: each changes the gradient that is sent,
            in this order. The server's own step is taken with the true one. `metrics` then has the
            "noise", the length of the change in parts of the gradient's.
        seed: As in `Server`.
        device: As in `Server`.
        name: As in `Server`.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, honest",
        goal="train the joint network",
        sees=("z and labels, once a step",),
        knows=("its own network s",),
        does_not_know=("the images", "the client's network f"),
    )
    PASSING = ("_graph",)

    def __init__(
        self,
        net: nn.Module,
        *,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3),
        loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
        labels: Tensor | None = None,
        defenses: Sequence[LabelDefense] = (),
        seed: int = 0,
        device: torch.device | str = "cpu",
        name: str = "server",
    ) -> None:
        setup.server(net, loss=loss, labels=labels, defenses=defenses, kind=LabelDefense)
        super().__init__(seed=seed, device=device, name=name)
        self.net = net.to(self.device)
        self.optimizer = arguments.optimizer(optimizer, self.net.parameters(), who=name)
        self.loss = loss
        self.labels = None if labels is None else labels.to(self.device, copy=True)
        self.defenses = list(defenses)
        self._graph: tuple[Tensor, Tensor] | None = None  # U-shaped: z and a, between two messages

    def check(self, message: Message) -> None:
        """Refuse a z that s cannot process, and labels or a gradient that do not fit it."""
        super().check(message)
        if isinstance(message, OutputGradient):
            assert self._graph is not None
            validate.gradient_fits(message.da, self._graph[1], name="the output", who="client")
        elif isinstance(message, SmashedData):
            who = f"the network of {self.name}"
            logits = returned.row_of(self.net, message.z, name=who, given="z")
            if message.asks == "gradient":
                labels = validate.labels_of(message, self.labels, self.name)
                validate.labels_below(labels, logits, sender=message.sender, who=who)
                returned.loss_takes(self.loss, self.net, logits, labels, message.z.dtype, name=who)
            elif self.defenses:
                raise ValueError(
                    f"{self.name} has defenses of its labels, but in the U-shaped protocol the "
                    "client has the labels: leave out defenses, or use protocol=vanilla"
                )

    @with_own_randomness
    def reply(self, message: SmashedData) -> Gradient:
        """Take one training step on the batch and return the task's gradient."""
        labels = validate.labels_of(message, self.labels, self.name)
        z = message.z.detach().requires_grad_()
        self.net.train()
        logits = self.net(z)
        loss = returned.loss_of(self.loss(logits, labels), who=self.name, step=message.step)
        self.optimizer.zero_grad()
        loss.backward()
        assert z.grad is not None
        dz = z.grad
        for defense in self.defenses:
            given, dz = dz, defense.outgoing(dz, labels)
            dz = returned.in_place_of(dz, given, defense, "outgoing", self, message.step)
        self.optimizer.step()
        accuracy = (logits.argmax(1) == labels).float().mean()
        self.metrics = {"task_loss": loss.detach(), "task_accuracy": accuracy}
        if self.defenses:
            self.metrics["noise"] = (dz - z.grad).norm() / z.grad.norm()
        return self.gradient(message, dz)

    @with_own_randomness
    def forward(self, message: SmashedData) -> ServerOutput:
        """Run s on the batch, in training mode; the step is taken in `backward`.

        Raises:
            ValueError: If it has defenses, which need labels, or s cannot compute with z.
        """
        z = message.z.detach().requires_grad_()
        self.net.train()
        a = self.net(z)
        a = a.to(torch.promote_types(a.dtype, torch.float32))  # autocast may leave bfloat16
        self.under_way, self._graph = message, (z, a)
        return ServerOutput(a=a, sender=self.name, step=message.step)

    @with_own_randomness
    def backward(self, message: OutputGradient) -> Gradient:
        """Carry the tail's gradient through s, take one step, and return the gradient of z.

        Raises:
            RuntimeError: If it answers no output that this server sent.
            ValueError: If the gradient has another shape than that output.
        """
        asked = self.asked(message)
        assert self._graph is not None
        z, a = self._graph
        self.optimizer.zero_grad()
        a.backward(message.da)
        self.optimizer.step()
        self.under_way = self._graph = None
        self.metrics = {}  # the loss is the client's
        assert z.grad is not None
        return self.gradient(asked, z.grad)

    def output(self, message: SmashedData) -> Tensor:
        """Return s(z) in evaluation mode: logits (N, K), or in the U-shaped protocol a."""
        return in_parts(self.net, message.z)

    def predict(self, z: Tensor) -> Tensor:
        """Return the class of each row of z, int64 (N,), in evaluation mode."""
        return in_parts(self.net, z).argmax(1)

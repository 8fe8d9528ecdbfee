"""Servers: the base of all of them, and the one that does what was agreed."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from splitlab.core.messages import (
    Gradient,
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
    """Base of the defenses of a server that holds labels. One instance serves one server.

    Its random numbers come from the server's own state, which is lent while it works.
    """

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
    """Base of all servers. An attack by the server is a subclass.

    Args:
        seed: Seeds the server's random state.
        device: Where the server computes.
        name: The sender's name on the messages.

    Attributes:
        under_way: U-shaped protocol: the smashed data whose output the client is working on.
    """

    PASSING = ("under_way",)

    def __init__(
        self, *, seed: int = 0, device: torch.device | str = "cpu", name: str = "server"
    ) -> None:
        super().__init__(name=name, seed=seed, device=device)
        self.under_way: SmashedData | None = None

    @abstractmethod
    def reply(self, message: SmashedData) -> Gradient:
        """Answer smashed data with a gradient of its shape (vanilla protocol)."""

    def forward(self, message: SmashedData) -> ServerOutput:
        """Answer smashed data with the output of the server's layers (U-shaped protocol).

        Raises:
            NotImplementedError: If this server takes part in the vanilla protocol alone.
        """
        raise self._only_vanilla("forward")

    def backward(self, message: OutputGradient) -> Gradient:
        """Answer the gradient of that output with a gradient of z's shape (U-shaped protocol).

        Raises:
            NotImplementedError: If this server takes part in the vanilla protocol alone.
        """
        raise self._only_vanilla("backward")

    def output(self, message: SmashedData) -> Tensor:
        """Return what the server's layers make of z in evaluation mode; changes nothing.

        Returns:
            Logits (N, K), or in the U-shaped protocol the output `a` for the client's tail.

        Raises:
            NotImplementedError: If this server has no layers for the task.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no layers that work on the task: ask a HonestServer, or a "
            "server that takes part in the U-shaped protocol"
        )

    def relay(self, message: Weights) -> Weights:
        """Pass one client's weights on to the next; the server sees them (sequential training)."""
        return dataclasses.replace(message, sender=self.name)

    def end_round(self) -> None:
        """Called when all clients have taken their turns (SplitFed). Does nothing by default."""

    def asked(self, message: OutputGradient) -> SmashedData:
        """Return the smashed data under way, which the tail's gradient must belong to.

        Raises:
            RuntimeError: If it answers no output that this server sent.
        """
        if self.under_way is None or message.step != self.under_way.step:
            raise RuntimeError(
                f"{self.name} did not ask for an output gradient of step {message.step}: "
                "call forward first, and answer its step"
            )
        return self.under_way

    def _only_vanilla(self, method: str) -> NotImplementedError:
        return NotImplementedError(
            f"{type(self).__name__} has no {method} and so cannot take part in the U-shaped "
            "protocol: give it forward and backward, or use protocol=vanilla"
        )

    def gradient(self, message: SmashedData, dz: Tensor) -> Gradient:
        """Address `dz` to the sender of `message`."""
        return Gradient(dz=dz, sender=self.name, step=message.step)


class HonestServer(Server):
    """Runs the rest of the network, and returns the gradient of the agreed task.

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
        super().__init__(seed=seed, device=device, name=name)
        self.net = net.to(self.device)
        self.optimizer = optimizer(self.net.parameters())
        self.loss = loss
        self.labels = None if labels is None else labels.to(self.device, copy=True)
        self.defenses = list(defenses)
        self._graph: tuple[Tensor, Tensor] | None = None  # U-shaped: z and a, between two messages

    @with_own_randomness
    def reply(self, message: SmashedData) -> Gradient:
        """Take one training step on the batch and return the task's gradient."""
        labels = self._labels(message)
        z = message.z.detach().requires_grad_()
        self.net.train()
        logits = self.net(z)
        loss = self.loss(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        accuracy = (logits.argmax(1) == labels).float().mean()
        self.metrics = {"task_loss": loss.detach(), "task_accuracy": accuracy}
        assert z.grad is not None
        dz = z.grad
        for defense in self.defenses:
            dz = defense.outgoing(dz, labels)
        if self.defenses:
            self.metrics["noise"] = (dz - z.grad).norm() / z.grad.norm()
        return self.gradient(message, dz)

    @with_own_randomness
    def forward(self, message: SmashedData) -> ServerOutput:
        """Run s on the batch, in training mode; the step is taken in `backward`.

        Raises:
            ValueError: If it has defenses, which need labels.
        """
        if self.defenses:
            raise ValueError(
                f"{self.name} has defenses that guard its labels, and in the U-shaped protocol the "
                "client has the labels: leave out defenses, or use protocol=vanilla"
            )
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
        if message.da.shape != a.shape:
            raise ValueError(
                f"the gradient has shape {tuple(message.da.shape)} and the output "
                f"{tuple(a.shape)}: the client must return one number for each number of a"
            )
        self.optimizer.zero_grad()
        a.backward(message.da)
        self.optimizer.step()
        self.under_way = self._graph = None
        self.metrics = {}  # the loss is the client's
        assert z.grad is not None
        return self.gradient(asked, z.grad)

    def _labels(self, message: SmashedData) -> Tensor:
        """The labels that came with z, or else the server's own at the row numbers that came."""
        if message.labels is not None:
            return message.labels
        if self.labels is None:
            raise ValueError(
                f"{self.name} needs labels to compute the task's loss: make the client with "
                "sends_labels=True, or use a protocol in which the labels stay at home"
            )
        if message.index is None:
            raise ValueError(
                f"{self.name} holds labels and does not know whose z this is: make the client "
                "with sends_index=True"
            )
        if message.index.min() < 0 or message.index.max() >= len(self.labels):
            raise ValueError(
                f"{message.sender} sends row numbers from {int(message.index.min())} to "
                f"{int(message.index.max())} and {self.name} holds {len(self.labels)} labels: "
                "give it a label for each of the client's images, in the same order"
            )
        return self.labels[message.index]

    def output(self, message: SmashedData) -> Tensor:
        """Return s(z) in evaluation mode: logits (N, K), or in the U-shaped protocol a."""
        return in_parts(self.net, message.z)

    def predict(self, z: Tensor) -> Tensor:
        """Return the class of each row of z, int64 (N,), in evaluation mode."""
        return in_parts(self.net, z).argmax(1)

"""The parties of split learning: clients with private data, and servers of three characters."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from splitlab.data import ImageData
from splitlab.defenses import Defense, LabelDefense, Turn
from splitlab.messages import (
    Gradient,
    Message,
    OutputGradient,
    ServerOutput,
    SmashedData,
    Weights,
)
from splitlab.randomness import RandomState, Sampler, with_own_randomness
from splitlab.threat import ThreatModel, ThreatModelViolation

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]

EVALUATION_BATCH = 256


class Client:
    """The only holder of private data: runs the network `f` up to the cut.

    In the U-shaped protocol it holds the last layers, the tail, as well, and the labels stay at
    home. One optimizer trains both of its parts, in one step at the end of the turn.

    Args:
        net: The client's network f, (B, C, H, W) -> z.
        data: The private images and labels.
        optimizer: Makes the optimizer from the parameters. The default is the paper's Adam at 1e-5.
        batch_size: Images in a batch; the paper's 64 by default.
        defenses: Components that take part in every turn, in this order.
        sends_labels: Whether the labels travel with z (an honest server in vanilla needs them). By
            default they do unless there is a tail or the index is sent.
        sends_index: Whether the row numbers travel with z, by which the server finds labels of its
            own (vertical split learning: one side holds the images, the other the labels).
        tail: The last layers, a -> logits (B, K), for the U-shaped protocol.
        loss: Of the tail's logits (B, K) and labels (B,); cross-entropy by default.
        seed: Seeds the order of the batches and the party's random state.
        device: Where the network and the private data live.
        name: The sender's name on the messages.

    Attributes:
        metrics: The tail's loss and accuracy in the last step (0-d tensors), collected by the
            training log; empty without a tail.

    Raises:
        ValueError: If a client with a tail is to send its labels.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="client, honest",
        goal="train the joint network without showing its images",
        sees=("the gradient with respect to z, once a step",),
        knows=("its private images and labels", "its own network f"),
        does_not_know=("the server's network, loss and data",),
    )

    def __init__(
        self,
        net: nn.Module,
        data: ImageData,
        *,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-5),
        batch_size: int = 64,
        defenses: Sequence[Defense] = (),
        sends_labels: bool | None = None,
        sends_index: bool = False,
        tail: nn.Module | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
        seed: int = 0,
        device: torch.device | str = "cpu",
        name: str = "client",
    ) -> None:
        if sends_labels and tail is not None:
            raise ValueError(
                f"{name} has a tail so that its labels stay at home: leave out sends_labels=True, "
                "or leave out tail"
            )
        self.name = name
        self.device = torch.device(device)
        self.net = net.to(self.device)
        self.tail = None if tail is None else tail.to(self.device)
        self.data = data.to(self.device)
        self.optimizer = optimizer(self._networks().parameters())
        self.loss = loss
        if sends_labels is None:
            sends_labels = tail is None and not sends_index
        self.sends_labels, self.sends_index = sends_labels, sends_index
        self.sampler = Sampler(len(data), batch_size, owner=name, seed=seed)
        self.randomness = RandomState(name, seed, self.device)
        self.defenses = list(defenses)
        self.step = 0
        self.turn: Turn | None = None
        self.metrics: dict[str, Tensor] = {}
        for defense in self.defenses:
            defense.prepare(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, step {self.step}, {self.data!r})"

    @with_own_randomness
    def forward(self) -> SmashedData:
        """Run f on the next private batch, in training mode, and return what is sent."""
        if self.turn is not None:
            raise RuntimeError(
                f"{self.name} still waits for the gradient of step {self.step}: "
                "call backward before the next forward"
            )
        index = self.sampler.next().to(self.device)
        turn = Turn(x=self.data.x[index], labels=self.data.y[index], index=index)
        for defense in self.defenses:
            defense.begin(self, turn)
        self.optimizer.zero_grad()  # here, because the tail's gradients come before f's
        self.net.train()
        turn.z = self._smash(turn)
        self.turn = turn
        labels = turn.labels if self.sends_labels else None
        return SmashedData(
            z=turn.z,
            labels=labels,
            index=turn.index if self.sends_index else None,
            sender=self.name,
            step=self.step,
        )

    @with_own_randomness
    def finish(self, message: ServerOutput) -> OutputGradient:
        """Run the tail on the server's output, in training mode, and return the loss's gradient.

        The tail takes its step with f, in `backward`.

        Raises:
            ValueError: If the client has no tail.
            RuntimeError: If no batch is under way, or the output belongs to another step.
        """
        if self.tail is None:
            raise ValueError(
                f"{self.name} has no tail to finish the forward pass with: make the client with "
                "tail=, or use protocol=vanilla"
            )
        turn = self._turn(message, "an output")
        if len(message.a) != len(turn.x):
            raise ValueError(
                f"the server's output has {len(message.a)} rows and the batch {len(turn.x)}: "
                "the server must return one row for each row of z"
            )
        a = message.a.detach().requires_grad_()
        self.tail.train()
        logits = self.tail(a)
        loss = self.loss(logits, turn.labels)
        loss.backward()
        accuracy = (logits.argmax(1) == turn.labels).float().mean()
        self.metrics = {"task_loss": loss.detach(), "task_accuracy": accuracy}
        return OutputGradient(da=a.grad, sender=self.name, step=self.step)

    @with_own_randomness
    def backward(self, message: Gradient) -> None:
        """Carry the server's gradient through f, add the defenses' losses, and take one step.

        Raises:
            RuntimeError: If no batch is under way, or the gradient belongs to another step.
            ValueError: If the gradient has another shape than z.
            HijackingDetected: If a defense decides so.
        """
        turn = self._turn(message, "a gradient")
        if message.dz.shape != turn.z.shape:
            raise ValueError(
                f"the gradient has shape {tuple(message.dz.shape)} and z {tuple(turn.z.shape)}: "
                "the server must return one number for each number of z"
            )
        dz = message.dz
        for defense in self.defenses:
            dz = defense.incoming(self, turn, dz)
        local = [loss for d in self.defenses if (loss := d.local_loss(self, turn)) is not None]
        torch.autograd.backward([turn.z, *local], [dz, *[torch.ones_like(loss) for loss in local]])
        for defense in self.defenses:
            defense.grads(self, turn)
        if turn.update:
            self.optimizer.step()
        self.turn = None
        self.step += 1

    def smash(self, x: Tensor, *, training_mode: bool = False) -> Tensor:
        """Return what the client would send for images `x`, with its defenses on; changes nothing.

        Args:
            x: Images, (N, C, H, W).
            training_mode: Evaluation mode by default. True shows what a server receives during
                training: BatchNorm normalises with the statistics of each batch of `batch_size`.

        Returns:
            z of shape (N, ...), detached.
        """
        size = self.sampler.batch_size if training_mode else EVALUATION_BATCH
        # On a copy: a forward pass in training mode moves BatchNorm's statistics.
        original, self.net = self.net, copy.deepcopy(self.net).train(training_mode)
        try:
            with torch.no_grad(), self.randomness.lent(keep=False):
                parts = [self._smash(Turn(x=part)) for part in x.to(self.device).split(size)]
        finally:
            self.net = original
        return torch.cat(parts)

    def weights(self, *, optimizer: bool = True) -> Weights:
        """Return the network's state and, unless told otherwise, the optimizer's as a message."""
        return Weights(
            state=self._networks().state_dict(),
            optimizer=self.optimizer.state_dict() if optimizer else None,
            samples=len(self.data),
            sender=self.name,
            step=self.step,
        )

    def load(self, message: Weights) -> None:
        """Continue from another client's weights, and from its optimizer's state if that was sent.

        If it was not, the optimizer goes on with the state that it has.
        """
        self._networks().load_state_dict(message.state)
        if message.optimizer is not None:
            # A copy: an optimizer keeps the very tensors that it loads, and steps write into them.
            self.optimizer.load_state_dict(copy.deepcopy(message.optimizer))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs (the private data apart)."""
        tail = {} if self.tail is None else {"tail": self.tail.state_dict()}
        return tail | {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "randomness": self.randomness.state_dict(),
            "defenses": [defense.state_dict() for defense in self.defenses],
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.net.load_state_dict(state["net"])
        if self.tail is not None:
            self.tail.load_state_dict(state["tail"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.randomness.load_state_dict(state["randomness"])
        for defense, saved in zip(self.defenses, state["defenses"], strict=True):
            defense.load_state_dict(saved)
        self.step = state["step"]
        self.turn = None

    def _networks(self) -> nn.Module:
        """f, and with it the tail where there is one."""
        if self.tail is None:
            return self.net
        return nn.ModuleDict({"net": self.net, "tail": self.tail})

    def _turn(self, message: Message, what: str) -> Turn:
        """Return the turn under way, which the message must answer."""
        if self.turn is None or self.turn.z is None or message.step != self.step:
            raise RuntimeError(
                f"{self.name} did not ask for {what} of step {message.step}: "
                f"call forward first, and answer step {self.step}"
            )
        return self.turn

    def _smash(self, turn: Turn) -> Tensor:
        z = self.net(turn.x)
        z = z.to(torch.promote_types(z.dtype, torch.float32))  # autocast may leave bfloat16
        for defense in self.defenses:
            z = defense.smash(self, turn, z)
        return z


class PassiveClient(Client):
    """Honest but curious: takes every turn as `Client` does, and looks at the gradient it is sent.

    An attack overrides `observe`. Its randomness comes from a state of its own, so that the weights
    move as if nobody looked.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="client, honest but curious (passive)",
        goal="train the joint network, and learn from the gradients that arrive",
        sees=("the gradient with respect to z, once a step",),
        knows=("its private images", "its own network f"),
        does_not_know=("the server's network and loss", "labels that stay at the server"),
    )

    def __init__(self, net: nn.Module, data: ImageData, *, seed: int = 0, **honest: Any) -> None:
        super().__init__(net, data, seed=seed, **honest)
        self.attacker_randomness = RandomState("attacker", seed, self.device)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for method in ("forward", "finish", "backward"):
            if method in cls.__dict__:
                raise TypeError(
                    f"{cls.__name__} overrides {method}, but a passive client takes its turns "
                    "honestly: override observe, or derive from Client"
                )

    @final
    def backward(self, message: Gradient) -> None:
        """Take the honest step, then let the attack look at the gradient and the batch's rows."""
        index = self._turn(message, "a gradient").index
        super().backward(message)
        who = f"{type(self).__name__}.observe"
        with _looking(self.attacker_randomness, self._networks(), who):
            self.observe(message, index)

    def observe(self, message: Gradient, index: Tensor) -> None:
        """Learn from one step's gradient. Does nothing by default.

        Args:
            message: dz, one row for each image of the batch.
            index: The batch's row numbers in the client's data, int64 (B,).
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the honest client's state and the attacker's random state."""
        return super().state_dict() | {"attacker": self.attacker_randomness.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.attacker_randomness.load_state_dict(state["attacker"])


class Server(ABC):
    """Base of all servers. An attack by the server is a subclass.

    Args:
        seed: Seeds the server's random state.
        device: Where the server computes.
        name: The sender's name on the messages.

    Attributes:
        metrics: Scalars of the last step (0-d tensors), collected by the training log.
        under_way: U-shaped protocol: the smashed data whose output the client is working on.
    """

    threat: ClassVar[ThreatModel]

    def __init__(
        self, *, seed: int = 0, device: torch.device | str = "cpu", name: str = "server"
    ) -> None:
        self.name = name
        self.device = torch.device(device)
        self.randomness = RandomState(name, seed, self.device)
        self.metrics: dict[str, Tensor] = {}
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

    def end_round(self) -> None:  # noqa: B027 (a hook; most servers have nothing to do)
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

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs; subclasses add their networks."""
        return {"randomness": self.randomness.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.randomness.load_state_dict(state["randomness"])


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

    def state_dict(self) -> dict[str, Any]:
        """Return the random state, the network, the optimizer and the defenses' states."""
        return super().state_dict() | {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "defenses": [defense.state_dict() for defense in self.defenses],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        for defense, saved in zip(self.defenses, state["defenses"], strict=True):
            defense.load_state_dict(saved)


class PassiveServer(HonestServer):
    """Honest but curious: answers exactly as `HonestServer` does, and looks on.

    An attack overrides `observe` (and `observe_output_gradient`, where the protocol is U-shaped),
    and may read `frozen_net()`. Its randomness comes from a state of its own, so that the honest
    weights move as if nobody looked; that they did is checked after every look.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, honest but curious (passive)",
        goal="train the joint network, and learn from what arrives",
        sees=("z and labels, once a step",),
        knows=("its own network s",),
        does_not_know=("the images", "the client's network f"),
    )

    def __init__(self, net: nn.Module, *, seed: int = 0, **honest: Any) -> None:
        super().__init__(net, seed=seed, **honest)
        self.attacker_randomness = RandomState("attacker", seed, self.device)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for method in ("reply", "forward", "backward"):
            if method in cls.__dict__:
                raise TypeError(
                    f"{cls.__name__} overrides {method}, but a passive server answers honestly: "
                    "override observe, or derive from Server"
                )

    @final
    def reply(self, message: SmashedData) -> Gradient:
        """Return the honest gradient, then let the attack look at the message."""
        answer = super().reply(message)
        with self._looking():
            self.observe(message)
        return answer

    @final
    def forward(self, message: SmashedData) -> ServerOutput:
        """Return the honest output. The attack looks in `backward`, when z is used no more."""
        return super().forward(message)

    @final
    def backward(self, message: OutputGradient) -> Gradient:
        """Return the honest gradient, then let the attack look at both of the step's messages."""
        asked = self.asked(message)
        answer = super().backward(message)
        with self._looking():
            self.observe(asked)
            self.observe_output_gradient(message)
        return answer

    def observe(self, message: SmashedData) -> None:
        """Learn from one step's smashed data. Does nothing by default."""

    def observe_output_gradient(self, message: OutputGradient) -> None:
        """Learn from one step's tail gradient (U-shaped protocol). Does nothing by default."""

    def frozen_net(self) -> nn.Module:
        """Return a copy of the server's network, in evaluation mode, without gradients."""
        return copy.deepcopy(self.net).eval().requires_grad_(False)

    def _looking(self) -> AbstractContextManager[None]:
        return _looking(self.attacker_randomness, self.net, f"{type(self).__name__}.observe")

    def state_dict(self) -> dict[str, Any]:
        """Return the honest server's state and the attacker's random state."""
        return super().state_dict() | {"attacker": self.attacker_randomness.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.attacker_randomness.load_state_dict(state["attacker"])


@contextmanager
def _looking(randomness: RandomState, net: nn.Module, who: str) -> Iterator[None]:
    """The attacker's own randomness inside; the honest network must be the same afterwards."""
    before = _fingerprint(net)
    with randomness.lent():
        yield
    if _fingerprint(net) != before:
        raise ThreatModelViolation(
            f"{who} changed the honest party's network: work on a copy, such as "
            "frozen_net() of a server, instead"
        )


def _fingerprint(net: nn.Module) -> list[tuple[int, bool]]:
    """Version counters and modes: they change with any in-place write or mode switch."""
    tensors = [*net.parameters(), *net.buffers()]
    state = [(t._version, t.requires_grad) for t in tensors]
    return state + [(0, module.training) for module in net.modules()]


@contextmanager
def evaluating(*nets: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; each module's own mode is restored afterwards."""
    modules = [module for net in nets for module in net.modules()]
    modes = [module.training for module in modules]
    for net in nets:
        net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def in_parts(net: nn.Module, x: Tensor) -> Tensor:
    """Return net(x), (N, ...), in evaluation mode, some rows at a time to save memory."""
    with evaluating(net):
        return torch.cat([net(part) for part in x.split(EVALUATION_BATCH)])

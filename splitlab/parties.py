"""The parties of split learning: a client with private data, and servers of three characters."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from splitlab.data import ImageData
from splitlab.defenses import Defense, Turn
from splitlab.messages import Gradient, SmashedData, Weights
from splitlab.randomness import RandomState, Sampler, with_own_randomness
from splitlab.threat import ThreatModel, ThreatModelViolation

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]

EVALUATION_BATCH = 256


class Client:
    """The only holder of private data: runs the network `f` up to the cut.

    Args:
        net: The client's network f, (B, C, H, W) -> z.
        data: The private images and labels.
        optimizer: Makes the optimizer from the parameters. The default is the paper's Adam at 1e-5.
        batch_size: Images in a batch; the paper's 64 by default.
        defenses: Components that take part in every turn, in this order.
        sends_labels: Whether the labels travel with z (an honest server in vanilla needs them).
        seed: Seeds the order of the batches and the party's random state.
        device: Where the network and the private data live.
        name: The sender's name on the messages.
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
        sends_labels: bool = True,
        seed: int = 0,
        device: torch.device | str = "cpu",
        name: str = "client",
    ) -> None:
        self.name = name
        self.device = torch.device(device)
        self.net = net.to(self.device)
        self.data = data.to(self.device)
        self.optimizer = optimizer(self.net.parameters())
        self.sends_labels = sends_labels
        self.sampler = Sampler(len(data), batch_size, owner=name, seed=seed)
        self.randomness = RandomState(name, seed, self.device)
        self.defenses = list(defenses)
        self.step = 0
        self.turn: Turn | None = None
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
        self.net.train()
        turn.z = self._smash(turn)
        self.turn = turn
        labels = turn.labels if self.sends_labels else None
        return SmashedData(z=turn.z, labels=labels, sender=self.name, step=self.step)

    @with_own_randomness
    def backward(self, message: Gradient) -> None:
        """Carry the server's gradient through f, add the defenses' losses, and take one step.

        Raises:
            RuntimeError: If no batch is under way, or the gradient belongs to another step.
            ValueError: If the gradient has another shape than z.
            HijackingDetected: If a defense decides so.
        """
        turn = self.turn
        if turn is None or turn.z is None or message.step != self.step:
            raise RuntimeError(
                f"{self.name} did not ask for a gradient of step {message.step}: "
                f"call forward first, and answer step {self.step}"
            )
        if message.dz.shape != turn.z.shape:
            raise ValueError(
                f"the gradient has shape {tuple(message.dz.shape)} and z {tuple(turn.z.shape)}: "
                "the server must return one number for each number of z"
            )
        dz = message.dz
        for defense in self.defenses:
            dz = defense.incoming(self, turn, dz)
        local = [loss for d in self.defenses if (loss := d.local_loss(self, turn)) is not None]
        self.optimizer.zero_grad()
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

    def weights(self) -> Weights:
        """Return the network's and the optimizer's state as a message."""
        return Weights(
            state=self.net.state_dict(),
            optimizer=self.optimizer.state_dict(),
            sender=self.name,
            step=self.step,
        )

    def load(self, message: Weights) -> None:
        """Continue from another client's weights (and optimizer state, where it was sent)."""
        self.net.load_state_dict(message.state)
        if message.optimizer is not None:
            self.optimizer.load_state_dict(message.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs (the private data apart)."""
        return {
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
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.randomness.load_state_dict(state["randomness"])
        for defense, saved in zip(self.defenses, state["defenses"], strict=True):
            defense.load_state_dict(saved)
        self.step = state["step"]
        self.turn = None

    def _smash(self, turn: Turn) -> Tensor:
        z = self.net(turn.x)
        z = z.to(torch.promote_types(z.dtype, torch.float32))  # autocast may leave bfloat16
        for defense in self.defenses:
            z = defense.smash(self, turn, z)
        return z


class Server(ABC):
    """Base of all servers. An attack by the server is a subclass.

    Args:
        seed: Seeds the server's random state.
        device: Where the server computes.
        name: The sender's name on the messages.

    Attributes:
        metrics: Scalars of the last step (0-d tensors), collected by the training log.
    """

    threat: ClassVar[ThreatModel]

    def __init__(
        self, *, seed: int = 0, device: torch.device | str = "cpu", name: str = "server"
    ) -> None:
        self.name = name
        self.device = torch.device(device)
        self.randomness = RandomState(name, seed, self.device)
        self.metrics: dict[str, Tensor] = {}

    @abstractmethod
    def reply(self, message: SmashedData) -> Gradient:
        """Answer smashed data with a gradient of its shape (vanilla protocol)."""

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
        net: The server's network s, z -> logits (B, K).
        optimizer: Makes the optimizer from the parameters.
        loss: Of logits (B, K) and labels (B,); cross-entropy by default.
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
        seed: int = 0,
        device: torch.device | str = "cpu",
        name: str = "server",
    ) -> None:
        super().__init__(seed=seed, device=device, name=name)
        self.net = net.to(self.device)
        self.optimizer = optimizer(self.net.parameters())
        self.loss = loss

    @with_own_randomness
    def reply(self, message: SmashedData) -> Gradient:
        """Take one training step on the batch and return the task's gradient."""
        if message.labels is None:
            raise ValueError(
                f"{self.name} needs labels to compute the task's loss: make the client with "
                "sends_labels=True, or use a protocol in which the labels stay at home"
            )
        z = message.z.detach().requires_grad_()
        self.net.train()
        logits = self.net(z)
        loss = self.loss(logits, message.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        accuracy = (logits.argmax(1) == message.labels).float().mean()
        self.metrics = {"task_loss": loss.detach(), "task_accuracy": accuracy}
        return self.gradient(message, z.grad)

    def predict(self, z: Tensor) -> Tensor:
        """Return the class of each row of z, int64 (N,), in evaluation mode."""
        with evaluating(self.net):
            return torch.cat([self.net(part).argmax(1) for part in z.split(EVALUATION_BATCH)])

    def state_dict(self) -> dict[str, Any]:
        """Return the random state, the network and the optimizer."""
        return super().state_dict() | {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])


class PassiveServer(HonestServer):
    """Honest but curious: answers exactly as `HonestServer` does, and looks on.

    An attack overrides `observe`, and may read `frozen_net()`. Its randomness comes from a state of
    its own, so that the honest weights move as if nobody looked; `reply` checks that they did.
    """

    def __init__(self, net: nn.Module, *, seed: int = 0, **honest: Any) -> None:
        super().__init__(net, seed=seed, **honest)
        self.attacker_randomness = RandomState("attacker", seed, self.device)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "reply" in cls.__dict__:
            raise TypeError(
                f"{cls.__name__} overrides reply, but a passive server answers honestly: "
                "override observe, or derive from Server"
            )

    @final
    def reply(self, message: SmashedData) -> Gradient:
        """Return the honest gradient, then let the attack look at the message."""
        answer = super().reply(message)
        before = self._fingerprint()
        with self.attacker_randomness.lent():
            self.observe(message)
        if self._fingerprint() != before:
            raise ThreatModelViolation(
                f"{type(self).__name__}.observe changed the honest server's network: "
                "work on frozen_net() instead"
            )
        return answer

    def observe(self, message: SmashedData) -> None:
        """Learn from one message. Does nothing by default."""

    def frozen_net(self) -> nn.Module:
        """Return a copy of the server's network, in evaluation mode, without gradients."""
        return copy.deepcopy(self.net).eval().requires_grad_(False)

    def _fingerprint(self) -> list[tuple[int, bool]]:
        """Version counters and modes: they change with any in-place write or mode switch."""
        tensors = [*self.net.parameters(), *self.net.buffers()]
        state = [(t._version, t.requires_grad) for t in tensors]
        return state + [(0, module.training) for module in self.net.modules()]

    def state_dict(self) -> dict[str, Any]:
        """Return the honest server's state and the attacker's random state."""
        return super().state_dict() | {"attacker": self.attacker_randomness.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.attacker_randomness.load_state_dict(state["attacker"])


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

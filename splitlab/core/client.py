"""The client: the only holder of private data, and the hooks of its defenses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from splitlab import arguments
from splitlab.core import returned, setup, turns, validate, weights
from splitlab.core.messages import (
    Gradient,
    Message,
    OutputGradient,
    ServerOutput,
    SmashedData,
    Weights,
)
from splitlab.core.party import OptimizerFactory, Party
from splitlab.core.randomness import Sampler, with_own_randomness
from splitlab.core.state import Stateful
from splitlab.core.threat import ThreatModel
from splitlab.data import Data
from splitlab.nets.evaluation import EVALUATION_BATCH, evaluating, whole_batches


class HijackingDetected(RuntimeError):
    """Raised when a defense detects a hijack: the client stops taking part."""


@dataclass(eq=False)
class Turn:
    """One batch at the client, as its defenses see it; `Defense.begin` may change it.

    Attributes:
        x: Private images, (B, C, H, W).
        labels: Class numbers that will be sent, int64 (B,), or None.
        index: Row numbers of the images in the private data, int64 (B,), or None.
        z: Smashed data with its graph; None until the forward pass.
        update: Whether the client's optimizer steps on this batch.
        fake: Whether a defense made the batch up (false labels, say).
        finished: Whether the tail has answered, in the U-shaped protocol.
    """

    x: Tensor
    labels: Tensor | None = None
    index: Tensor | None = None
    z: Tensor | None = None
    update: bool = True
    fake: bool = False
    finished: bool = False


class Defense(Stateful):
    """Base class of a client's defenses: every hook does nothing. One instance per client.

    To write one of your own, override the hooks it needs, and pass it in
    `Client(..., defenses=[...])`:

    - `torch.randn` and the like draw from the client's own random state, which is lent while its
      defenses work. They need no generator of their own.
    - A detector returns dz as it is from `incoming`, or raises `HijackingDetected`, which stops
      `sl.train`.
    - What a hook returns is checked: its shape and type, that its numbers are finite, and that z
      keeps its graph.
    - Networks, optimizers and generators that it holds are saved with the client. Plain values that
      change, such as a counter or a list of alarms, are saved if `STATE` names them (`Stateful`).
    - Write a classmethod `conformance_example(private, public)` that returns a small one, and run
      `pytest --splitlab-defense my_module:MyDefense`.
    """

    def prepare(self, client: Client) -> None:
        """Called once, when the client is made: wrap the model, train a reference."""

    def begin(self, client: Client, turn: Turn) -> None:
        """Called before the forward pass: may change labels, `fake` and `update`."""

    def smash(self, client: Client, turn: Turn, z: Tensor) -> Tensor:
        """Return what is sent in place of `z`: same shape, differentiable (noise, clipping).

        Called by `client.smash(x)`, too: then the turn has `x` alone, and nothing may be kept.
        """
        return z

    def local_loss(self, client: Client, turn: Turn) -> Tensor | None:
        """Return a scalar loss that the client minimizes in addition to its task, or None."""
        return None

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return the gradient to use in place of `dz`, same shape.

        Raises:
            HijackingDetected: If the defense decides to stop the training.
        """
        return dz

    def grads(self, client: Client, turn: Turn) -> None:
        """Called after the backward pass and before the optimizer's step."""

    def scores(self, client: Client, logits: Tensor) -> Tensor:
        """Return class scores (N, K) as the client reads them after training; same shape."""
        return logits


class Client(Party):
    """The party that alone holds private data, and runs the network `f` up to the cut.

    In the U-shaped protocol it holds the last layers, the tail, as well, and the labels stay at
    home. One optimizer trains both of its parts, in one step at the end of the turn.

    A defense is not a subclass but a component (`Defense`). An attack by a client is a subclass: of
    `PassiveClient` if it only looks, else of this class, with `next_turn`, `forward`, `finish` or
    `backward` overridden. Decorate the last three with `sl.with_own_randomness`, and call `super()`
    for the honest part. Card, state, `prepare`, what `sl.evaluate` asks for and
    `conformance_example` are as in `Server`; the card's `who` begins with "client".

    Args:
        net: The client's network f, (B, C, H, W) -> z.
        data: The private data, `ImageData` as a rule: rows and labels.
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
        TypeError: If an argument is of another kind, such as a class in place of an object.
        ValueError: If a client with a tail is to send its labels, the network cannot compute with
            the images or has nothing to learn, or the batch is larger than the data.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="client, honest",
        goal="train the joint network without showing its images",
        sees=("the gradient with respect to z, once a step",),
        knows=("its private images and labels", "its own network f"),
        does_not_know=("the server's network, loss and data",),
    )
    STATE = ("step",)
    PASSING = ("turn",)
    RECEIVES: ClassVar = {"finish": ServerOutput, "backward": Gradient, "load": Weights}

    def __init__(
        self,
        net: nn.Module,
        data: Data,
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
        made_with = {"tail": tail, "loss": loss, "sends_labels": sends_labels}
        setup.client(net, data, **made_with, defenses=defenses, kind=Defense)
        super().__init__(name=name, seed=seed, device=device)
        self.net = net.to(self.device)
        self.tail = None if tail is None else tail.to(self.device)
        self.data = data.to(self.device)
        if type(self).next_turn is Client.next_turn:  # else it may send others than these
            returned.images(self, self.data.x)
        self.optimizer = arguments.optimizer(optimizer, self._networks().parameters(), who=name)
        self.loss = loss
        if sends_labels is None:
            sends_labels = tail is None and not sends_index
        self.sends_labels, self.sends_index = sends_labels, sends_index
        self.sampler = Sampler(len(data), batch_size, owner=name, seed=seed)
        self.defenses = list(defenses)
        self.step = 0
        self.turn: Turn | None = None
        for defense in self.defenses:
            defense.prepare(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, step {self.step}, {self.data!r})"

    def next_turn(self) -> Turn:
        """Return the batch that `forward` sends: by default the next images, in random order."""
        index = self.sampler.next().to(self.device)
        return Turn(x=self.data.x[index], labels=self.data.y[index], index=index)

    def check(self, message: Message) -> None:
        """Refuse an answer that was not asked for or does not fit, and weights that do not fit."""
        if isinstance(message, Weights):
            turns.between_turns(self)
            parties = {"sender": message.sender, "who": self.name}
            weights.fit(message.state, self._networks().state_dict(), **parties)
            if message.optimizer is not None:
                weights.optimizer_takes(self.optimizer, message.optimizer, **parties)
        elif isinstance(message, ServerOutput):
            turn = self._turn(message, "an output")
            validate.output_fits(message.a, self.tail, self.loss, turn, who=self.name)
        elif isinstance(message, Gradient):
            turn = self._turn(message, "a gradient", finished=self.tail is not None)
            assert turn.z is not None
            validate.gradient_fits(message.dz, turn.z, name="z", who="server")

    @with_own_randomness
    def forward(self) -> SmashedData:
        """Run f on the next batch, in training mode, and return what is sent."""
        turns.between_turns(self)
        turn = self.next_turn()
        returned.images(self, turn.x)
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
            asks="gradient" if self.tail is None else "output",
            sender=self.name,
            step=self.step,
        )

    @with_own_randomness
    def finish(self, message: ServerOutput) -> OutputGradient:
        """Run the tail on the server's output, in training mode, and return the loss's gradient.

        The tail takes its step with f, in `backward`.

        Raises:
            ValueError: If the client has no tail, or one that cannot compute with the output.
            RuntimeError: If no batch is under way, or the output belongs to another step.
        """
        assert self.tail is not None and self.turn is not None
        turn = self.turn
        a = message.a.detach().requires_grad_()
        self.tail.train()
        logits = self.tail(a)
        assert turn.labels is not None
        loss = returned.loss_of(self.loss(logits, turn.labels), who=self.name, step=self.step)
        loss.backward()
        assert a.grad is not None
        turn.finished = True
        accuracy = (logits.argmax(1) == turn.labels).float().mean()
        self.metrics = {"task_loss": loss.detach(), "task_accuracy": accuracy}
        return OutputGradient(da=a.grad, sender=self.name, step=self.step)

    @with_own_randomness
    def backward(self, message: Gradient) -> None:
        """Carry the server's gradient through f, add the defenses' losses, and take one step.

        Raises:
            RuntimeError: If no batch is under way, or the gradient belongs to another step.
            ValueError: If the gradient has another shape than z, or NaN in it, or a defense
                returns what cannot be used.
            HijackingDetected: If a defense decides so.
        """
        turn = self.turn
        assert turn is not None and turn.z is not None
        dz = message.dz.detach()
        for defense in self.defenses:
            given, dz = dz, defense.incoming(self, turn, dz)
            dz = returned.in_place_of(dz, given, defense, "incoming", self, self.step)
        local = returned.local_losses(self, turn)
        torch.autograd.backward([turn.z, *local], [dz, *[torch.ones_like(loss) for loss in local]])
        for defense in self.defenses:
            defense.grads(self, turn)
        if turn.update:
            self.optimizer.step()
        self.turn = None
        self.step += 1

    def smash(self, x: Tensor, *, training_mode: bool = False) -> SmashedData:
        """Return what the client would send for images `x`, with its defenses on; changes nothing.

        Labels and row numbers are not in it.

        Args:
            x: Images, (N, C, H, W).
            training_mode: Evaluation mode by default. True shows what a server receives during
                training: BatchNorm normalizes with the statistics of each batch of `batch_size`.
                The last batch is filled up with earlier images.

        Returns:
            The message, with z of shape (N, ...), as it would arrive.

        Raises:
            TypeError: If `x` is no tensor.
            ValueError: If these are no images of the shape and type of the client's own.
        """
        setup.rows_like(x, self.data)
        parts = x.split(EVALUATION_BATCH)
        if training_mode:
            parts = whole_batches(x, self.sampler.batch_size)
        with evaluating(self.net, training=training_mode), self.randomness.lent(keep=False):
            z = [self._smash(Turn(x=part.to(self.device))) for part in parts]
        if more := sum(map(len, parts)) - len(x):  # the last batch begins with earlier images
            z[-1] = z[-1][more:]
        return SmashedData(z=torch.cat(z), sender=self.name, step=self.step)

    def weights(self, *, optimizer: bool = True) -> Weights:
        """Return a message with the state of the network and, by default, of the optimizer."""
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

        Raises:
            RuntimeError: In the middle of a turn.
            ValueError: If they are of another network, or the optimizer is of another kind.
        """
        self._networks().load_state_dict(message.state)
        if message.optimizer is not None:
            # A copy: an optimizer keeps the very tensors that it loads, and steps write into them.
            self.optimizer.load_state_dict(copy.deepcopy(message.optimizer))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned; drops a batch in progress."""
        super().load_state_dict(state)
        self.turn = None

    def _networks(self) -> nn.Module:
        """The network f, and the tail if there is one."""
        if self.tail is None:
            return self.net
        return nn.ModuleDict({"net": self.net, "tail": self.tail})

    def _turn(self, message: Message, what: str, *, finished: bool = False) -> Turn:
        """Return the turn in progress, which the message must answer."""
        asked = None if self.turn is None else self.step
        turns.answers(message.step, asked, who=self.name, what=what, first="forward")
        assert self.turn is not None
        if self.turn.finished != finished:
            first = "forward" if self.turn.finished else "finish"
            turns.answers(message.step, None, who=self.name, what=what, first=first)
        return self.turn

    def _smash(self, turn: Turn) -> Tensor:
        z: Tensor = self.net(turn.x)
        z = z.to(torch.promote_types(z.dtype, torch.float32))  # autocast may leave bfloat16
        for defense in self.defenses:
            given, z = z, defense.smash(self, turn, z)
            z = returned.in_place_of(z, given, defense, "smash", self, self.step)
        return z

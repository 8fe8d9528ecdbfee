"""Honest but curious parties: they follow the protocol, and learn from what arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, TypedDict, Unpack, final

import torch
from torch import Tensor, nn

from splitlab.core.audit import Unchanged
from splitlab.core.client import Client, Defense
from splitlab.core.messages import (
    Gradient,
    OutputGradient,
    ServerOutput,
    SmashedData,
)
from splitlab.core.party import OptimizerFactory
from splitlab.core.randomness import RandomState
from splitlab.core.server import HonestServer, LabelDefense
from splitlab.core.threat import ThreatModel
from splitlab.data import Data
from splitlab.nets.evaluation import duplicate


class HonestClient(TypedDict, total=False):
    """Arguments of `Client` that a passive client takes in addition to its own."""

    optimizer: OptimizerFactory
    batch_size: int
    defenses: Sequence[Defense]
    sends_labels: bool | None
    sends_index: bool
    tail: nn.Module | None
    loss: Callable[[Tensor, Tensor], Tensor]
    device: torch.device | str
    name: str


class Honest(TypedDict, total=False):
    """Arguments of `HonestServer` that a passive server takes in addition to its own."""

    optimizer: OptimizerFactory
    loss: Callable[[Tensor, Tensor], Tensor]
    labels: Tensor | None
    defenses: Sequence[LabelDefense]
    device: torch.device | str
    name: str


class PassiveClient(Client):
    """An honest but curious client: it acts as `Client` does, and inspects the gradients.

    An attack overrides `observe`. Its randomness comes from a state of its own, so that the weights
    move as if nobody looked. The rest is as in `PassiveServer`, and an attack on the labels that
    lie with the server derives from `sl.attacks.LabelInference`.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="client, honest but curious (passive)",
        goal="train the joint network, and learn from the gradients that arrive",
        sees=("the gradient with respect to z, once a step",),
        knows=("its private images", "its own network f"),
        does_not_know=("the server's network and loss", "labels that stay at the server"),
    )

    def __init__(
        self, net: nn.Module, data: Data, *, seed: int = 0, **honest: Unpack[HonestClient]
    ) -> None:
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
        assert index is not None
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


class PassiveServer(HonestServer):
    """An honest but curious server: it answers as `HonestServer` does, and inspects messages.

    An attack overrides `observe` (and `observe_output_gradient`, where the protocol is U-shaped),
    and may read `frozen_net()`. Its randomness comes from a state of its own, so that the honest
    weights move as if nobody looked; that they did is checked after every look.

    To write a passive attack of your own:

    - Override `observe`, or nothing at all if z of the trained client is enough.
    - `observe` already draws from the attacker's own random state. Elsewhere, such as in `prepare`,
      write `with self.attacker_randomness.lent():` around what is random. Do not use
      `sl.with_own_randomness` here: it lends the honest server's state. Batches of public images
      come from a `sl.Sampler`.
    - Give `super().__init__` the honest server's network, and `**honest` for its other arguments.
    - The card's `who` has the word "passive". State, `prepare`, what `sl.evaluate` asks for and
      `conformance_example` are as in `Server`.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, honest but curious (passive)",
        goal="train the joint network, and learn from what arrives",
        sees=("z and labels, once a step",),
        knows=("its own network s",),
        does_not_know=("the images", "the client's network f"),
    )

    def __init__(self, net: nn.Module, *, seed: int = 0, **honest: Unpack[Honest]) -> None:
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
        """Return the honest output. The attack inspects z in `backward`, after its last use."""
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
        return duplicate(self.net, self.net).eval().requires_grad_(False)

    def _looking(self) -> AbstractContextManager[None]:
        return _looking(self.attacker_randomness, self.net, f"{type(self).__name__}.observe")


@contextmanager
def _looking(randomness: RandomState, net: nn.Module, who: str) -> Iterator[None]:
    """Use the attacker's randomness inside, and check that the honest network is unchanged."""
    same = Unchanged([net])
    with randomness.lent():
        yield
    same.check(who)

"""What all parties have: a name, a device, a random state, and a state to resume from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from splitlab.arguments import device as found
from splitlab.core import setup, validate
from splitlab.core.messages import Message
from splitlab.core.randomness import RandomState
from splitlab.core.state import Stateful
from splitlab.core.threat import ThreatModel

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class Party(Stateful):
    """Base class of those who exchange messages: clients, servers and the aggregator.

    To write a party of your own, derive from `Server` or `Client`, or from `Party` for a third one.
    Give it a card, `threat = sl.ThreatModel(...)`. Where a method draws random numbers, or runs a
    network with Dropout in training mode, decorate it with `sl.with_own_randomness`: it then draws
    from the party's own random state, and a run is a function of its seeds.

    What arrives is checked before a receiving method runs: `RECEIVES` names these methods, and
    `validate.wrap` puts the checks around each of them, a subclass's, too. `check` is where a party
    refuses what it cannot use.

    Args:
        name: The sender's name on the messages.
        seed: Seeds the party's random state.
        device: Where the party computes.

    Attributes:
        threat: Its card.
        RECEIVES: Name of a method -> the kind of message that it takes.
        metrics: Scalars of its last step (0-d tensors), collected by the training log.

    Raises:
        TypeError: If the name is no text.
        ValueError: If the name is empty, or this machine has no such device.
    """

    threat: ClassVar[ThreatModel]
    PASSING: ClassVar[tuple[str, ...]] = ("metrics", "receiving")
    PARTICIPANT = True
    RECEIVES: ClassVar[dict[str, type[Message]]] = {}

    def __init__(self, *, name: str, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.name = setup.name_of_party(name)
        self.device = found(device)
        self.randomness = RandomState(name, seed, self.device)
        self.metrics: dict[str, Tensor] = {}
        self.receiving = False  # inside a method that has checked its message

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        validate.wrap(cls)

    def check(self, message: Message) -> None:
        """Refuse a message that this party cannot use, before anything changes.

        Its kind, sender, step and numbers have been checked by then. Does nothing by default.

        Raises:
            ValueError: If it cannot be used; a RuntimeError if it answers what was not asked.
        """

"""What all parties have: a name, a device, a random state, and a state to resume from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from splitlab.core.randomness import RandomState
from splitlab.core.state import Stateful
from splitlab.core.threat import ThreatModel

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class Party(Stateful):
    """Base of clients, servers and the aggregator: those who exchange messages.

    To write a party of your own, derive from `Server` or `Client`, or from `Party` for a third one.
    Give it a card, `threat = sl.ThreatModel(...)`. Where a method draws random numbers, or runs a
    network with Dropout in training mode, decorate it with `sl.with_own_randomness`: it then draws
    from the party's own random state, and a run is a function of its seeds.

    Args:
        name: The sender's name on the messages.
        seed: Seeds the party's random state.
        device: Where the party computes.

    Attributes:
        threat: Its card.
        metrics: Scalars of its last step (0-d tensors), collected by the training log.
    """

    threat: ClassVar[ThreatModel]
    PASSING: ClassVar[tuple[str, ...]] = ("metrics",)
    PARTICIPANT = True

    def __init__(self, *, name: str, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.name = name
        self.device = torch.device(device)
        self.randomness = RandomState(name, seed, self.device)
        self.metrics: dict[str, Tensor] = {}

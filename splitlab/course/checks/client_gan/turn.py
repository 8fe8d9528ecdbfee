"""One turn of the client-side GAN, in parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from splitlab.course.checks.client_turn import Server, Turn


@dataclass
class GANTurn(Turn):
    """A correct turn, except for `back`."""

    generator: nn.Module
    net: nn.Module
    tail: nn.Module
    optimizer: Optimizer
    noise: Tensor
    server: Server
    label: int
    scale: float = 1

    def images(self) -> Tensor:
        """Generate images."""
        x: Tensor = self.generator(self.noise)
        return x

    def labels(self) -> Tensor:
        """One label for all."""
        return torch.full((len(self.noise),), self.label)

    def send(self, da: Tensor) -> Tensor:
        """The scaled gradient."""
        return da * self.scale

    def receive(self, dz: Tensor) -> Tensor:
        """Undo the scaling."""
        return dz / self.scale

"""Shredder: a trained client is frozen, and adds one of a few learned tensors of noise to z.

Mireshghallah, Taram, Ramrakhyani, Jalali, Tullsen, Esmaeilzadeh: "Shredder: Learning Noise
Distributions to Protect Inference Privacy", ASPLOS 2020, arXiv 1905.11814.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import Laplace
from torch.optim import Adam, Optimizer

from splitlab.arguments import count, number
from splitlab.core.client import Defense, Turn
from splitlab.data import ImageData
from splitlab.nets.evaluation import evaluating

if TYPE_CHECKING:
    from splitlab.core.client import Client


class Shredder(Defense):
    """Train honestly for `after` steps; then freeze f and learn noise to add to z.

    There are `members` noise tensors, each of the shape of one image's z. Each image that is sent
    gets one of them, drawn at random. The tensors minimize the task's loss minus `weight` times
    their strength, by Adam. The task's part of their gradient is the server's: the dz of all rows
    that got a tensor, summed. The strength is the mean of |noise| over all numbers of all tensors;
    the paper's is the sum, so that its weights depend on the size of z. The loss has no lower bound
    where `weight` is above 0, so the noise keeps growing as long as the training goes on.

    The noise is no differential privacy. A server that knows pairs of z and images learns to
    subtract the few tensors, and two images that got the same one differ by what f made of them.

    From step `after` on, f is the same function for every batch: it runs in evaluation mode, in
    training as well. Its weights and its buffers no longer change, BatchNorm normalizes with the
    statistics of the training before, and Dropout drops nothing. A tail is frozen with it. The
    paper freezes the server's network, too. Here the server goes on as it likes, and an honest one
    adapts to the noise.

    Each client has noise of its own, which does not travel with its weights, and counts its own
    steps. The noise is drawn from the client's random state when the client is made.

    Args:
        weight: Of the noise's strength in the loss, at least 0. One number of z weighs `weight`
            divided by the count of numbers in z.
        after: How many steps the client trains honestly, at least 0.
        members: How many noise tensors, at least 1.
        scale: The noise starts from a Laplace distribution with mean 0 and this scale, in units of
            z, at least 0. Its mean |noise| is the scale, and its standard deviation 1.41 times it.
        rate: Adam's learning rate, in units of z a step, above 0.

    Attributes:
        noise: The noise tensors, (members, ...).
        steps: How many steps the client has taken.

    Raises:
        ValueError: If a number is out of range or not finite.
    """

    STATE = ("noise", "steps")

    def __init__(
        self,
        weight: float,
        *,
        after: int,
        members: int = 8,
        scale: float = 1.0,
        rate: float = 0.01,
    ) -> None:
        self.weight = number("weight", weight)
        self.scale = number("scale", scale)
        self.rate = number("rate", rate, above=True)
        self.after = count("after", after, least=0)
        self.members = count("members", members, least=1)
        self.noise = torch.empty(0)
        self.optimizer: Optimizer | None = None
        self.steps = 0

    def __repr__(self) -> str:
        noise = f"{self.members} tensors from step {self.after} on, scale {self.scale:g}"
        return f"Shredder({self.weight:g}, {noise})"

    @property
    def frozen(self) -> bool:
        """Whether f is frozen and noise is added."""
        return self.steps >= self.after

    @property
    def strength(self) -> float:
        """The mean of |noise| over all tensors, in units of z."""
        return float(self.noise.detach().abs().mean())

    def prepare(self, client: Client) -> None:
        """Draw the noise in the shape of z, and make sure that a frozen f does not change."""
        with client.randomness.lent():
            with evaluating(client.net):
                z = client.net(client.data.x[:1])
            self.noise = self._drawn(z)
        self.optimizer = Adam([self.noise], lr=self.rate)
        for net in (client.net, client.tail):
            if net is not None:
                # The client calls train() in every step, so it must be undone after that.
                net.register_forward_pre_hook(self._hold_still)

    def begin(self, client: Client, turn: Turn) -> None:
        """Keep the client's optimizer from stepping once f is frozen."""
        if self.frozen:
            turn.update = False

    def smash(self, client: Client, turn: Turn, z: Tensor) -> Tensor:
        """Return z, with noise once f is frozen: one tensor for each row, drawn at random."""
        if not self.frozen:
            return z
        drawn = torch.randint(self.members, (len(z),), device=z.device)
        # The noise is in the graph, so the server's dz arrives at the tensors that were sent.
        return z + self.noise[drawn]

    def local_loss(self, client: Client, turn: Turn) -> Tensor | None:
        """Return minus `weight` times the noise's strength; None before f is frozen."""
        return -self.weight * self.noise.abs().mean() if self.frozen else None

    def grads(self, client: Client, turn: Turn) -> None:
        """Take a step on the noise once f is frozen."""
        assert self.optimizer is not None
        if self.frozen:
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.steps += 1

    def _drawn(self, z: Tensor) -> Tensor:
        """Return random noise tensors for a z (1, ...), in its precision and on its device."""
        shape = (self.members, *z.shape[1:])
        dtype = torch.promote_types(z.dtype, torch.float32)
        noise = torch.zeros(shape, dtype=dtype, device=z.device)
        if self.scale > 0:
            noise += Laplace(noise.flatten()[0], self.scale).sample(shape)
        return noise.requires_grad_()

    def _hold_still(self, net: nn.Module, arguments: Any) -> None:
        """Put a network into evaluation mode before its forward pass, once it is frozen."""
        if self.frozen:
            net.eval()

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that freezes f after two steps."""
        return cls(10.0, after=2, members=3)

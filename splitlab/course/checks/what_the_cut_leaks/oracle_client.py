"""The client behind the oracle of exercise 3, and images to ask it about."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from splitlab.course.checks.base import CheckFailed, what, wrong

SHAPE = (2, 4, 3)  # of images and of z alike: f and its inverse can be confused, as in life
SMALLEST = 1e-6  # standard deviation to divide by


class OracleClient:
    """The client behind the oracle: it notes what is asked about, and by whom it is looked at.

    Args:
        public: The images that may be asked about, (N, C, H, W).
    """

    def __init__(self, public: Tensor) -> None:
        self._public, self._private = public.clone(), random_images(6)
        self.net = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Tanh()).double()
        self.asked = torch.zeros(len(public), dtype=torch.int64)
        self.trained = False  # then the oracle is silent

    @property
    def data(self) -> Tensor:
        """The private images, which no attacker may look at.

        Raises:
            CheckFailed: Always.
        """
        raise CheckFailed(
            "ask_oracle looks at the client's own data: whoever has those needs no attack; all "
            "that is granted is an answer to each question"
        )

    def smash(self, x: Tensor) -> Tensor:
        """Answer: z of these images, with the graph that leads to the client's weights."""
        if self.trained:
            wrong(
                "the oracle is asked again when the decoder is used: what the decoder needs of it, "
                "it must have kept as numbers"
            )
        if not isinstance(x, Tensor) or x.shape[1:] != self._public.shape[1:]:
            wrong(f"the oracle is asked about {_about(x)}: ask about a batch of public images")
        for one in x.detach():
            (rows,) = torch.where((one == self._public).flatten(1).all(1))
            if not len(rows):
                wrong(
                    "the oracle is asked about an image that is not in public: it answers for "
                    "these images alone, exactly as they are"
                )
            self.asked[rows] += 1
        return self._scaled(self.net(x))

    def _scaled(self, z: Tensor) -> Tensor:
        """Features of very unlike sizes, one of them silent on public images."""
        scale = torch.logspace(-1, 1, z[0].numel(), dtype=z.dtype).view(z.shape[1:])
        z = scale * (z + scale.sqrt())
        silent = torch.ones_like(z)
        silent[:, 0, 0, 0] = 0
        return z * silent

    def public_z(self) -> Tensor:
        """The answers to all questions, for the check itself."""
        with torch.no_grad():
            return self._scaled(self.net(self._public))

    def private_z(self) -> Tensor:
        """What crosses of private images; the silent number is live there, and next to nothing."""
        with torch.no_grad():
            z = self._scaled(self.net(self._private))
        z[:, 0, 0, 0] = torch.linspace(-3, 3, len(z), dtype=z.dtype) * SMALLEST
        return z


def random_images(count: int) -> Tensor:
    """Return images of noise.

    Args:
        count: How many.

    Returns:
        Images (count, *SHAPE), float64, with values from -1 to 2.
    """
    return 3 * torch.rand(count, *SHAPE, dtype=torch.float64) - 1


def _about(x: Any) -> str:
    return f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else what(x)

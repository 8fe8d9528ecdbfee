"""Images for the cases of exercises 1 and 2, and how they are compared."""

from __future__ import annotations

import torch
from torch import Tensor


def guesses(*shape: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Make reconstructions and true images: some good, some bad, all a little too dark.

    The true images resemble each other, as the images of a class do, and keep off the ends of the
    range. The last image comes out worst.
    """
    pattern = torch.rand(shape[1:])
    true = 0.1 + 0.8 * (0.6 * pattern + 0.4 * torch.rand(shape))
    amount = torch.linspace(0.01, 0.2, shape[0]).view(-1, 1, 1, 1)
    guess = true + amount * torch.randn(shape) - 0.02
    return low + (high - low) * guess, low + (high - low) * true


def errors(a: Tensor, b: Tensor) -> Tensor:
    """Squared errors, (N, C*H*W)."""
    return (a - b).square().flatten(1)

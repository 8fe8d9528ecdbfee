"""Dropout at the cut: the client sends each number of z, or zero in its place.

He, Zhang, Lee: "Attacking and Protecting Data Privacy in Edge-Cloud Collaborative Inference
Systems", IEEE Internet of Things Journal 8, 2021, where dropout stays on after training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from torch import Tensor
from torch.nn import functional as F

from splitlab.arguments import number
from splitlab.core.client import Defense, Turn
from splitlab.data import ImageData

if TYPE_CHECKING:
    from splitlab.core.client import Client


class CutDropout(Defense):
    """Set each number of z to zero with probability `p`, during and after training.

    The others are divided by 1 - p, so that z has the same mean. What is dropped is drawn anew each
    time that an image is sent.

    Args:
        p: From 0 to below 1.

    Raises:
        ValueError: If `p` is out of that range.
    """

    def __init__(self, p: float) -> None:
        self.p = number("p", p)
        if self.p >= 1:
            raise ValueError(f"p is {p}: choose a probability from 0 to below 1")

    def __repr__(self) -> str:
        return f"CutDropout({self.p:g})"

    def smash(self, client: Client, turn: Turn, z: Tensor) -> Tensor:
        """Return z with some of its numbers set to zero."""
        return F.dropout(z, self.p)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that drops half of z."""
        return cls(0.5)

"""Pruning: the client sends the largest numbers of z, and zeros in place of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from torch import Tensor

from splitlab.arguments import count
from splitlab.core.client import Defense, Turn
from splitlab.data import ImageData

if TYPE_CHECKING:
    from splitlab.core.client import Client


class TopK(Defense):
    """Keep the `keep` numbers of each image's z largest in magnitude; set the others to zero.

    The smallest of the kept ones may occur several times: then which of them stays is torch's
    choice. Which numbers were kept says something about the image, too.

    Args:
        keep: How many, at least 1. Where z has no more than that, all stay.

    Raises:
        ValueError: If `keep` is not a whole number of at least 1.
    """

    def __init__(self, keep: int) -> None:
        self.keep = count("keep", keep, least=1)

    def __repr__(self) -> str:
        return f"TopK({self.keep})"

    def smash(self, client: Client, turn: Turn, z: Tensor) -> Tensor:
        """Return z, (B, ...), with its small numbers set to zero."""
        return self.pruned(z)

    def pruned(self, z: Tensor) -> Tensor:
        """Return any z, (B, ...), pruned in the same way, with a graph to what is kept."""
        rows = z.flatten(1)
        kept = rows.abs().topk(min(self.keep, rows.shape[1]), dim=1).indices
        mask = rows.new_zeros(rows.shape).scatter(1, kept, 1.0)
        return (rows * mask).view_as(z)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that keeps an eighth of z."""
        return cls(64)

"""Secret transforms of z at the client: a projection, and a shuffle of patches.

Practitioners reach for them because they are cheap. No theorem protects what they hide: both are
linear, and someone who has pairs of images and z learns to undo them. The seed is the secret; who
guesses it has everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from splitlab.arguments import count, flag, generator
from splitlab.arguments import seed as whole
from splitlab.core.client import Defense, Turn
from splitlab.data import ImageData
from splitlab.nets.shapes import output_of

if TYPE_CHECKING:
    from splitlab.core.client import Client


class OrthogonalProjection(Defense):
    """Send a secret rotation of z, or its projection on a few of the rotated directions.

    Each image's z is flattened to n numbers and multiplied by a random orthogonal matrix. The first
    `keep` results are sent, followed by zeros, so that z keeps its shape.

    Args:
        keep: Directions that are sent, at least 1; None for all of them.
        seed: Makes the matrix, which stays the same for the whole run; the client's secret.

    Raises:
        ValueError: If `keep` is not a whole number of at least 1.
    """

    PASSING = ("matrix",)  # made from the seed

    def __init__(self, keep: int | None = None, *, seed: int) -> None:
        self.keep = None if keep is None else count("keep", keep, least=1)
        self.seed = whole(seed)
        self.matrix: Tensor | None = None

    def __repr__(self) -> str:
        return f"OrthogonalProjection({self.keep})"

    def prepare(self, client: Client) -> None:
        """Check that z has at least `keep` numbers.

        Raises:
            ValueError: If it has not.
        """
        self._check(z_of_one_image(client))

    def smash(self, client: Client, turn: Turn, z: Tensor) -> Tensor:
        """Return z, (B, ...), in secret coordinates.

        Raises:
            ValueError: If z has fewer numbers than `keep`.
        """
        self._check(z)
        rows = z.flatten(1)
        n = rows.shape[1]
        if self.matrix is None or len(self.matrix) != n:
            self.matrix = orthogonal(n, seed=self.seed)
        sent = rows @ self.matrix.to(rows).T
        if self.keep is not None:
            sent = torch.cat([sent[:, : self.keep], torch.zeros_like(sent[:, self.keep :])], dim=1)
        return sent.view_as(z)

    def _check(self, z: Tensor) -> None:
        n = z[0].numel()
        if self.keep is not None and self.keep > n:
            raise ValueError(f"keep is {self.keep} and z has {n} numbers: choose at most {n}")

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that sends an eighth of the directions."""
        return cls(64, seed=1)


class PatchShuffle(Defense):
    """Move square patches of z, (C, H, W), to other places.

    Args:
        patch: Side of a patch in places of z, at least 1; divides H and W.
        fresh: Whether each image gets an order of its own, anew each time that it is sent. Then not
            even the honest server knows where a patch comes from. By default one secret order
            serves for the whole run.
        seed: Makes that order; the client's secret.

    Raises:
        ValueError: If `patch` is not a whole number of at least 1.
    """

    def __init__(self, patch: int = 1, *, fresh: bool = False, seed: int = 0) -> None:
        self.patch = count("patch", patch, least=1)
        self.fresh, self.seed = flag("fresh", fresh), whole(seed)

    def __repr__(self) -> str:
        return f"PatchShuffle({self.patch}{', fresh' if self.fresh else ''})"

    def prepare(self, client: Client) -> None:
        """Check that patches tile z.

        Raises:
            ValueError: If they do not.
        """
        self._check(z_of_one_image(client))

    def smash(self, client: Client, turn: Turn, z: Tensor) -> Tensor:
        """Return z, (B, C, H, W), with its patches in another order.

        Raises:
            ValueError: If z has no height and width, or patches do not tile it.
        """
        self._check(z)
        patch = self.patch
        b, c, h, w = z.shape
        tiles = z.view(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 1, 3, 5)
        tiles = tiles.reshape(b, -1, c, patch, patch)
        order = self._order(b, tiles.shape[1]).to(z.device)
        moved = tiles.gather(1, order[:, :, None, None, None].expand_as(tiles))
        moved = moved.view(b, h // patch, w // patch, c, patch, patch).permute(0, 3, 1, 4, 2, 5)
        return moved.reshape(b, c, h, w)

    def _check(self, z: Tensor) -> None:
        patch = self.patch
        if z.dim() != 4 or z.shape[2] % patch or z.shape[3] % patch:
            raise ValueError(
                f"z has shape {tuple(z.shape[1:])} for an image, and patches of {patch} places do "
                "not tile it: choose a side that divides its height and its width"
            )

    def _order(self, images: int, patches: int) -> Tensor:
        """Return which patch goes to which place, (images, patches)."""
        if self.fresh:
            return torch.rand(images, patches).argsort(1)
        return torch.randperm(patches, generator=generator(self.seed)).expand(images, -1)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that draws an order for each image."""
        return cls(2, fresh=True)


def z_of_one_image(client: Client) -> Tensor:
    """Return the output of f for the client's first image, (1, ...), without its defenses."""
    images, do = client.data.x[:1], "give the client a network for its images"
    return output_of("the client's network", client.net, images, what="images", do=do)


def orthogonal(n: int, *, seed: int) -> Tensor:
    """Return a random orthogonal matrix, (n, n) in float64: the Haar measure (Mezzadri, 2007)."""
    q, r = torch.linalg.qr(torch.randn(n, n, generator=generator(seed), dtype=torch.float64))
    return torch.mul(q, r.diag().sign())

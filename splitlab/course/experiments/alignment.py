"""How an attacker undoes a secret transform of z: from pairs, or from statistics alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, quadratic_assignment
from torch import Tensor

STARTS = 20


def rotated_back(sent: Tensor, plain: Tensor, z: Tensor) -> Tensor:
    """Undo a secret rotation, estimated from pairs (orthogonal Procrustes, Schoenemann, 1966).

    Args:
        sent: z as sent, (n, ...), of images that the attacker knows.
        plain: f of the same images, (n, ...).
        z: What is to be rotated back, (N, ...).

    Returns:
        In z's shape; along directions in which no pair says anything, an arbitrary rotation.
    """
    a, b = sent.flatten(1).double(), plain.flatten(1).double()
    u, _, v = torch.linalg.svd(a.T @ b)
    return (z.flatten(1).double() @ (u @ v)).view_as(z).to(z)


def matched_places(sent: Tensor, own: Tensor) -> Tensor:
    """Find the secret order of places from z of unknown images, with no pair.

    Which places depend on each other is a property of images and of convolutions, and hardly of
    the weights: neighbors do. So the table of dependences between the places of z as sent is
    matched to that of the attacker's own z (quadratic assignment).

    Args:
        sent: z with its places in a secret order, (n, C, H, W).
        own: z of other images by f or by a network like it, (m, C, H, W).

    Returns:
        int64 (H * W): the place in `sent` of each place.
    """
    theirs, ours = _dependence(sent), _dependence(own)
    options = {"maximize": True}
    best, found = -np.inf, np.arange(len(ours))
    for start in range(STARTS):
        rng = np.random.default_rng(start)
        first = quadratic_assignment(
            ours, theirs, options=options | {"P0": "randomized", "rng": rng}
        ).col_ind
        guess = np.column_stack([np.arange(len(ours)), first])
        result = quadratic_assignment(
            ours, theirs, method="2opt", options=options | {"partial_guess": guess, "rng": rng}
        )
        if result.fun > best:
            best, found = result.fun, result.col_ind
    return torch.from_numpy(found.astype(np.int64))


def sorted_patches(z: Tensor, own: Tensor, patch: int) -> Tensor:
    """Move the patches of each z back to their most probable places.

    Each place's patches are taken to be normal, with the mean and the variances of the attacker's
    own; an image's patches are assigned to places so that the sum of log densities is largest.

    Args:
        z: With the patches of each row in an order of its own, (N, C, H, W).
        own: f of public images, (m, C, H, W).
        patch: Side of a patch.

    Returns:
        z with its patches sorted, (N, C, H, W).
    """
    theirs, ours = _tiles(z, patch), _tiles(own, patch)
    mean, variance = ours.mean(0), ours.var(0) + 1e-2 * ours.var(0).mean()
    aside = (theirs[:, :, None] - mean) ** 2 / variance + variance.log()
    costs = aside.sum(-1).double().cpu().numpy()  # (N, patches, places)
    back = [theirs[i][linear_sum_assignment(cost.T)[1]] for i, cost in enumerate(costs)]
    return _untiled(torch.stack(back), z, patch)


def _dependence(z: Tensor) -> NDArray[np.float64]:
    """Linear dependence between places (RV coefficients), (places, places)."""
    places = z.flatten(2).permute(2, 0, 1).double()
    places = places - places.mean(1, keepdim=True)
    products = (places @ places.mT).flatten(1)
    products = products / products.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (products @ products.T).cpu().numpy()


def _tiles(z: Tensor, patch: int) -> Tensor:
    """(N, C, H, W) -> (N, patches, C * patch * patch)."""
    n, c, h, w = z.shape
    tiles = z.view(n, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 1, 3, 5)
    return tiles.reshape(n, (h // patch) * (w // patch), c * patch * patch)


def _untiled(tiles: Tensor, like: Tensor, patch: int) -> Tensor:
    n, c, h, w = like.shape
    z = tiles.view(n, h // patch, w // patch, c, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return z.reshape(n, c, h, w)

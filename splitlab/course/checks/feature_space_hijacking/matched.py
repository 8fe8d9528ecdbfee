"""Exercise 2: the share of reconstructions that are nearest to the right private image."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from splitlab.course.checks.judge import exercise


def _errors(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] - b[None]).square().flatten(2).sum(2)


def _hits(errors: Tensor) -> Tensor:
    return (errors.argmin(dim=1) == torch.arange(len(errors))).double()


def _likeness(a: Tensor, b: Tensor) -> Tensor:
    rows = [F.normalize(t.flatten(1) - t.flatten(1).mean(1, keepdim=True)) for t in (a, b)]
    return rows[0] @ rows[1].T


def _noisy(count: int, *shape: int, noise: float = 1.2) -> tuple[Tensor, Tensor]:
    """Reconstructions of some private images, with various brightnesses and contrasts."""
    private = 2 * torch.rand(count, *shape) - 1
    contrast = 0.3 + torch.rand(count, 1, 1, 1)
    return contrast * (private + noise * torch.randn_like(private)) + 0.3, private


def _gray() -> tuple[Tensor, Tensor]:
    """Black and white images, all 2^6 of them: a gray one is equally far from all."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 6).reshape(64, 1, 2, 3)
    return torch.zeros_like(corners), corners


def _without_luck(share: Any, reconstructions: Tensor, private: Tensor) -> Any:
    """Count a tie between all images as no match, also where the answer counts it as one."""
    if reconstructions.std() > 0:
        return share
    return max(float(share) - 1 / len(private), 0.0)


@exercise(
    cases=[
        lambda: _noisy(30, 2, 3, 4),
        lambda: _noisy(17, 1, 5, 2, noise=0.8),
        lambda: _noisy(24, 3, 2, 3),
        lambda: (-(private := torch.randn(9, 1, 2, 2)), private),
        lambda: (torch.rand(1, 1, 2, 3), torch.rand(1, 1, 2, 3)),
        _gray,
    ],
    returns="the share",
    tolerance=1e-6,
    use=_without_luck,
    praise="only the right image counts, and an image equally near to all of them is no match.",
    otherwise="the share is not right: compare every reconstruction with every private image, over "
    "all channels and pixels, and count where the nearest one has the same index",
    slips={
        "the share is taken over the wrong axis: for each reconstruction look for the nearest "
        "private image, not for each private image the nearest reconstruction": (
            lambda a, b: _hits(_errors(b, a)).mean()
        ),
        "the farthest private image is taken for the nearest: the smallest distance counts": (
            lambda a, b: _hits(-_errors(a, b)).mean()
        ),
        "this is a percentage: return the share, from 0 to 1": (
            lambda a, b: 100 * _hits(_errors(a, b)).mean()
        ),
        "this is the number of matches: divide it by the number of reconstructions": (
            lambda a, b: _hits(_errors(a, b)).sum()
        ),
        "this is the share of reconstructions that are not matched": (
            lambda a, b: 1 - _hits(_errors(a, b)).mean()
        ),
        "the nearest image is chosen by correlation, which ignores brightness and contrast: use "
        "the squared error": lambda a, b: _hits(-_likeness(a, b)).mean(),
        "the nearest image is chosen by the absolute error: use the squared error": (
            lambda a, b: _hits(torch.cdist(a.flatten(1), b.flatten(1), p=1)).mean()
        ),
        "only the first pixel is compared: the distance runs over all of an image's numbers": (
            lambda a, b: _hits(_errors(a[..., :1, :1, :1], b[..., :1, :1, :1])).mean()
        ),
        "only the first channel is compared: the distance runs over all of an image's numbers": (
            lambda a, b: _hits(_errors(a[:, :1], b[:, :1])).mean()
        ),
        "a constant gray image for every image scores as if it were right: it is equally near to "
        "all private images, which counts as no match, or as one match in all": (
            lambda a, b: (_errors(a, b).diagonal() <= _errors(a, b).amin(1)).double().mean()
        ),
    },
)
def matched(reconstructions: Tensor, private: Tensor) -> Tensor:
    return _hits(_errors(reconstructions, private)).mean()

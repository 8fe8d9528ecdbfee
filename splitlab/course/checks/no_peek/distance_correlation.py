"""Exercise 2: the distance correlation of images and z, which the client minimizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Part = Callable[[Tensor], Tensor]


def _case(count: int, channels: int, side: int, *shape: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """Images, and a z that depends on them."""

    def case() -> tuple[Tensor, Tensor]:
        x = torch.randn(count, channels, side, side)
        z = torch.randn(count, *shape).flatten(1)
        z[:, 0] += 2 * x.flatten(1)[:, 0] ** 2
        return x, z.view(count, *shape).requires_grad_()

    return case


def _distances(samples: Tensor) -> Tensor:
    rows = samples.flatten(1)
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _with_a_root_at_0(samples: Tensor) -> Tensor:
    """The same distances, with a root that has no gradient at 0."""
    rows = samples.flatten(1)
    return (rows[:, None] - rows[None]).square().sum(2).sqrt()


def _centered(d: Tensor) -> Tensor:
    return d - d.mean(0, keepdim=True) - d.mean(1, keepdim=True) + d.mean()


def _share(a: Tensor, b: Tensor) -> Tensor:
    """The fraction below the outer root."""
    return (a * b).mean() / ((a * a).mean() * (b * b).mean()).sqrt()


def _with(
    *,
    distances: Part = _distances,
    centered: Part = _centered,
    of_x: Part = lambda x: x,
    of_z: Part = lambda z: z,
    value: Callable[[Tensor, Tensor], Tensor] = lambda a, b: _share(a, b).sqrt(),
) -> Callable[[Tensor, Tensor], Any]:
    """An answer that has one part wrong."""
    return lambda x, z: value(centered(distances(of_x(x))), centered(distances(of_z(z))))


@exercise(
    cases=[
        _case(6, 2, 2, 8),  # as many pixels as numbers in z
        _case(5, 1, 3, 2, 2, 2),
        _case(12, 2, 4, 3, 2, 2),
        _case(8, 1, 2, 5),
    ],
    returns="the distance correlation",
    tolerance=1e-6,  # torch.cdist may round by inner products
    praise="it is the statistic that NoPeek adds to the client's loss, and f can minimize it.",
    otherwise="the distance correlation is not right: with the double-centered Euclidean distances "
    "A between images and B between rows of z it is sqrt(mean(A B) / sqrt(mean(A A) mean(B B)))",
    slips={
        "the outer root is missing: the fraction is the square of the distance correlation": (
            _with(value=_share)
        ),
        "the distances are squared, which only sees linear dependence: take the root of the sum of "
        "squares": _with(distances=lambda rows: _distances(rows) ** 2),
        "these are sums of absolute differences: take Euclidean distances": _with(
            distances=lambda s: (s.flatten(1)[:, None] - s.flatten(1)[None]).abs().sum(2)
        ),
        "the distances are not centered, so every distance looks like dependence: double-center "
        "both matrices": _with(centered=lambda d: d),
        "the distances are centered by rows only: subtract the means of the columns, too, and add "
        "the mean of all": _with(centered=lambda d: d - d.mean(1, keepdim=True)),
        "only the mean of all distances is subtracted: this is the correlation of the distances as "
        "numbers, so double-center them": _with(centered=lambda d: d - d.mean()),
        "the mean of all distances is missing in the centering: add it": _with(
            centered=lambda d: d - d.mean(0, keepdim=True) - d.mean(1, keepdim=True)
        ),
        "the inner root is missing: the denominator is sqrt(mean(A A) mean(B B))": _with(
            value=lambda a, b: ((a * b).mean() / ((a * a).mean() * (b * b).mean())).sqrt()
        ),
        "the denominator is missing: this is the distance covariance, which depends on the units, "
        "so divide by sqrt(mean(A A) mean(B B))": _with(value=lambda a, b: (a * b).mean().sqrt()),
        "the denominator is the mean of A A alone: it has z's mean(B B), too, and a root over "
        "their product": _with(value=lambda a, b: ((a * b).mean() / (a * a).mean()).sqrt()),
        "the denominator is the mean of B B alone: it has the images' mean(A A), too, and a root "
        "over their product": _with(value=lambda a, b: ((a * b).mean() / (b * b).mean()).sqrt()),
        "the means in the denominator are added: multiply them": _with(
            value=lambda a, b: ((a * b).mean() / ((a * a).mean() + (b * b).mean())).sqrt()
        ),
        "A and B are multiplied as matrices: multiply them number by number": _with(
            value=lambda a, b: ((a @ b).mean() / ((a @ a).mean() * (b @ b).mean()).sqrt()).sqrt()
        ),
        "the distances are between pixels: flatten each image, and take distances between the "
        "images": _with(distances=lambda samples: _distances(samples.flatten(1).T)),
        "the images and z themselves are correlated: take distances between the rows of each, and "
        "correlate these": lambda x, z: _share(
            x.flatten(1) - x.mean(), z.flatten(1) - z.mean()
        ).sqrt(),
        "the gradient to z is nan: the root has no slope at 0, and the distance of a row to itself "
        "is 0; use torch.cdist, or add 1e-12 to the squares": _with(distances=_with_a_root_at_0),
        "the denominator is detached: z can also change the statistic through mean(B B), so its "
        "gradient belongs to it": _with(
            value=lambda a, b: (
                (a * b).mean() / ((a * a).mean() * (b * b).mean()).sqrt().detach()
            ).sqrt()
        ),
    },
)
def distance_correlation(x: Tensor, z: Tensor) -> Tensor:
    result: Tensor = _with()(x, z)
    return result

"""Exercise 2: noise on z, after each row is clipped to a norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Map = Callable[[Tensor, float], Tensor]


def _case(
    *shape: int, norm: float, sigma: float, learns: bool = False
) -> Callable[[], tuple[Tensor, float, float]]:
    """Rows that are longer or shorter than the norm; one is 0, unless f learns."""

    def case() -> tuple[Tensor, float, float]:
        z = torch.randn(shape)
        rows = z.flatten(1)
        lengths = norm * (0.2 + 2 * torch.rand(len(z)))
        lengths[:2] = torch.tensor([1.7 * norm, 0.3 * norm])[: len(z)]
        z = (rows / rows.norm(dim=1, keepdim=True) * lengths[:, None]).view(shape)
        if len(z) > 2 and not learns:
            z[2] = 0
        return z.requires_grad_(learns), norm, sigma

    return case


def _by_row(values: Tensor, z: Tensor) -> Tensor:
    return values.view(-1, *[1] * (z.dim() - 1))


def _rows(z: Tensor, order: float = 2) -> Tensor:
    return _by_row(z.flatten(1).norm(order, dim=1), z)


def _channels(z: Tensor) -> Tensor:
    """The length of each channel; of each row, where there are no channels."""
    if z.dim() == 2:
        return _rows(z)
    lengths: Tensor = z.flatten(2).norm(dim=2)
    return lengths.view(*z.shape[:2], *[1] * (z.dim() - 2))


def _clipped(z: Tensor, norm: float) -> Tensor:
    return z * (norm / _rows(z).clamp_min(norm))


def _at_most(norms: Tensor, norm: float) -> Tensor:
    """The factor that shortens these norms."""
    return norm / norms.clamp_min(norm)


def _noise(z: Tensor) -> Tensor:
    return torch.randn(z.shape, dtype=z.dtype)


def _with(
    *,
    clip: Map = _clipped,
    noise: Callable[[Tensor], Tensor] = _noise,
    size: Callable[[float, float], float] = lambda norm, sigma: sigma,
) -> Callable[[Tensor, float, float], Tensor]:
    """An answer that has one part wrong."""
    return lambda z, norm, sigma: clip(z, norm) + size(norm, sigma) * noise(z)


def _scaled_with_its_noise(z: Tensor, norm: float, sigma: float) -> Tensor:
    return (z + sigma * _noise(z)) * _at_most(_rows(z), norm)


def _and_what_is_drawn_next(result: Any, *_: Any) -> Any:
    """Add the next random number to the result: it shows how many were drawn before."""
    shift = torch.rand(())
    if isinstance(result, Tensor) and result.is_floating_point():
        result.data.add_(shift)
    return result


@exercise(
    cases=[
        _case(5, 3, 2, 2, norm=2.0, sigma=0.3),
        _case(4, 6, norm=3.0, sigma=1.5, learns=True),
        _case(3, 2, 4, 4, norm=0.5, sigma=0.2, learns=True),
        _case(1, 9, norm=4.0, sigma=0.6),
    ],
    returns="the release",
    use=_and_what_is_drawn_next,
    tolerance=1e-6,  # torch.renorm adds 1e-7 to each norm
    praise="the norm and sigma determine the privacy of each row, whatever f computes.",
    otherwise="the release is not right: multiply each row of z by min(1, norm / its length), and "
    "add sigma * torch.randn_like(z), drawn in one call and once",
    slips={
        "the noise is added before the clip: a row that is clipped afterward has less noise than "
        "sigma, so clip first": lambda z, norm, sigma: _clipped(z + sigma * _noise(z), norm),
        "the noise is shortened together with its row: multiply z alone by the factor, and then "
        "add the noise": _scaled_with_its_noise,
        "nothing is clipped: f can learn a z that is longer than any noise, so shorten each row to "
        "the norm first": _with(clip=lambda z, norm: z),
        "there is no noise: add sigma * torch.randn_like(z)": lambda z, norm, sigma: _clipped(
            z, norm
        ),
        "the batch is clipped as a whole: then a row depends on the others, so clip each row by "
        "its own length": _with(clip=lambda z, norm: z * _at_most(z.norm(), norm)),
        "short rows are lengthened to the norm: a row that is shorter stays as it is, so the "
        "factor is at most 1": _with(clip=lambda z, norm: z * (norm / _rows(z))),
        "long rows stay and short ones are lengthened: the factor is at most 1, so take the "
        "minimum of 1 and norm / length": _with(
            clip=lambda z, norm: z * (norm / _rows(z)).clamp_min(1)
        ),
        "a row of zeros becomes nan: divide the norm by a length that is above 0, and leave short "
        "rows alone": _with(clip=lambda z, norm: z / _rows(z) * _rows(z).clamp_max(norm)),
        "each number is clipped by itself: a row of many numbers is then longer than the norm, so "
        "clip by the length of the row": _with(clip=lambda z, norm: z.clamp(-norm, norm)),
        "each place is clipped over its channels: take the length of a row over all its "
        "numbers": _with(clip=lambda z, norm: z * _at_most(z.norm(dim=1, keepdim=True), norm)),
        "each channel is clipped by itself: take the length of a row over all its numbers": _with(
            clip=lambda z, norm: z * _at_most(_channels(z), norm)
        ),
        "the rows are clipped by their L1 norm: Gaussian noise needs the Euclidean one": _with(
            clip=lambda z, norm: z * _at_most(_rows(z, 1), norm)
        ),
        "the rows are clipped by their largest number: take the Euclidean norm": _with(
            clip=lambda z, norm: z * _at_most(_rows(z, torch.inf), norm)
        ),
        "the lengths are not under a root: take the root of the sum of squares": _with(
            clip=lambda z, norm: z * _at_most(_rows(z) ** 2, norm)
        ),
        "the noise is multiplied by the norm: here sigma is its standard deviation already": _with(
            size=lambda norm, sigma: sigma * norm
        ),
        "the noise has the standard deviation 1: multiply it by sigma": _with(
            size=lambda norm, sigma: 1.0
        ),
        "sigma is taken for the variance: it is the standard deviation, so multiply by sigma "
        "itself": _with(size=lambda norm, sigma: sigma**0.5),
        "the noise is multiplied by the square of sigma: multiply it by sigma": _with(
            size=lambda norm, sigma: sigma**2
        ),
        "the noise is subtracted, which is as private: to be compared here it has to be added": (
            _with(size=lambda norm, sigma: -sigma)
        ),
        "all rows get the same noise: the server subtracts one row from another and is rid of it, "
        "so draw noise in the shape of z": _with(noise=lambda z: _noise(z[:1])),
        "all numbers of a row get the same noise: the server subtracts one number from another, so "
        "draw noise in the shape of z": _with(
            noise=lambda z: _by_row(_noise(z.flatten(1)[:, 0]), z)
        ),
        "the noise is uniform from 0 to 1, which says nothing about epsilon: take "
        "torch.randn_like(z)": _with(noise=lambda z: torch.rand(z.shape, dtype=z.dtype)),
        "the noise is drawn twice and the first draw is not used: draw it once": _with(
            noise=lambda z: [_noise(z), _noise(z)][1]
        ),
        "the factor is detached, so f does not learn that a longer row is clipped: let the "
        "gradient go through it, too": _with(
            clip=lambda z, norm: z * _at_most(_rows(z), norm).detach()
        ),
    },
)
def private_release(z: Tensor, norm: float, sigma: float) -> Tensor:
    return _with()(z, norm, sigma)

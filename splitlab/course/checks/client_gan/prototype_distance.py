"""Exercise 1: how far generated images are from the nearest real ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise


def _case(
    count: int, others: int, *shape: int, scale: float = 1
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Generated images near some of the real ones, each of which comes in two contrasts."""

    def case() -> tuple[Tensor, Tensor]:
        real = scale * (torch.randn(others, *shape) + torch.randn(others, 1, 1, 1))
        real[others // 2 :] = 1.5 * real[: others - others // 2] + 0.1 * scale * torch.randn(shape)
        near = real[torch.randint(0, (others + 1) // 2, (count,))]
        return near + scale * torch.rand(count, 1, 1, 1) * torch.randn(count, *shape), real

    return case


def _squares(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] - b[None]).square()


def _errors(a: Tensor, b: Tensor) -> Tensor:
    return _squares(a, b).flatten(2).mean(2)


@exercise(
    cases=[
        _case(5, 8, 2, 3, 4),
        _case(9, 4, 3, 4, 2),
        _case(6, 6, 1, 2, 5, scale=100),
        _case(1, 7, 2, 2, 3),
        _case(4, 1, 3, 2, 2),
    ],
    returns="the distance",
    praise="each generated image is compared with the real image nearest to it, and 0 would mean "
    "copies.",
    otherwise="the distance is not right: for each generated image take the mean squared error to "
    "every real one, over all channels and pixels, keep the smallest, and take the mean of these",
    slips={
        "the minimum is taken over the wrong axis: for each generated image look for the nearest "
        "real one, not for each real image the nearest generated one": (
            lambda a, b: _errors(b, a).amin(1).mean()
        ),
        "this is the mean over all pairs: keep only the nearest real image of each generated "
        "one": lambda a, b: _errors(a, b).mean(),
        "the farthest real image is taken for the nearest: amin, not amax": (
            lambda a, b: _errors(a, b).amax(1).mean()
        ),
        "this is the distance of the one best generated image: take the mean over all generated "
        "images": lambda a, b: _errors(a, b).min(),
        "this is the distance of the one worst generated image: take the mean over all generated "
        "images": lambda a, b: _errors(a, b).amin(1).max(),
        "this is a sum over the generated images: take the mean": (
            lambda a, b: _errors(a, b).amin(1).sum()
        ),
        "the squared error is summed over an image's numbers: take the mean, so that images of "
        "different sizes can be compared": (
            lambda a, b: _squares(a, b).flatten(2).sum(2).amin(1).mean()
        ),
        "the squared error is summed over the channels: take the mean over channels and pixels": (
            lambda a, b: _squares(a, b).sum(2).flatten(2).mean(2).amin(1).mean()
        ),
        "a root is taken of each error: the mean squared error is used as it is": (
            lambda a, b: _errors(a, b).amin(1).sqrt().mean()
        ),
        "a root is taken at the end: the mean squared error is used as it is": (
            lambda a, b: _errors(a, b).amin(1).mean().sqrt()
        ),
        "this is the mean absolute error: square the differences": (
            lambda a, b: (a[:, None] - b[None]).abs().flatten(2).mean(2).amin(1).mean()
        ),
        "this is the error to the mean real image, which looks like no image: compare with each "
        "real image": lambda a, b: _errors(a, b.mean(0, keepdim=True)).mean(),
        "this is the error of the mean generated image: compare each generated image by itself": (
            lambda a, b: _errors(a.mean(0, keepdim=True), b).amin(1).mean()
        ),
        "image i is compared with real image i alone: a generated image has no number of its own, "
        "so look for the nearest": lambda a, b: torch.stack(
            [(x - y).square().mean() for x, y in zip(a, b, strict=False)]
        ).mean(),
        "each pixel looks for its own nearest real image: choose one image for all channels and "
        "pixels": lambda a, b: _squares(a, b).amin(1).mean(),
        "only the first channel is compared: the error runs over all channels": (
            lambda a, b: _errors(a[:, :1], b[:, :1]).amin(1).mean()
        ),
    },
)
def prototype_distance(generated: Tensor, real: Tensor) -> Tensor:
    return _errors(generated, real).amin(1).mean()

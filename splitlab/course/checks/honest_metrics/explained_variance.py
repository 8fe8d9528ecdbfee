"""Exercise 2: the share of the true images' variance that is explained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splitlab.course.checks.honest_metrics.images import errors, guesses
from splitlab.course.checks.judge import exercise


def _case(*shape: int, low: float, high: float) -> Callable[[], tuple[Tensor, Tensor]]:
    return lambda: guesses(*shape, low=low, high=high)


def _worse_than_the_mean() -> tuple[Tensor, Tensor]:
    reconstructed, true = guesses(9, 1, 4, 5, low=-1, high=1)
    return reconstructed.flip(0), true


def _some_twice() -> tuple[Tensor, Tensor]:
    reconstructed, true = guesses(4, 1, 2, 3, low=-1, high=1)
    return reconstructed[[0, 0, 0, 1, 2, 3]], true[[0, 0, 0, 1, 2, 3]]


def _with(
    about: Callable[[Tensor, Tensor], Tensor] = lambda a, b: b.mean(0),
    *,
    of: Callable[[Tensor, Tensor], Tensor] = lambda a, b: b,
    mean: Callable[[Tensor], Tensor] = torch.mean,
    share: Callable[[Tensor], Tensor] = lambda ratio: (1 - ratio).mean(),
) -> Callable[[Tensor, Tensor], Tensor]:
    """An answer with deviations from another mean or of other images, or with another division."""
    return lambda a, b: share(mean(errors(a, b)) / mean(errors(of(a, b), about(a, b))))


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]


@exercise(
    cases=[
        _case(9, 2, 4, 5, low=-1, high=1),
        _worse_than_the_mean,
        _case(6, 3, 3, 4, low=0, high=1),
        _case(40, 2, 5, 3, low=0, high=255),
        _case(5, 1, 2, 2, low=-5, high=-2),
        _case(7, 1, 3, 2, low=0, high=1e-3),
        _case(2, 1, 1, 2, low=2, high=5),
        _some_twice,
    ],
    returns="the share",
    tolerance=1e-6,  # the share of images in single precision is as good
    praise="0 is as good as the mean image, 1 is perfect, and the pixels' scale does not matter.",
    otherwise="the share is not right: it is 1 minus the mean squared error over the mean squared "
    "deviation of the true images from their mean image",
    slips={
        "the deviation is taken from one gray value for all pixels: then the mean image already "
        "explains part of the variance; take the mean over the images only": _with(
            lambda a, b: b.mean()
        ),
        "the deviation is taken from each image's own gray value: take the mean over the images, "
        "which is an image": _with(lambda a, b: b.mean((1, 2, 3), keepdim=True)),
        "the deviation is taken from each channel's mean value: take the mean over the images "
        "alone, which is an image": _with(lambda a, b: b.mean((0, 2, 3), keepdim=True)),
        "the deviation is taken from the mean of the reconstructions: the true images are what "
        "is to be explained": _with(lambda a, b: a.mean(0)),
        "this is the variance of the reconstructions: the true images are what is to be "
        "explained": _with(lambda a, b: a.mean(0), of=lambda a, b: a),
        "the ratio is upside down: the error is divided by the deviation": _with(
            share=lambda ratio: 1 - 1 / ratio
        ),
        "this is the share that is not explained: subtract it from 1": _with(
            share=lambda ratio: ratio
        ),
        "this is a squared correlation: it forgives a wrong brightness and a wrong contrast, even "
        "an inverted image, and this figure forgives none of them": (
            lambda a, b: _correlation(a, b).square()
        ),
        "this is a squared correlation of deviations from the mean image: it forgives a wrong "
        "contrast, and this figure does not": (
            lambda a, b: _correlation(a - b.mean(0), b - b.mean(0)).square()
        ),
        "this is the variance of the errors: an error that is the same everywhere counts, too, so "
        "take their mean square": lambda a, b: (
            1 - (a - b).var(correction=0) / b.var(0, correction=0).mean()
        ),
        "the squared deviations are divided by N - 1: the error is a mean over N images, and so "
        "is what it is compared with": lambda a, b: 1 - errors(a, b).mean() / b.var(0).mean(),
        "the share is computed for each pixel, and then averaged: divide the mean error by the "
        "mean deviation, once": _with(mean=lambda e: e.mean(0)),
        "the share is computed for each image, and then averaged: divide the mean error by the "
        "mean deviation, once": _with(mean=lambda e: e.mean(1)),
        "the roots are divided: take the squared error over the squared deviation": _with(
            share=lambda ratio: 1 - ratio.sqrt()
        ),
        "true itself is changed: write true - mean, and not true -= mean": (
            lambda a, b: _with(lambda a, b: b.new_zeros(()))(a, b.sub_(b.mean(0)))
        ),
        "a share below 0 is cut off: it says that the mean image would have been a better guess": (
            _with(share=lambda ratio: (1 - ratio).clamp(min=0))
        ),
    },
)
def explained_variance(reconstructed: Tensor, true: Tensor) -> Tensor:
    return _with()(reconstructed, true)

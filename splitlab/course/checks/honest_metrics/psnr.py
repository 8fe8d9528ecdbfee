"""Exercise 1: the peak signal-to-noise ratio of a whole set of images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.guard import wrong
from splitlab.course.checks.honest_metrics.images import errors, guesses
from splitlab.course.checks.judge import exercise

Range = tuple[float, float]
MANY = 131  # images: a prime, so that no batch size leaves nothing over


def _case(*shape: int, low: float, high: float) -> Callable[[], tuple[Tensor, Tensor, Range]]:
    return lambda: (*guesses(*shape, low=low, high=high), (low, high))


def _identical() -> tuple[Tensor, Tensor, Range]:
    true = torch.rand(3, 1, 4, 4)
    return true.clone(), true, (0, 1)


def _nearly_identical() -> tuple[Tensor, Tensor, Range]:
    true = torch.randint(33, 64, (3, 1, 4, 4)) / 64  # single precision holds all of it exactly
    return true + 2**-18 * torch.randn(3, 1, 4, 4).sign(), true, (0, 1)


def _out_of_range() -> tuple[Tensor, Tensor, Range]:
    return (3 * torch.randn(4, 1, 3, 2)).round(), torch.rand(4, 1, 3, 2).round(), (-1, 1)


def _infinite_where_equal(ratio: Any, a: Tensor, b: Tensor, value_range: Range) -> Any:
    if torch.equal(a, b) and ratio not in (None, math.inf):
        wrong(
            f"identical images get {float(ratio):.4g} where the ratio is infinite: their error is "
            "0, and nothing should be added to it"
        )
    return ratio


def _length(a: Tensor, b: Tensor, value_range: Range) -> float:
    return value_range[1] - value_range[0]


def _with(
    error: Callable[[Tensor], Any] = torch.mean,
    *,
    peak: Callable[[Tensor, Tensor, Range], Any] = _length,
    scale: Callable[[Any], Any] = lambda ratio: 10 * torch.log10(ratio),
) -> Callable[[Tensor, Tensor, Range], Any]:
    """An answer with another mean of the squared errors (N, D), range or logarithm."""
    return lambda a, b, value_range: scale(peak(a, b, value_range) ** 2 / error(errors(a, b)))


def _mean_of_means(size: int) -> Callable[[Tensor], Tensor]:
    return lambda e: torch.stack([batch.mean() for batch in e.split(size)]).mean()


def _mean_of_first(count: int) -> Callable[[Tensor], Tensor]:
    return lambda e: e[:count].mean()


@exercise(
    cases=[
        _case(MANY, 1, 3, 2, low=-0.5, high=3),
        _case(5, 3, 3, 4, low=0, high=1),
        _case(4, 2, 6, 3, low=-1, high=1),
        _case(2, 1, 3, 3, low=-5, high=-2),
        _identical,
        _nearly_identical,
        _out_of_range,
        _case(1, 1, 1, 1, low=0, high=255),
    ],
    returns="the ratio",
    tolerance=1e-6,  # the ratio of images in single precision is as good
    use=_infinite_where_equal,
    praise="the same pictures have the same ratio in any value range.",
    otherwise="the ratio is not right: it is 10 times the decimal logarithm of the range's length, "
    "squared, over the mean squared error of all images and pixels",
    slips={
        "the pixels are taken to run from 0 to 1, whatever value_range says: on [-1, 1] the same "
        "picture then seems 6 decibels worse": _with(peak=lambda a, b, limits: 1),
        "the pixels are taken to run from -1 to 1, whatever value_range says": _with(
            peak=lambda a, b, limits: 2
        ),
        "the pixels are taken to run from 0 to 255, whatever value_range says": _with(
            peak=lambda a, b, limits: 255
        ),
        "the largest value is used instead of the length of the range: take value_range[1] - "
        "value_range[0]": _with(peak=lambda a, b, limits: limits[1]),
        "the range is read off the images: these happen to reach neither end of it, so the same "
        "error would count differently in another batch": _with(
            peak=lambda a, b, limits: b.max() - b.min()
        ),
        "the length of the range is not squared, and the error is": _with(
            peak=lambda *case: math.sqrt(_length(*case))
        ),
        "this is the mean of the images' own ratios, in which one image that comes out well makes "
        "up for many that do not: take one ratio, of the mean error": _with(
            lambda e: e.mean(1), scale=lambda ratio: 10 * torch.log10(ratio).mean()
        ),
        "the squared errors are summed: take their mean, so that the ratio does not depend on "
        "the number of images": _with(torch.sum),
        "the squared errors are summed over an image's pixels: take their mean, so that the "
        "ratio does not depend on the number of pixels": _with(lambda e: e.sum(1).mean()),
        "the absolute error is used: take the squared error": _with(lambda e: e.sqrt().mean()),
        "the ratio is upside down: a smaller error must give more decibels": _with(
            scale=lambda ratio: -10 * torch.log10(ratio)
        ),
        "this logarithm is the natural one: decibels take the decimal one": _with(
            scale=lambda ratio: 10 * torch.log(ratio)
        ),
        "the factor is 20 and should be 10: 20 belongs with the root of the error": _with(
            scale=lambda ratio: 20 * torch.log10(ratio)
        ),
        "the root of the error belongs with the factor 20, not with 10": _with(
            scale=lambda ratio: 5 * torch.log10(ratio)
        ),
        "the factor 10 is missing": _with(scale=torch.log10),
        "the logarithm is missing: the ratio is in decibels": _with(scale=lambda ratio: ratio),
        "with identical images, this divides by 0: Python's numbers raise an error there, and "
        "tensors become infinite": _with(
            lambda e: e.mean().item(), scale=lambda ratio: 10 * math.log10(ratio)
        ),
        "with identical images, math.log10 is asked for the logarithm of 0 and raises an error: "
        "torch.log10 does not": _with(scale=lambda ratio: -10 * math.log10(1 / ratio)),
        **{
            f"the error is a mean of means of batches of {size}: the last batch is smaller, and "
            "its images count for more": _with(_mean_of_means(size))
            for size in (10, 16, 20, 32, 50, 64, 100, 128)
        },
        **{
            f"the last batch is missing: only the first {count} of {MANY} images are counted, and "
            "a smaller last batch belongs to the set, too": _with(_mean_of_first(count))
            for count in (100, 120, 128, 130)
        },
    },
)
def psnr(reconstructed: Tensor, true: Tensor, value_range: Range) -> Tensor:
    ratio: Tensor = _with()(reconstructed, true, value_range)
    return ratio

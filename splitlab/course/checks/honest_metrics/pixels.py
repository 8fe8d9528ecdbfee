"""Exercises 1 and 2: figures that compare pixel with pixel."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.base import (
    Answer,
    CheckFailed,
    NotWrittenYet,
    check,
    expect_number,
    expect_right,
    wrong,
)

Range = tuple[float, float]
Formula = Callable[[Tensor, Tensor, Range], Tensor]
MANY = 131  # images: a prime, so that no batch size leaves nothing over
DECIBELS = 1e-5  # how far a ratio may be off, relative to it: some answers compute in float32
SHARE = 1e-6

# --- 1. psnr ----------------------------------------------------------------------------------


@check("the same pictures, in another range, have the same ratio.")
def psnr(answer: Answer) -> None:
    """`psnr(reconstructed, true, value_range)`: 10 log10(span^2 / MSE), of the whole set."""
    cases = [
        (*_images(shape, value_range), value_range)
        for shape, value_range in (
            ((7, 1, 4, 5), (-1.0, 1.0)),
            ((5, 3, 3, 4), (0.0, 1.0)),
            ((4, 2, 6, 3), (-0.5, 2.0)),
            ((1, 1, 3, 3), (-1.0, 1.0)),
            ((MANY, 1, 3, 2), (0, 255)),
        )
    ]
    values = [
        torch.tensor(expect_number(_undisturbed(answer, case), "the ratio")) for case in cases
    ]
    expect_right(
        [value.double() for value in values],
        cases,
        lambda a, b, limits: _ratio(_span(limits), _errors(a, b).mean()),
        _ratio_mistakes(),
        "the ratio is not right: it is 10 times the decimal logarithm of the range's length, "
        "squared, over the mean squared error of all images and pixels",
        DECIBELS,
    )
    _check_identical(answer)


def _check_identical(answer: Answer) -> None:
    """Identical images: an infinite ratio, and no crash."""
    true = _images((3, 1, 4, 4), (-1.0, 1.0))[1]
    try:
        value = expect_number(answer(true.clone(), true, (-1.0, 1.0)), "the ratio", finite=False)
    except NotWrittenYet:
        raise
    except CheckFailed as error:
        raise CheckFailed(f"with identical images, {error}") from error
    if value != math.inf:
        wrong(
            f"identical images get {value:.4g} where the ratio is infinite: their error is 0, and "
            "nothing should be added to it"
        )


def _ratio_mistakes() -> Iterator[tuple[str, Formula]]:
    """Yield (message, what it gives) of likely slips."""
    yield from _scale_mistakes()
    yield (
        "this is the mean of the images' own ratios, in which one image that comes out well makes "
        "up for many that do not: take one ratio, of the mean error",
        lambda a, b, limits: _ratio(_span(limits), _errors(a, b).mean(1)).mean(),
    )
    yield (
        "the squared errors are summed where their mean is wanted: the ratio must not depend on "
        "how many images there are",
        lambda a, b, limits: _ratio(_span(limits), _errors(a, b).sum()),
    )
    yield (
        "the squared errors are summed over an image's pixels: the ratio must not depend on how "
        "many pixels an image has",
        lambda a, b, limits: _ratio(_span(limits), _errors(a, b).sum(1).mean()),
    )
    yield (
        "the absolute error stands where the squared one is wanted",
        lambda a, b, limits: _ratio(_span(limits), _errors(a, b).sqrt().mean()),
    )
    for size in range(2, MANY):
        yield (
            f"the error is a mean of means of batches of {size}: the last batch is smaller, and "
            "its images count for more",
            functools.partial(_in_batches, size=size, whole_only=False),
        )
        yield (
            f"the last batch is missing: not all of {MANY} images are counted, only whole batches",
            functools.partial(_in_batches, size=size, whole_only=True),
        )


def _scale_mistakes() -> Iterator[tuple[str, Formula]]:
    """Yield (message, what it gives) where the range or the logarithm is wrong."""
    spans: dict[str, Callable[[Tensor, Tensor, Range], float]] = {
        "the pixels are taken to run from 0 to 1, whatever value_range says: on [-1, 1] the same "
        "picture then seems 6 decibels worse": lambda a, b, limits: 1.0,
        "the pixels are taken to run from -1 to 1, whatever value_range says": (
            lambda a, b, limits: 2.0
        ),
        "the pixels are taken to run from 0 to 255, whatever value_range says": (
            lambda a, b, limits: 255.0
        ),
        "the largest value stands where the range's length is wanted: value_range[1] minus "
        "value_range[0]": lambda a, b, limits: float(limits[1]),
        "the range is read off the images: these happen to reach neither end of it, so the same "
        "error would count differently in another batch": (
            lambda a, b, limits: float(b.max() - b.min())
        ),
        "the length of the range is not squared, and the error is": lambda a, b, limits: math.sqrt(
            _span(limits)
        ),
    }
    for message, span in spans.items():
        yield (
            message,
            lambda a, b, limits, span=span: _ratio(span(a, b, limits), _errors(a, b).mean()),
        )
    factors = {
        "the ratio is upside down: a smaller error must give more decibels": -1.0,
        "this logarithm is the natural one: decibels take the decimal one": math.log(10),
        "the factor is 20 where it is 10: 20 goes with the root of the error": 2.0,
        "the factor 10 is missing": 0.1,
        "the root of the error goes with the factor 20, not with 10": 0.5,
    }
    for message, factor in factors.items():
        yield (
            message,
            lambda a, b, limits, factor=factor: (
                factor * _ratio(_span(limits), _errors(a, b).mean())
            ),
        )
    yield (
        "the logarithm is missing: the ratio is in decibels",
        lambda a, b, limits: _span(limits) ** 2 / _errors(a, b).mean(),
    )


def _span(limits: Range) -> float:
    return float(limits[1] - limits[0])


def _ratio(span: float, error: Tensor) -> Tensor:
    return 10 * torch.log10(span**2 / error)


def _in_batches(a: Tensor, b: Tensor, limits: Range, size: int, whole_only: bool) -> Tensor:
    errors = _errors(a, b).split(size)
    means = [part.mean() for part in errors if len(part) == size or not whole_only]
    return _ratio(_span(limits), torch.stack(means).mean() if means else errors[0].mean())


# --- 2. explained_variance --------------------------------------------------------------------


@check("0 is as good as the mean image, 1 is perfect, and the pixels' scale does not matter.")
def explained_variance(answer: Answer) -> None:
    """`explained_variance(reconstructed, true)`: 1 - MSE / variance about the mean image."""
    cases = [
        _images((9, 1, 4, 5), (-1.0, 1.0)),
        _images((6, 3, 3, 4), (0.0, 1.0)),
        _images((40, 2, 5, 3), (0.0, 255.0)),
    ]
    cases.append((cases[0][0].flip(0), cases[0][1]))  # worse than the mean image
    values = [
        torch.tensor(expect_number(_undisturbed(answer, case), "the share")) for case in cases
    ]
    expect_right(
        [value.double() for value in values],
        cases,
        lambda a, b: _explained(a, b, b.mean(0)),
        _share_mistakes(),
        "the share is not right: it is 1 minus the mean squared error over the mean squared "
        "deviation of the true images from their mean image",
        SHARE,
    )


def _share_mistakes() -> Iterator[tuple[str, Callable[[Tensor, Tensor], Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "the deviation is taken from one gray value for all pixels: then the mean image already "
        "explains a part, although it shows nobody; take the mean over the images alone",
        lambda a, b: _explained(a, b, b.mean()),
    )
    yield (
        "the deviation is taken from each image's own gray value: take the mean over the images, "
        "which is an image",
        lambda a, b: _explained(a, b, b.mean((1, 2, 3), keepdim=True)),
    )
    yield (
        "the deviation is taken from each channel's mean value: take the mean over the images "
        "alone, which is an image",
        lambda a, b: _explained(a, b, b.mean((0, 2, 3), keepdim=True)),
    )
    yield (
        "the deviation is taken from the mean of the reconstructions: it is the true images that "
        "are to be explained",
        lambda a, b: _explained(a, b, a.mean(0)),
    )
    yield (
        "this is the variance of the reconstructions: it is the true images that are to be "
        "explained",
        lambda a, b: _explained(a, b, a.mean(0), a),
    )
    yield (
        "the ratio is upside down: the error is divided by the deviation",
        lambda a, b: 1 - 1 / (1 - _explained(a, b, b.mean(0))),
    )
    yield (
        "this is the share that is not explained: subtract it from 1",
        lambda a, b: 1 - _explained(a, b, b.mean(0)),
    )
    yield (
        "this is a squared correlation: it forgives a wrong brightness and a wrong contrast, even "
        "an inverted image, and this figure forgives none of them",
        lambda a, b: _correlation(a, b).square(),
    )
    yield (
        "this is a squared correlation of deviations from the mean image: it forgives a wrong "
        "contrast, and this figure does not",
        lambda a, b: _correlation(a - b.mean(0), b - b.mean(0)).square(),
    )
    yield (
        "this is the variance of the errors: an error that is the same everywhere counts, too, so "
        "take their mean square",
        lambda a, b: 1 - (a - b).var(correction=0) / _variance(b),
    )
    yield (
        "the squared deviations are divided by N - 1: the error is a mean over N images, and so "
        "is what it is compared with",
        lambda a, b: 1 - _errors(a, b).mean() / _variance(b) * (len(b) - 1) / len(b),
    )
    yield (
        "the share is computed for each pixel, and then averaged: divide the mean error by the "
        "mean deviation, once",
        lambda a, b: (1 - (a - b).square().mean(0) / (b - b.mean(0)).square().mean(0)).mean(),
    )
    yield (
        "the share is computed for each image, and then averaged: divide the mean error by the "
        "mean deviation, once",
        lambda a, b: (1 - _errors(a, b).mean(1) / _errors(b, b.mean(0)).mean(1)).mean(),
    )
    yield (
        "the roots are divided: take the squared error over the squared deviation",
        lambda a, b: 1 - (1 - _explained(a, b, b.mean(0))).sqrt(),
    )
    yield (
        "a share below 0 is cut off: it says that the mean image would have been a better guess",
        lambda a, b: _explained(a, b, b.mean(0)).clamp(min=0),
    )


def _explained(a: Tensor, b: Tensor, mean: Tensor, of: Tensor | None = None) -> Tensor:
    deviation = (b if of is None else of) - mean
    return 1 - _errors(a, b).mean() / deviation.square().mean()


def _variance(images: Tensor) -> Tensor:
    return (images - images.mean(0)).square().mean()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]


# --- both -------------------------------------------------------------------------------------


def _images(shape: tuple[int, int, int, int], limits: Range) -> tuple[Tensor, Tensor]:
    """Make reconstructions and true images, float64: some good, some bad, all a little too dark.

    The true images resemble each other, as the images of a class do, and keep off the ends of the
    range. The last image comes out worst.
    """
    low, high = limits
    pattern = torch.rand(shape[1:], dtype=torch.float64)
    true = 0.1 + 0.8 * (0.6 * pattern + 0.4 * torch.rand(shape, dtype=torch.float64))
    amount = torch.linspace(0.01, 0.2, shape[0], dtype=torch.float64).view(-1, 1, 1, 1)
    guess = true + amount * torch.randn(shape, dtype=torch.float64) - 0.02
    return low + (high - low) * guess, low + (high - low) * true


def _errors(a: Tensor, b: Tensor) -> Tensor:
    """Squared errors, (N, C*H*W)."""
    return (a - b).square().flatten(1)


def _undisturbed(answer: Answer, case: tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Range]) -> Any:
    """Call the function, and see that it leaves the images as they were.

    Raises:
        CheckFailed: If it does not.
    """
    before = case[0].clone(), case[1].clone()
    value = answer(*case)
    if not (torch.equal(case[0], before[0]) and torch.equal(case[1], before[1])):
        wrong(f"{answer.name} changes the images that it is given: write a - b, not a -= b")
    return value

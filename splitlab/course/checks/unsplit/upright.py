"""Exercise 2: pictures that came out as negatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

COLUMNS = [0, 1, 14, 15]
MARGINS = (3e-5, 0.03)  # of border and center: with the small ones each pixel counts
Part = Callable[[Tensor], Tensor]


def _border(images: Tensor) -> Tensor:
    return images[..., COLUMNS]


def _center(images: Tensor) -> Tensor:
    return images[:, :, 4:12, 5:11]


def _case(low: float, high: float) -> Callable[[], Iterator[tuple[Tensor]]]:
    """Batches of random pixels from low to high; border and center are about as bright."""

    def case() -> Iterator[tuple[Tensor]]:
        for number in range(16):
            batch, channels = 1 + number % 4, 1 + number % 5 % 3
            images = low + (high - low) * torch.rand(batch, channels, 16, 16)
            margin = MARGINS[number % 2] * (2 * torch.randint(2, ()) - 1)
            images[..., COLUMNS] += _center(images).mean() - _border(images).mean() + margin
            yield (images,)

    return case


def _gray() -> Iterator[tuple[Tensor]]:
    for value in (0.5, -0.5, 0.0):
        yield (torch.full((2, 1, 16, 16), value),)


def _turned(
    one: Part = _border,
    other: Part = _center,
    size: Callable[[Tensor], Tensor] = torch.mean,
    negative: Part = torch.neg,
) -> Part:
    """Negate the batch where one part of it is brighter than the other."""
    return lambda images: negative(images) if size(one(images)) > size(other(images)) else images


def _rescaled(images: Tensor) -> Tensor:
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return _turned()(2 * (images - low) / (high - low).clamp(min=1e-12) - 1)


def _frame(images: Tensor) -> Tensor:
    frame = torch.ones(16, 16, dtype=torch.bool)
    frame[2:-2, 2:-2] = False
    return images[..., frame]


def _listed(result: Any, images: Tensor) -> list[Any]:
    """Return the result as a list: its sign alone does not show which pixels decide."""
    return [result]


@exercise(
    cases=[_case(-1, 1), _case(-0.9, -0.1), _case(0.1, 0.9), _gray],
    returns=("the batch",),
    use=_listed,
    praise="negatives are inverted, upright pictures stay as they are, and a batch has one sign.",
    otherwise="these are not the images, all negated where the border is brighter than the center: "
    "the border is columns 0, 1, 14 and 15, the center rows 4 to 11 of columns 5 to 10, and each "
    "side is one mean over the whole batch",
    slips={
        "each image is judged by itself: one client made all of this z and one surrogate all of "
        "these images, so the batch has one sign, and a bright border of one image is no "
        "negative": lambda images: torch.cat([_turned()(one[None]) for one in images]),
        "no image is ever negated: some of these batches are negatives": lambda images: images,
        "every batch is negated: some of them are already right": torch.neg,
        "the decision is reversed: a batch is a negative where its border is brighter than its "
        "center": _turned(_center, _border),
        "where border and center are equally bright the batch is negated, too: there is no reason "
        "to, so leave it": lambda images: -_turned(_center, _border)(images),
        "the negative is 1 - images here: that is for pixels from 0 to 1, and these run from -1 "
        "to 1": _turned(negative=lambda images: 1 - images),
        "the negative is a mirror image here: turn the values, not the places": _turned(
            negative=lambda images: images.flip(3)
        ),
        "the negative is the absolute value here: that makes all pixels bright": _turned(
            negative=torch.abs
        ),
        "the images are rescaled as well: min-max for each image is a step of its own, and it "
        "flatters; here only the sign may change": _rescaled,
        "sums are compared where means are wanted: the border has 64 pixels, the center 48": (
            _turned(size=torch.sum)
        ),
        "only one column on each side counts as border: take two": _turned(
            lambda images: images[..., [0, 15]]
        ),
        "only the left border is looked at: take the right one, too": _turned(
            lambda images: images[..., :2]
        ),
        "only the right border is looked at: take the left one, too": _turned(
            lambda images: images[..., -2:]
        ),
        "the border is rows here, at the top and the bottom: digits reach those, so take columns": (
            _turned(lambda images: _border(images.mT))
        ),
        "the border is the whole frame here: digits reach its top and bottom, so take columns "
        "alone": _turned(_frame),
        "the center is 6 rows by 8 columns here: it is 8 rows by 6 columns": _turned(
            other=lambda images: _center(images.mT)
        ),
        "rows and columns of the center are counted from 1 here: count them from 0": _turned(
            other=lambda images: images[:, :, 3:11, 4:10]
        ),
        "the last row and the last column of the center are missing: rows 4 to 11 are the slice "
        "4:12": _turned(other=lambda images: images[:, :, 4:11, 5:10]),
        "the border is compared with the whole image, or with everything outside the border: "
        "compare it with the center": _turned(other=lambda images: images),
        "only the first channel is looked at: take the means over all channels": _turned(
            lambda images: _border(images)[:, :1], lambda images: _center(images)[:, :1]
        ),
        "only the first image is looked at: take the means over the whole batch": _turned(
            lambda images: _border(images)[:1], lambda images: _center(images)[:1]
        ),
        "the mean brightness decides here: the amount of ink says nothing about the sign, so "
        "compare the border with the center": _turned(lambda images: images, torch.zeros_like),
        "the border's brightness alone decides here: compare it with the center's": _turned(
            other=torch.zeros_like
        ),
    },
)
def upright(images: Tensor) -> Tensor:
    return _turned()(images)

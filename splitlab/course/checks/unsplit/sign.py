"""Exercise 2: pictures that came out as negatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from splitlab.course.checks.base import Answer, check, expect_right, expect_tensor, wrong
from splitlab.course.checks.unsplit.common import expect_unchanged

SIDE = 16
BATCHES = 200  # of random pixels, where border and center are nearly as bright: each pixel counts
Judge = Callable[[Tensor], Tensor]  # images -> brightness


@check("negatives are turned, pictures that stand right stay, and a batch has one sign.")
def upright(answer: Answer) -> None:
    """`upright(images)`: the batch, negated where its border is brighter than its center."""
    cases = [(_images(1 + number % 4, 1 + number % 2),) for number in range(BATCHES)]
    gray = torch.full((2, 1, SIDE, SIDE), 0.5, dtype=torch.float64)
    cases += [(gray,), (-gray,)]
    expect_right(
        [_asked(answer, *case) for case in cases],
        cases,
        _turned(_border, _center),
        _mistakes(),
        "these are not the images, all negated where the border is brighter than the center: the "
        "border is columns 0, 1, 14 and 15, the center rows 4 to 11 of columns 5 to 10, and "
        "each side is one mean over the whole batch",
    )


def _asked(answer: Answer, images: Tensor) -> Tensor:
    before = images.clone()
    turned = expect_tensor(answer(images), "what upright returns", images.shape)
    expect_unchanged("upright", images=(images, before))
    if turned.requires_grad:
        wrong("what upright returns requires a gradient: it is only looked at from here on")
    return turned.double()


def _border(images: Tensor) -> Tensor:
    return torch.cat([images[..., :2], images[..., -2:]], 3)


def _center(images: Tensor) -> Tensor:
    return images[:, :, 4:12, 5:11]


def _turned(
    one: Judge,
    other: Judge,
    size: Callable[[Tensor], Tensor] = torch.mean,
    negative: Judge = torch.neg,
) -> Judge:
    """Negate the batch where one part of it is brighter than the other."""
    return lambda images: negative(images) if size(one(images)) > size(other(images)) else images


def _one_by_one(images: Tensor) -> Tensor:
    return torch.cat([_turned(_border, _center)(one[None]) for one in images])


def _at_ties(images: Tensor) -> Tensor:
    return -images if _border(images).mean() >= _center(images).mean() else images


def _rescaled(images: Tensor) -> Tensor:
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return _turned(_border, _center)(2 * (images - low) / (high - low).clamp(min=1e-12) - 1)


def _frame(images: Tensor) -> Tensor:
    inner = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inner[2:-2, 2:-2] = True
    return images[:, :, ~inner]


def _mistakes() -> Iterator[tuple[str, Judge]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "each image is judged by itself: one client made all of this z and one surrogate all of "
        "these images, so the batch has one sign, and a bright border of one image is no negative",
        _one_by_one,
    )
    yield "no image is ever negated: some of these batches are negatives", lambda images: images
    yield "every batch is negated: some of them stand right", torch.neg
    yield (
        "the sign is turned the wrong way: a batch is a negative where its border is the brighter "
        "part",
        _turned(_center, _border),
    )
    yield (
        "where border and center are equally bright the batch is negated, too: there is no reason "
        "to, so leave it",
        _at_ties,
    )
    for message, negative in {
        "the negative is 1 - images here: that is for pixels from 0 to 1, and these run from -1 "
        "to 1": lambda images: 1 - images,
        "the negative is a mirror image here: turn the values, not the places": (
            lambda images: images.flip(3)
        ),
        "the negative is the absolute value here: that makes all pixels bright": torch.abs,
    }.items():
        yield message, _turned(_border, _center, negative=negative)
    yield (
        "the images are rescaled as well: min-max for each image is a step of its own, and it "
        "flatters; here only the sign may change",
        _rescaled,
    )
    yield (
        "sums are compared where means are wanted: the border has 64 pixels, the center 48",
        _turned(_border, _center, size=torch.sum),
    )
    parts: dict[str, tuple[Judge, Judge]] = {
        "only one column on each side counts as border: take two": (
            lambda images: images[..., [0, -1]],
            _center,
        ),
        "only the left border is looked at: take the right one, too": (
            lambda images: images[..., :2],
            _center,
        ),
        "only the right border is looked at: take the left one, too": (
            lambda images: images[..., -2:],
            _center,
        ),
        "the border is rows here, at the top and the bottom: digits reach those, so take columns": (
            lambda images: _border(images.transpose(2, 3)),
            _center,
        ),
        "the border is the whole frame here: digits reach its top and bottom, so take columns "
        "alone": (_frame, _center),
        "the center is 6 rows by 8 columns here: it is 8 rows by 6 columns": (
            _border,
            lambda images: images[:, :, 5:11, 4:12],
        ),
        "the border is compared with the whole image: compare it with the center": (
            _border,
            lambda images: images,
        ),
        "the mean brightness decides here: how much ink a digit has says nothing of its sign, so "
        "compare the border with the center": (lambda images: images, torch.zeros_like),
        "the border's brightness alone decides here: compare it with the center's": (
            _border,
            torch.zeros_like,
        ),
    }
    for message, (one, other) in parts.items():
        yield message, _turned(one, other)


def _images(batch: int, channels: int) -> Tensor:
    """Random pixels from -1 to 1: every pixel's part in the decision shows in some batch."""
    return torch.rand(batch, channels, SIDE, SIDE, dtype=torch.float64) * 2 - 1

"""Exercise 2: how the ink of an image leans."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from splitlab.course.checks.base import (
    Answer,
    CheckFailed,
    NotWrittenYet,
    check,
    expect_right,
    expect_tensor,
    same,
    what,
    wrong,
)

Formula = Callable[[Tensor], Tensor]
ROUNDING, FLOAT32 = 1e-6, 1e-4  # pixels may be counted in float32
BLANK = "a blank image has no ink to lean, and its slant is 0"


@check("a slash is below 0, a backslash above, and a blank image is at 0.")
def slant(answer: Answer) -> None:
    """`slant(x)`: covariance of the ink's columns and rows, one number an image."""
    cases = [
        (_writing(shape),)
        for shape in ((6, 1, 8, 8), (5, 1, 7, 10), (4, 3, 9, 6), (1, 2, 5, 5), (3, 1, 16, 16))
    ]
    expect_right(
        [_asked(answer, *case) for case in cases],
        cases,
        _slant,
        _mistakes(),
        "the slant is not right: with weights x + 1, which sum to 1 for each image, it is the "
        "weighted mean of (column - mean column) times (row - mean row)",
        ROUNDING,
    )
    for what_, strength in (("faint", 1e-7), ("bright", 1e7)):
        _check_strength(answer, what_, strength)
    _check_blank(answer)
    x = _writing((4, 1, 16, 16)).float()
    if not same(_asked(answer, x).double(), _slant(x.double()), FLOAT32):
        wrong("in float32 the slant is not what it is in float64: is there something in integers?")


def _asked(answer: Answer, x: Tensor) -> Tensor:
    before = x.clone()
    value = answer(x)
    if not torch.equal(x, before):
        wrong("slant changes the images that it is given: write x + 1, not x += 1")
    if not isinstance(value, Tensor):
        wrong(f"slant returns {what(value)}: return a tensor with one number for each image")
    if value.shape != (len(x),):
        _tell_shape(value.shape, x.shape)
    if value.is_floating_point() and value.isnan().any():
        wrong(f"there is nan among the slants: {BLANK}; what is divided by its sum?")
    return expect_tensor(value, "the slant", (len(x),))


def _tell_shape(shape: torch.Size, of: torch.Size) -> None:
    if shape == ():
        wrong("there is one slant for the whole batch: each image has its own")
    if shape == of[:2]:
        wrong("there is a slant for each channel: one image's ink runs over all of its channels")
    wrong(
        f"the slants have shape {tuple(shape)} where {(of[0],)} is expected: one number for each "
        "image"
    )


def _check_strength(answer: Answer, name: str, strength: float) -> None:
    """How much ink there is must not matter."""
    x = (_writing((3, 1, 8, 8)) + 1) * strength - 1
    if not same(_asked(answer, x), _slant(x), ROUNDING):
        wrong(
            f"a {name} image gets another slant than the same image with more or less ink: the "
            "weights sum to 1 whatever the ink, so add nothing to the sum that they are divided by"
        )


def _check_blank(answer: Answer) -> None:
    """A blank image, alone and among others."""
    x = _writing((4, 1, 8, 8))
    x[1] = -1
    for images in (x, x[1:2]):
        try:
            value = _asked(answer, images)
        except NotWrittenYet:
            raise
        except CheckFailed as error:
            raise CheckFailed(f"with a blank image, {error}") from error
        blank = (images == -1).flatten(1).all(1)
        if value[blank].any():
            wrong(f"a blank image gets the slant {value[blank][0].item():.4g}: {BLANK}")
        if not same(value, _slant(images), ROUNDING):
            wrong("with a blank image in the batch, the others get another slant than without it")


def _mistakes() -> Iterator[tuple[str, Formula]]:
    """Yield (message, what it gives) of likely slips."""
    yield "the sign is turned: rows are counted downwards, columns to the right", _negative
    yield (
        "all slants are 0: every pixel counts the same here, and a grid does not lean; weight the "
        "pixels by their ink",
        lambda x: torch.zeros(len(x), dtype=x.dtype),
    )
    weights: dict[str, Formula] = {
        "the weights are x itself, and dark paper is at -1: ink is x + 1": lambda x: x,
        "the weights are the absolute values of x, and dark paper weighs as much as ink: ink is "
        "x + 1": lambda x: x.abs(),
        "ink counts from 0 on here, and every pixel above -1 has some: its weight is x + 1": (
            lambda x: x.clamp(min=0)
        ),
        "all pixels that are bright count the same: the weight is how much ink there is, x + 1": (
            lambda x: (x > 0).to(x.dtype)
        ),
        "all pixels with ink count the same: the weight is how much ink there is, x + 1": (
            lambda x: (x > -1).to(x.dtype)
        ),
        "the weights are squared": lambda x: (x + 1).square(),
        "the dark counts here, and the ink does not: the weight is x + 1": lambda x: 1 - x,
        "only the first channel is looked at: sum the ink over the channels": (
            lambda x: x[:, :1] + 1
        ),
    }
    for message, weight in weights.items():
        yield message, lambda x, weight=weight: _covariance(weight(x))
    yield from _center_mistakes()
    yield from _figure_mistakes()
    yield from _sum_mistakes()


def _center_mistakes() -> Iterator[tuple[str, Formula]]:
    centers: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
        "rows and columns are not centered: subtract the ink's mean row and mean column": (
            lambda ink, row, column: (torch.zeros(()), torch.zeros(()))
        ),
        "rows and columns are counted from the middle of the image: subtract the mean row and the "
        "mean column of the ink, or a digit that sits in a corner leans": (
            lambda ink, row, column: (row.mean(), column.mean())
        ),
        "one center is taken for the whole batch: each image has its own mean row and mean "
        "column": lambda ink, row, column: (
            _mean(ink, row).mean(),
            _mean(ink, column).mean(),
        ),
    }
    for message, center in centers.items():
        yield message, lambda x, center=center: _about(x, center)


def _about(x: Tensor, center: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    ink, row, column = _parts(x + 1)
    mean_row, mean_column = center(ink, row, column)
    return _mean(ink, (row - mean_row) * (column - mean_column))


def _figure_mistakes() -> Iterator[tuple[str, Formula]]:
    yield (
        "this is the variance of the columns: the slant is about columns and rows together",
        lambda x: _variances(x)[1],
    )
    yield (
        "this is the variance of the rows: the slant is about columns and rows together",
        lambda x: _variances(x)[0],
    )
    yield (
        "this is a correlation, from -1 to 1: here the covariance is asked for, in squared pixels",
        lambda x: _slant(x) / (_variances(x)[0] * _variances(x)[1]).sqrt(),
    )
    yield (
        "the covariance is divided by the variance of the rows, which gives a slope: leave it in "
        "squared pixels",
        lambda x: _slant(x) / _variances(x)[0],
    )
    yield (
        "the covariance is divided by the variance of the columns, which gives a slope: leave it "
        "in squared pixels",
        lambda x: _slant(x) / _variances(x)[1],
    )
    scales: dict[str, Callable[[int], float]] = {
        "rows and columns run from 0 to 1 here: count them in pixels": lambda size: size - 1,
        "rows and columns run from -1 to 1 here: count them in pixels": lambda size: (size - 1) / 2,
        "rows and columns are divided by the size of the image: count them in pixels": (
            lambda size: size
        ),
    }
    for message, scale in scales.items():
        yield (
            message,
            lambda x, scale=scale: _slant(x) / (scale(x.shape[2]) * scale(x.shape[3])),
        )


def _sum_mistakes() -> Iterator[tuple[str, Formula]]:
    sums: dict[str, Formula] = {
        "the weights are not normalized, so a fat digit leans more than a thin one: divide by the "
        "image's own ink": lambda ink: torch.ones(()),
        "the ink is divided by the number of pixels, and not by its sum: a fat digit would lean "
        "more than a thin one": lambda ink: torch.tensor(ink[0].numel()),
        "the weights sum to 1 over the whole batch: each image's sum to 1": lambda ink: ink.sum(),
        "the ink is divided by its largest value, and not by its sum": (
            lambda ink: ink.flatten(1).amax(1)
        ),
    }
    for message, of in sums.items():
        for slip in _unnormalized(of):
            yield message, slip


def _unnormalized(of: Formula) -> Iterator[Formula]:
    """Yield the three ways to a covariance, with ink that is divided by something else."""

    def parts(x: Tensor) -> tuple[Tensor, ...]:
        share = _ink(x) / of((x + 1).sum(1))
        ink, row, column = _parts(x + 1)
        return share, ink, row, column

    def right_center(x: Tensor) -> Tensor:
        return parts(x)[0] * _slant(x)

    def wrong_center(x: Tensor) -> Tensor:
        share, ink, row, column = parts(x)
        center = [(share * _mean(ink, axis))[:, None, None] for axis in (row, column)]
        return share * _mean(ink, (row - center[0]) * (column - center[1]))

    def moments(x: Tensor) -> Tensor:
        share, ink, row, column = parts(x)
        return share * _mean(ink, row * column) - share**2 * _mean(ink, row) * _mean(ink, column)

    yield from (right_center, wrong_center, moments)


def _parts(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (N, H, W) that sum to 1 for each image; rows (H, 1); columns (1, W)."""
    ink = weight.sum(1)
    ink = ink / ink.sum((1, 2), keepdim=True)
    row = torch.arange(ink.shape[1], dtype=ink.dtype)[:, None]
    column = torch.arange(ink.shape[2], dtype=ink.dtype)[None]
    return ink.nan_to_num(), row, column


def _mean(ink: Tensor, value: Tensor) -> Tensor:
    return (ink * value).sum((1, 2))


def _covariance(weight: Tensor) -> Tensor:
    ink, row, column = _parts(weight)
    middle = [_mean(ink, axis)[:, None, None] for axis in (row, column)]
    return _mean(ink, (row - middle[0]) * (column - middle[1]))


def _slant(x: Tensor) -> Tensor:
    return _covariance(x + 1)


def _negative(x: Tensor) -> Tensor:
    return -_slant(x)


def _ink(x: Tensor) -> Tensor:
    return (x + 1).sum((1, 2, 3))


def _variances(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of the rows and of the columns."""
    ink, row, column = _parts(x + 1)
    middle = [_mean(ink, axis)[:, None, None] for axis in (row, column)]
    return _mean(ink, (row - middle[0]) ** 2), _mean(ink, (column - middle[1]) ** 2)


def _writing(shape: tuple[int, int, int, int]) -> Tensor:
    """Make images, float64 in [-1, 1]: a leaning bar off the middle, in ink of many strengths.

    Channels and images differ; some pixels are blank, and some ink is below 0.
    """
    n, _, height, width = shape
    row = torch.arange(height, dtype=torch.float64)[:, None]
    column = torch.arange(width, dtype=torch.float64)
    lean = torch.linspace(-0.8, 1.0, n, dtype=torch.float64).view(-1, 1, 1)
    middle = width * (0.3 + 0.5 * torch.rand(n, 1, 1, dtype=torch.float64))
    off = (column - middle - lean * (row - height * 0.4)).abs()
    bar = (1.6 - off).clamp(min=0).unsqueeze(1) * torch.rand(shape, dtype=torch.float64)
    thickness = 0.3 + torch.rand(n, 1, 1, 1, dtype=torch.float64)
    speck = (torch.rand(shape) < 0.1) * torch.rand(shape, dtype=torch.float64)
    return (thickness * bar + speck).clamp(max=1.99) - 1

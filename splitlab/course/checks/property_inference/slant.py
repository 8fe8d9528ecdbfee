"""Exercise 2: the slant of an image's ink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Mean = Callable[[Tensor], Tensor]  # (N, 1, H, W), or less -> weighted means (N, 1, 1, 1)


def _moments(mean: Mean, row: Tensor, column: Tensor) -> Tensor:
    return mean(row * column) - mean(row) * mean(column)


def _around(
    mean: Mean, row: Tensor, column: Tensor, center: Callable[[Tensor], Tensor] = lambda m: m
) -> Tensor:
    return mean((row - center(mean(row))) * (column - center(mean(column))))


def _covariances(mean: Mean, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of rows and columns, of the rows, and of the columns."""
    return _around(mean, row, column), _around(mean, row, row), _around(mean, column, column)


def _with(
    weight: Callable[[Tensor], Tensor] = lambda x: x + 1,
    total: Callable[[Tensor], Any] = lambda ink: ink.sum((1, 2, 3), keepdim=True),
    figure: Callable[..., Tensor] = _around,
    count: Callable[[int], Tensor] = torch.arange,
    blank: float = 0.0,
) -> Callable[[Tensor], Tensor]:
    """An answer with other weights, or another figure; `blank` is 0 / 0."""

    def answer(x: Tensor) -> Tensor:
        ink = weight(x)
        ink = (ink / total(ink)).nan_to_num(blank)

        def mean(values: Tensor) -> Tensor:
            sums: Tensor = (ink * values).sum((1, 2, 3)).view(-1, 1, 1, 1)
            return sums

        return figure(mean, count(x.shape[2])[:, None], count(x.shape[3])).view(-1)

    return answer


def _writing(*shape: int, strength: float = 1.0) -> Tensor:
    """Make images in [-1, 1]: a leaning bar off the middle, in ink of many strengths.

    Channels and images differ; some pixels are blank, and some ink is below 0.
    """
    n, _, height, width = shape
    row, column = torch.arange(height)[:, None], torch.arange(width)
    lean = torch.linspace(-0.8, 1.0, n).view(-1, 1, 1)
    middle = width * (0.3 + 0.5 * torch.rand(n, 1, 1))
    bar = (1.6 - (column - middle - lean * (row - height * 0.4)).abs()).clamp(min=0)
    thickness = 0.3 + torch.rand(n, 1, 1, 1)
    speck = (torch.rand(shape) < 0.1) * torch.rand(shape)
    ink = thickness * bar.unsqueeze(1) * torch.rand(shape) + speck
    return strength * ink.clamp(max=1.99) - 1


def _with_a_blank() -> tuple[Tensor]:
    x = _writing(4, 1, 8, 8)
    x[1] = -1
    return (x,)


@exercise(
    cases=[
        lambda: (_writing(6, 1, 8, 8),),
        lambda: (_writing(4, 3, 9, 6),),
        lambda: (_writing(5, 1, 7, 10),),
        lambda: (_writing(1, 2, 5, 5),),
        _with_a_blank,
        lambda: (_writing(3, 1, 8, 8, strength=1e-4),),
        lambda: (_writing(3, 1, 16, 16),),
        lambda: (torch.rand(2, 1, 2, 2) - 0.5,),
        lambda: (torch.rand(2, 3, 1, 4) - 0.5,),
        lambda: (-torch.ones(1, 1, 4, 4),),
    ],
    returns="the slant",
    tolerance=1e-8,
    praise="a slash is below 0, a backslash above, and a blank image is at 0.",
    otherwise="the slant is not right: with weights x + 1, which sum to 1 for each "
    "image, it is the "
    "weighted mean of (column - mean column) times (row - mean row), and 0 without any ink",
    slips={
        "the sign is reversed: rows are counted downward, columns to the right": _with(
            figure=lambda mean, row, column: -_around(mean, row, column)
        ),
        "all slants are 0: every pixel counts the same here, and a grid does not lean; weight the "
        "pixels by their ink": _with(torch.zeros_like),
        "the weights are x itself, and dark paper is at -1: ink is x + 1": _with(lambda x: x),
        "the weights are the absolute values of x, and dark paper weighs as much as ink: ink is "
        "x + 1": _with(torch.abs),
        "ink counts from 0 on here, and every pixel above -1 has some: its weight is x + 1": _with(
            torch.relu
        ),
        "all pixels that are bright count the same: the weight is how much ink there is, x + 1": (
            _with(lambda x: (x > 0).to(x))
        ),
        "all pixels with ink count the same: the weight is how much ink there is, x + 1": _with(
            lambda x: (x > -1).to(x)
        ),
        "ink is counted from the image's own darkest pixel: blank paper is at -1 in "
        "every image, so "
        "ink is x + 1": _with(lambda x: x - x.amin((1, 2, 3), keepdim=True)),
        "the weights are squared": _with(lambda x: (x + 1).square()),
        "the dark counts here, and the ink does not: the weight is x + 1": _with(lambda x: 1 - x),
        "only the first channel is looked at: sum the ink over the channels": _with(
            lambda x: x[:, :1] + 1
        ),
        "there is a slant for each channel: one image's ink runs over all of its channels": (
            lambda x: torch.stack([_with()(one[:, None]) for one in x.unbind(1)], 1)
        ),
        "there is one slant for the whole batch: each image has its own": (
            lambda x: _with()(x).mean()
        ),
        "rows and columns are not centered: subtract the ink's mean row and mean column": _with(
            figure=lambda mean, row, column: mean(row * column)
        ),
        "rows and columns are counted from the middle of the image: subtract the mean row and "
        "the mean column of the ink, or a digit in a corner seems to lean": _with(
            figure=lambda mean, row, column: mean(
                (row - (len(row) - 1) / 2) * (column - (len(column) - 1) / 2)
            )
        ),
        "one center is taken for the whole batch: each image has its own mean row and mean "
        "column": _with(figure=lambda mean, row, column: _around(mean, row, column, torch.mean)),
        "the center is rounded to whole pixels: the mean row and the mean column lie anywhere": (
            _with(figure=lambda mean, row, column: _around(mean, row, column, torch.round))
        ),
        "this is the variance of the columns: the slant is about columns and rows together": _with(
            figure=lambda *given: _covariances(*given)[2]
        ),
        "this is the variance of the rows: the slant is about columns and rows together": _with(
            figure=lambda *given: _covariances(*given)[1]
        ),
        "this is a correlation, from -1 to 1: here the covariance is asked for, in squared "
        "pixels": (
            _with(
                figure=lambda *given: (
                    _covariances(*given)[0]
                    / (_covariances(*given)[1] * _covariances(*given)[2]).sqrt()
                )
            )
        ),
        "the covariance is divided by the variance of the rows, which gives a slope: leave it in "
        "squared pixels": _with(
            figure=lambda *given: _covariances(*given)[0] / _covariances(*given)[1]
        ),
        "the covariance is divided by the variance of the columns, which gives a slope: leave it "
        "in squared pixels": _with(
            figure=lambda *given: _covariances(*given)[0] / _covariances(*given)[2]
        ),
        "rows and columns run from 0 to 1 here: count them in pixels": _with(
            count=lambda size: torch.linspace(0, 1, size)
        ),
        "rows and columns run from -1 to 1 here: count them in pixels": _with(
            count=lambda size: torch.linspace(-1, 1, size)
        ),
        "rows and columns are divided by the size of the image: count them in pixels": _with(
            count=lambda size: torch.arange(size) / size
        ),
        "a faint image gets a different slant from the same image with more ink: the weights "
        "sum to 1 whatever the ink, so add nothing to the sum that they are divided by": _with(
            total=lambda ink: ink.sum((1, 2, 3), keepdim=True) + 1e-6
        ),
        "there is nan among the slants: a blank image has no ink to lean, and its slant is 0; what "
        "is divided by its sum?": _with(blank=torch.nan),
        "a blank image in the batch changes the slants of the others": (
            lambda x: _with()(x) * (x > -1).flatten(1).any(1).all()
        ),
    },
)
def slant(x: Tensor) -> Tensor:
    return _with()(x)


# Of weights that do not sum to 1, the two formulas of a covariance make different figures.
TOTALS: dict[str, Callable[[Tensor], Any]] = {
    "the weights are not normalized, so a fat digit leans more than a thin one: divide by the "
    "image's own ink": lambda ink: 1.0,
    "the ink is divided by the number of pixels, and not by its sum: a fat digit would lean more "
    "than a thin one": lambda ink: ink[0].numel(),
    "the weights sum to 1 over the whole batch: each image's sum to 1": torch.sum,
    "the ink is divided by its largest value, and not by its sum": (
        lambda ink: ink.amax((1, 2, 3), keepdim=True)
    ),
}
for message, total in TOTALS.items():
    slant.slip(message)(_with(total=total, figure=_moments))
    slant.slip(f"{message} before you take the means")(_with(total=total))

"""Exercise 2: slanted images, which differ from upright ones by an adjustable amount."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise


def _moved(
    row: Tensor,
    shift: float,
    outside: Callable[[Tensor, int], Tensor | float] = lambda row, column: -1.0,
    rounded: Callable[[float], float] = float,
) -> Tensor:
    """Move a row (B, C, W) to the right by `shift` pixels."""
    width = row.shape[-1]

    def value(column: int) -> Tensor | float:
        return row[..., column] if 0 <= column < width else outside(row, column)

    values = []
    for column in range(width):
        place = column - rounded(shift)
        left = math.floor(place)
        part = place - left
        mixed = (1 - part) * value(left) + part * value(left + 1)
        values.append(mixed + torch.zeros_like(row[..., 0]))
    return torch.stack(values, dim=-1)


def _slant(
    x: Tensor,
    slope: float,
    *,
    above: Callable[[int, int], float] = lambda row, height: (height - 1) / 2 - row,
    **slip: Any,
) -> Tensor:
    """Slant images; `above` is how many pixels a row lies above the middle."""
    height = x.shape[2]
    rows = [_moved(x[:, :, r], slope * above(r, height), **slip) for r in range(height)]
    return torch.stack(rows, dim=2)


def _exact(result: Any, x: Tensor, slope: float) -> Any:
    """Compare bit for bit where nothing moves."""
    if slope or not isinstance(result, Tensor):
        return result
    return result, result.shape == x.shape and bool((result == x).all())


def _case(*shape: int, slope: float) -> Callable[[], tuple[Tensor, float]]:
    return lambda: (2 * torch.rand(shape) - 1, slope)


@exercise(
    cases=[
        _case(3, 2, 5, 4, slope=-0.3),
        _case(2, 1, 4, 7, slope=0.5),
        _case(4, 3, 4, 4, slope=0.7),
        _case(3, 2, 5, 4, slope=1.0),
        _case(2, 1, 6, 5, slope=-1.6),
        _case(1, 1, 16, 16, slope=0.25),
        _case(4, 3, 3, 3, slope=30.0),
        lambda: (-torch.rand(2, 1, 2, 6), 0.8),
        _case(2, 2, 4, 1, slope=0.3),
        _case(1, 1, 1, 5, slope=0.9),
        _case(3, 1, 6, 5, slope=0.0),
    ],
    returns="the result",
    use=_exact,
    praise="only rows move, the middle stays, and new pixels are background.",
    otherwise="the rows are not where they belong: row r moves to the right by slope times "
    "((H - 1) / 2 - r) pixels, and between two columns the value is their weighted mean",
    slips={
        "nothing is slanted: the images come back as they are": lambda x, slope: x.clone(),
        "the slant has the wrong sign: with a positive slope rows above the middle move to the "
        "right, as in italics": lambda x, slope: _slant(x, -slope),
        "columns are moved up and down here: a slant moves rows, each along itself": (
            lambda x, slope: _slant(x.mT, slope).mT
        ),
        "columns are moved down and up here: a slant moves rows, each along itself": (
            lambda x, slope: _slant(x.mT, -slope).mT
        ),
        "the shift depends on an image's place in the batch: it depends on the row alone": (
            lambda x, slope: _slant(x.transpose(0, 2), slope).transpose(0, 2)
        ),
        "pixels wrap around from one side to the other: fill with background": partial(
            _slant, outside=lambda row, column: row[..., column % row.shape[-1]]
        ),
        "the border pixels are repeated: fill with background, the lowest value": partial(
            _slant, outside=lambda row, column: row[..., 0 if column < 0 else -1]
        ),
        "gray comes in, the value 0: background is the lowest value of the range, -1": partial(
            _slant, outside=lambda row, column: 0.0
        ),
        "white comes in: background is the lowest value of the range, -1": partial(
            _slant, outside=lambda row, column: 1.0
        ),
        "the darkest pixel of these images comes in: background is the lowest value of the range, "
        "-1": lambda x, slope: _slant(x, slope, outside=lambda row, column: x.min()),
        "the top row stays in its place: the middle should": partial(
            _slant, above=lambda row, height: -row
        ),
        "the bottom row stays in its place: the middle should": partial(
            _slant, above=lambda row, height: height - 1 - row
        ),
        "the middle is half a pixel too low: rows count from 0 to H - 1, so their middle is "
        "(H - 1) / 2": partial(_slant, above=lambda row, height: height / 2 - row),
        "the middle is half a pixel too high: rows count from 0, not from 1": partial(
            _slant, above=lambda row, height: (height - 1) / 2 - row - 1
        ),
        "the middle is a whole row here: of an even number of rows it lies between two": partial(
            _slant, above=lambda row, height: height // 2 - row
        ),
        "the middle is a whole row here, cut off by //: of an even number of rows it lies between "
        "two": partial(_slant, above=lambda row, height: (height - 1) // 2 - row),
        "all rows move alike: a row moves by slope times its own height above the middle": partial(
            _slant, above=lambda row, height: 1.0
        ),
        "both halves move to the same side: below the middle the height is negative": partial(
            _slant, above=lambda row, height: abs((height - 1) / 2 - row)
        ),
        "the height is counted in halves of the image: count it in pixels": partial(
            _slant, above=lambda row, height: 1 - 2 * row / (height - 1)
        ),
        "the slope is taken for an angle: it is pixels to the right for each pixel up": (
            lambda x, slope: _slant(x, math.tan(slope))
        ),
        "a slope of 0 gives nearly the same images, not bit for bit: a shift of 0 should give the "
        "left neighbor the weight 1 and the right one the weight 0": (
            lambda x, slope: _slant(x, slope) * (1 + 1e-12) + 1e-13
        ),
    },
)
def slanted(x: Tensor, slope: float) -> Tensor:
    return _slant(x, slope)


for how, rounded in {
    "rounded": round,
    "rounded down": math.floor,
    "rounded up": math.ceil,
    "cut": math.trunc,
}.items():
    slanted.slip(f"the shifts are {how} to whole pixels: interpolate between two columns")(
        partial(_slant, rounded=rounded)
    )

"""Exercise 2: images made more foreign by degrees, by slanting them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.base import Answer, check, expect_right, expect_tensor, wrong
from splitlab.course.checks.hijack_taken_apart.common import expect_kept

BACKGROUND = -1.0
SLOPES = (0.5, -0.3, 1.0, 0.7, -1.6, 0.0)
TOLERANCE = 1e-5  # for whoever counts columns in float32
WHOLE = "the shifts are cut to whole pixels: interpolate between two columns"
A_ROW = "the middle is a whole row here: of an even number of rows it lies between two"


@check("rows move and nothing else does, the middle stays, and what comes in is background.")
def slanted(answer: Answer) -> None:
    """`slanted(x, slope)`: every row shifted by slope times its height above the middle."""
    cases = [(_images(shape), slope) for shape in ((3, 2, 5, 4), (2, 1, 4, 7)) for slope in SLOPES]
    cases += [(_images((1, 1, 16, 16)), 0.25), (_images((4, 3, 3, 3)), 30.0)]
    expect_right(
        [_asked(answer, *case) for case in cases],
        cases,
        _slant,
        _mistakes(),
        "the rows are not where they belong: row r moves to the right by slope times "
        "((H - 1) / 2 - r) pixels, and between two columns the value is their weighted mean",
        TOLERANCE,
    )
    x = torch.rand(3, 1, 6, 5) * 2 - 1
    if not torch.equal(_asked(answer, x, 0.0), x):
        wrong(
            "a slope of 0 gives nearly the same images, not bit for bit: a shift of 0 should give "
            "the left neighbour the weight 1 and the right one the weight 0"
        )


def _asked(answer: Answer, x: Tensor, slope: float) -> Tensor:
    before = x.clone()
    result = expect_tensor(answer(x, slope), "what slanted returns", x.shape)
    expect_kept("slanted", x=(x, before))
    return result


# --- Slanting, right or with a slip ------------------------------------------------------------


def _from_outside(row: Tensor, column: int) -> Tensor:
    """The background, as a value of each image and channel."""
    return torch.full_like(row[..., 0], BACKGROUND)


def _moved(
    row: Tensor,
    shift: float,
    outside: Callable[[Tensor, int], Tensor] = _from_outside,
    rounded: Callable[[float], float] = float,
) -> Tensor:
    """Move a row (B, C, W) to the right by `shift` pixels."""
    width = row.shape[-1]

    def value(column: int) -> Tensor:
        return row[..., column] if 0 <= column < width else outside(row, column)

    values = []
    for column in range(width):
        place = column - rounded(shift)
        left = math.floor(place)
        part = place - left
        values.append((1 - part) * value(left) + part * value(left + 1))
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


def _across_the_batch(x: Tensor, slope: float) -> Tensor:
    images = [
        _moved(one.flatten(0, 1)[None], slope * ((len(x) - 1) / 2 - number)).view_as(one)
        for number, one in enumerate(x)
    ]
    return torch.stack(images)


def _mistakes() -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    yield "nothing is slanted: the images come back as they are", lambda x, slope: x
    yield (
        "the slant has the wrong sign: with a positive slope rows above the middle move to the "
        "right, as in italics",
        lambda x, slope: _slant(x, -slope),
    )
    yield (
        "columns are moved up and down here: a slant moves rows, each along itself",
        lambda x, slope: _slant(x.mT, slope).mT,
    )
    yield (
        "columns are moved up and down here: a slant moves rows, each along itself",
        lambda x, slope: _slant(x.mT, -slope).mT,
    )
    for sign in (1, -1):
        yield (
            "the shift depends on an image's place in the batch: it depends on the row alone",
            lambda x, slope, sign=sign: _across_the_batch(x, sign * slope),
        )
    slips: list[tuple[str, dict[str, Any]]] = [
        (
            "what leaves on one side comes in on the other: nothing wraps around, and background "
            "comes in",
            {"outside": lambda row, column: row[..., column % row.shape[-1]]},
        ),
        (
            "the border pixels are drawn out: what comes in is background, the lowest value",
            {"outside": lambda row, column: row[..., 0 if column < 0 else -1]},
        ),
        (
            "grey comes in, the value 0: background is the lowest value of the range, -1",
            {"outside": lambda row, column: torch.zeros_like(row[..., 0])},
        ),
        (
            "white comes in: background is the lowest value of the range, -1",
            {"outside": lambda row, column: torch.ones_like(row[..., 0])},
        ),
        *((WHOLE, {"rounded": rounded}) for rounded in (round, math.floor, math.trunc, math.ceil)),
        ("the top row stays in its place: the middle should", {"above": lambda row, height: -row}),
        (
            "the bottom row stays in its place: the middle should",
            {"above": lambda row, height: height - 1 - row},
        ),
        (
            "the middle is half a pixel too low: rows count from 0 to H - 1, so their middle is "
            "(H - 1) / 2",
            {"above": lambda row, height: height / 2 - row},
        ),
        (A_ROW, {"above": lambda row, height: height // 2 - row}),
        (A_ROW, {"above": lambda row, height: (height - 1) // 2 - row}),
        (
            "all rows move alike: a row moves by slope times its own height above the middle",
            {"above": lambda row, height: 1.0},
        ),
        (
            "both halves move to the same side: below the middle the height is negative",
            {"above": lambda row, height: abs((height - 1) / 2 - row)},
        ),
        (
            "the height is counted in halves of the image: count it in pixels",
            {"above": lambda row, height: 1 - 2 * row / (height - 1)},
        ),
    ]
    for message, slip in slips:
        yield message, functools.partial(_slant, **slip)
    yield (
        "the slope is taken for an angle: it is pixels to the right for each pixel up",
        lambda x, slope: _slant(x, math.tan(slope)),
    )


def _images(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, dtype=torch.float64) * 2 - 1

"""Exercise 1: a batch with a backdoor's trigger and its label."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

CLASSES, ALL = 4, slice(None)
Batch = tuple[Tensor, Tensor]


def _case(
    count: int, *shape: int, target: int, rows: int, size: int
) -> Callable[[], tuple[Tensor, Tensor, int, int, int]]:
    def case() -> tuple[Tensor, Tensor, int, int, int]:
        x, y = torch.rand(count, *shape) * 2 - 1, torch.randint(CLASSES, (count,))
        y[0], y[-1] = (target + 1) % CLASSES, (target + 2) % CLASSES
        return x, y, target, rows, size

    return case


def _poison(
    x: Tensor, y: Tensor, target: int, images: slice, labels: slice, *square: slice, value: int = 1
) -> Batch:
    x, y = x.clone(), y.clone()
    x[images, *square] = value
    y[labels] = target
    return x, y


def _corner(size: int) -> tuple[slice, slice, slice]:
    """The square in all channels."""
    return ALL, slice(-size, None), slice(-size, None)


@exercise(
    cases=[
        _case(6, 2, 5, 8, target=2, rows=2, size=3),
        _case(5, 3, 7, 4, target=0, rows=3, size=1),
        _case(4, 1, 6, 6, target=3, rows=1, size=4),
        _case(3, 2, 3, 4, target=1, rows=3, size=2),
    ],
    returns=("the images", "the labels"),
    praise="the first images carry the trigger and the target's label, and the batch that you were "
    "given has not changed.",
    otherwise="the batch is not right: in x[:rows] the square of size by size pixels in the lower "
    "right corner is 1 in every channel, y[:rows] is the target, and the rest stays as it is",
    slips={
        "the whole batch is poisoned: change only x[:rows] and y[:rows]": (
            lambda x, y, target, rows, size: _poison(x, y, target, ALL, ALL, *_corner(size))
        ),
        "every image has the square: put it on x[:rows] only": (
            lambda x, y, target, rows, size: _poison(x, y, target, ALL, slice(rows), *_corner(size))
        ),
        "the last images are poisoned: change the first ones, x[:rows] and y[:rows]": (
            lambda x, y, target, rows, size: _poison(
                x, y, target, slice(-rows, None), slice(-rows, None), *_corner(size)
            )
        ),
        "the labels have not changed: set y[:rows] to the target": (
            lambda x, y, target, rows, size: _poison(
                x, y, target, slice(rows), slice(0), *_corner(size)
            )
        ),
        "the labels are right, but no image has the square: set its pixels in x[:rows]": (
            lambda x, y, target, rows, size: _poison(x, y, target, slice(0), slice(rows))
        ),
        "the square is in the upper left corner: count rows and columns of pixels from the end": (
            lambda x, y, target, rows, size: _poison(
                x, y, target, slice(rows), slice(rows), ALL, slice(size), slice(size)
            )
        ),
        "the square is in the first channel only: set all channels": (
            lambda x, y, target, rows, size: _poison(
                x, y, target, slice(rows), slice(rows), slice(1), *_corner(size)[1:]
            )
        ),
        "the square is 0, which is gray in images from -1 to 1: set its pixels to 1": (
            lambda x, y, target, rows, size: _poison(
                x, y, target, slice(rows), slice(rows), *_corner(size), value=0
            )
        ),
    },
)
def poison_batch(x: Tensor, y: Tensor, target: int, rows: int, size: int) -> Batch:
    return _poison(x, y, target, slice(rows), slice(rows), *_corner(size))

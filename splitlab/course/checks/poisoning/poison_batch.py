"""Exercise 1: a batch with a backdoor's trigger and its label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

CLASSES = 4
Batch = tuple[Tensor, Tensor]


def _case(
    count: int, *shape: int, target: int, rows: int, size: int
) -> Callable[[], tuple[Tensor, Tensor, int, int, int]]:
    def case() -> tuple[Tensor, Tensor, int, int, int]:
        x, y = torch.rand(count, *shape) * 2 - 1, torch.randint(CLASSES, (count,))
        y[0], y[-1] = (target + 1) % CLASSES, (target + 2) % CLASSES
        return x, y, target, rows, size

    return case


def _square(x: Tensor, size: int, value: float = 1) -> Tensor:
    """Put the square on all images."""
    x = x.clone()
    x[:, :, -size:, -size:] = value
    return x


def _first(rows: int, one: Tensor, other: Tensor) -> Tensor:
    return torch.cat([one[:rows], other[rows:]])


def _with(**change: Callable[..., Tensor]) -> Callable[..., Batch]:
    """Make an answer with other images, or other labels."""

    def images(x: Tensor, y: Tensor, target: int, rows: int, size: int) -> Tensor:
        return _first(rows, _square(x, size), x)

    def labels(x: Tensor, y: Tensor, target: int, rows: int, size: int) -> Tensor:
        return _first(rows, torch.full_like(y, target), y)

    parts = {"images": images, "labels": labels} | change
    return lambda *given: (parts["images"](*given), parts["labels"](*given))


def _patched(square: Callable[[Tensor, int], Tensor]) -> Callable[..., Batch]:
    return _with(images=lambda x, y, target, rows, size: _first(rows, square(x, size), x))


def _whole(*given: Any) -> Batch:
    x, y, target, _, size = given
    return _square(x, size), torch.full_like(y, target)


def _last(*given: Any) -> Batch:
    x, y, target, rows, size = given
    flipped = poisoned(x.flip(0), y.flip(0), target, rows, size)
    return flipped[0].flip(0), flipped[1].flip(0)


poisoned = _with()


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
        "the whole batch is poisoned: change only x[:rows] and y[:rows]": _whole,
        "every image has the square: put it on x[:rows] only": _with(
            images=lambda x, y, target, rows, size: _square(x, size)
        ),
        "the last images are poisoned: change the first ones, x[:rows] and y[:rows]": _last,
        "the labels have not changed: set y[:rows] to the target": _with(
            labels=lambda x, y, *_: y.clone()
        ),
        "the labels are right, but no image has the square: set its pixels in x[:rows]": _with(
            images=lambda x, *_: x.clone()
        ),
        "the square is in the upper left corner: count rows and columns of pixels from the end": (
            _patched(lambda x, size: _square(x.flip(2, 3), size).flip(2, 3))
        ),
        "the square is in the first channel only: set all channels": _patched(
            lambda x, size: torch.cat([_square(x, size)[:, :1], x[:, 1:]], dim=1)
        ),
        "the square is 0, which is gray in images from -1 to 1: set its pixels to 1": _patched(
            lambda x, size: _square(x, size, 0)
        ),
    },
)
def poison_batch(x: Tensor, y: Tensor, target: int, rows: int, size: int) -> Batch:
    return poisoned(x, y, target, rows, size)

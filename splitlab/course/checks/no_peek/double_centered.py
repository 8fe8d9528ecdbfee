"""Exercise 1: distances from which the means of their rows and columns are subtracted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise


def _case(count: int, size: int, *, learns: bool = False) -> Callable[[], tuple[Tensor]]:
    """Distances between some points, as a batch of images or of z has them."""

    def case() -> tuple[Tensor]:
        points = torch.randn(count, size) * (1 + torch.rand(count, 1))
        distances = (points[:, None] - points[None]).norm(dim=2)
        return (distances.requires_grad_(learns),)

    return case


def _without(
    d: Tensor, *, rows: float = 1, columns: float = 1, grand: float = 1, n: float | None = None
) -> Tensor:
    """The distances minus these multiples of the means, which are sums divided by `n`."""
    n = len(d) if n is None else n
    row, column, whole = d.sum(1, keepdim=True) / n, d.sum(0, keepdim=True) / n, d.sum() / n**2
    return d - rows * row - columns * column + grand * whole


def _unbiased(d: Tensor) -> Tensor:
    n = len(d)
    row, column, whole = d.sum(1, keepdim=True), d.sum(0, keepdim=True), d.sum()
    return d - row / (n - 2) - column / (n - 2) + whole / ((n - 1) * (n - 2))


@exercise(
    cases=[_case(5, 3), _case(4, 2, learns=True), _case(7, 1), _case(9, 6)],
    returns="what double_centered returns",
    praise="every row and every column has mean 0.",
    otherwise="these are not the double-centered distances: from each distance subtract the mean "
    "of its row and the mean of its column, and add the mean of all distances",
    slips={
        "only the means of the rows are subtracted: subtract those of the columns, too, and add "
        "the mean of all distances": lambda d: _without(d, columns=0, grand=0),
        "only the means of the columns are subtracted: subtract those of the rows, too, and add "
        "the mean of all distances": lambda d: _without(d, rows=0, grand=0),
        "the mean of all distances is missing: it is in the mean of the row and in that of the "
        "column, and was subtracted twice, so add it once": lambda d: _without(d, grand=0),
        "the mean of all distances is subtracted: it was subtracted twice with the means of row "
        "and column, so add it": lambda d: _without(d, grand=-1),
        "only the mean of all distances is subtracted: each row and each column loses its own "
        "mean": lambda d: _without(d, rows=0, columns=0, grand=-1),
        "the means of the columns are subtracted twice: a mean of rows needs keepdim=True, or "
        "torch lays it along the columns": lambda d: _without(d, rows=0, columns=2),
        "the means of the rows are subtracted twice: take the mean over the other axis, too": (
            lambda d: _without(d, rows=2, columns=0)
        ),
        "these are sums of rows and columns: subtract their means": lambda d: _without(d, n=1),
        "the distance of each point to itself is left out of the means: this statistic counts it, "
        "so divide by n": lambda d: _without(d, n=len(d) - 1),
        "this is the centering of the bias-corrected statistic: here all means are plain means": (
            _unbiased
        ),
    },
)
def double_centered(distances: Tensor) -> Tensor:
    return _without(distances)

"""Exercise 1: how much more similar gradients are within a class than between classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from splitlab.course.checks.judge import exercise

Gap = Callable[[Tensor, Tensor], Tensor | None]


def _case(labels: list[int], *shape: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """A gradient whose rows are similar within a class, and of various lengths."""

    def case() -> tuple[Tensor, Tensor]:
        y = torch.tensor(labels)
        centers = torch.randn(int(y.max()) + 1, *shape)
        lengths = torch.rand(len(y), *[1] * len(shape)) + 0.1
        return lengths * (centers[y] + torch.randn(len(y), *shape)), y

    return case


def _said(gap: Any, dz: Tensor, labels: Tensor) -> Any:
    """Replace None, where a kind of pair is missing, by its name: the judge cannot compare None."""
    missing = len(labels.unique()) in (1, len(labels))
    return "None" if gap is None and missing else gap


def _cosines(dz: Tensor) -> Tensor:
    rows = normalize(dz.flatten(1))
    return rows @ rows.T


def _products(dz: Tensor) -> Tensor:
    return dz.flatten(1) @ dz.flatten(1).T


def _within_places(dz: Tensor) -> Tensor:
    rows = normalize(dz).flatten(1)
    return rows @ rows.T / (rows.shape[1] / dz.shape[1])


def _with(
    *,
    cosines: Callable[[Tensor], Tensor] = _cosines,
    of_one: Callable[[Tensor], Tensor] = lambda alike: alike & ~_diagonal(alike),
    of_two: Callable[[Tensor], Tensor] = lambda alike: ~alike,
    mean: Callable[[Tensor], Tensor] = lambda chosen: chosen.mean(),
    gap: Callable[[Tensor, Tensor], Tensor] = lambda same, other: same - other,
    missing: float | None = None,
    look: Callable[[bool, bool], bool] = lambda same, other: same and other,
) -> Gap:
    """An answer that has one part wrong.

    Args:
        cosines: dz -> how alike each two rows are, (B, B).
        of_one: (B, B), whether two rows are of one class -> the pairs of one class.
        of_two: The same -> the pairs of two classes.
        mean: Of the chosen cosines.
        gap: Of the two means.
        missing: What is returned where a kind of pair is missing.
        look: Whether there are pairs of one class, and of two -> whether all is there.
    """

    def answer(dz: Tensor, labels: Tensor) -> Any:
        alike = labels[:, None] == labels
        similar, one, two = cosines(dz), of_one(alike), of_two(alike)
        if not look(bool(one.any()), bool(two.any())):
            return missing
        return gap(mean(similar[one]), mean(similar[two]))

    return answer


def _diagonal(alike: Tensor) -> Tensor:
    return torch.eye(len(alike), dtype=torch.bool)


@exercise(
    cases=[
        _case([0, 1, 1, 2, 0, 1], 5),
        _case([2, 0, 2, 2, 1], 2, 3, 2),
        _case([0, 0, 1], 4),
        _case([1, 1, 1, 1], 3),  # no pair of two classes
        _case([3, 0, 2, 1], 3, 2, 2),  # no pair of one class
        _case([0], 6),
    ],
    returns="the gap",
    use=_said,
    praise="an honest server has a large gap from its first steps, and a hijacker has none.",
    otherwise="the gap is not right: it is the mean cosine over pairs of different rows of one "
    "class, minus the mean cosine over pairs of rows of two classes",
    slips={
        "each row is paired with itself, too: that cosine is always 1, so leave these pairs out": (
            _with(of_one=lambda alike: alike)
        ),
        "the norm is taken over the whole batch: each row has a length of its own": _with(
            cosines=lambda dz: _products(dz / dz.norm())
        ),
        "these are inner products: divide each by the lengths of its two rows": _with(
            cosines=_products
        ),
        "the cosines are taken at each place, over the channels: flatten each row first": _with(
            cosines=_within_places
        ),
        "the cosines are added up: take their mean, for there are more pairs of two classes": _with(
            mean=lambda chosen: chosen.sum()
        ),
        "the sign is reversed: subtract the pairs of two classes from those of one": _with(
            gap=lambda same, other: other - same
        ),
        "this is half of the gap: cosines go from -1 to 1 here, not from 0 to 1": _with(
            gap=lambda same, other: (same - other) / 2
        ),
        "the gap is divided by the sum of the two means: return the difference alone": _with(
            gap=lambda same, other: (same - other) / (same + other)
        ),
        "this is the mean over pairs of one class alone: subtract that over pairs of two": _with(
            gap=lambda same, other: same
        ),
        "the mean over all pairs is subtracted: take the pairs of two classes alone": _with(
            of_two=lambda alike: ~_diagonal(alike)
        ),
        "the median is taken: the gap is a difference of means": _with(
            mean=lambda chosen: chosen.median()
        ),
        "a mean over no pairs is nan: return None where either kind of pair is missing": _with(
            look=lambda same, other: True
        ),
        "the gap is 0 where a kind of pair is missing: nothing is known then, so return None": (
            _with(missing=0.0)
        ),
        "None is returned only where both kinds of pair are missing: one is enough": _with(
            look=lambda same, other: same or other
        ),
    },
)
def gradient_gap(dz: Tensor, labels: Tensor) -> Any:
    return _with()(dz, labels)

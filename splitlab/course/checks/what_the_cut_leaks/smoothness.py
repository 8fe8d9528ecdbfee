"""Exercise 1: how much an image changes from pixel to pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from splitlab.course.checks.base import (
    Answer,
    check,
    expect_right,
    expect_tensor,
    same,
    what,
    wrong,
)
from splitlab.course.checks.training import gradient

Formula = Callable[[Tensor], Tensor]
SHAPES = (
    (5, 3, 4, 6),
    (2, 1, 2, 7),
    (1, 2, 5, 2),
    (4, 2, 3, 5),
)  # no two axes stand for each other


@check("neighbors alike: 0, and each image has a number of its own, whatever lies beside it.")
def total_variation(answer: Answer) -> None:
    """`total_variation(x)`: the mean squared difference of neighbors, for each image."""
    cases = [(_images(shape),) for shape in SHAPES]
    values = [_asked(answer, x) for (x,) in cases]
    expect_right(
        values,
        cases,
        _slow,
        _mistakes(),
        "this is not the total variation: for each image, the mean of the squared differences of "
        "vertical neighbors, plus the mean of those of horizontal ones",
    )
    _check_gradient(answer, cases[0][0])


def _images(shape: tuple[int, int, int, int]) -> Tensor:
    """Images, float64, in which the two directions differ, and the channels, too."""
    steep = torch.linspace(0, 3, shape[2], dtype=torch.float64).view(1, 1, -1, 1)
    loud = torch.linspace(0.2, 1, shape[1], dtype=torch.float64).view(1, -1, 1, 1)
    return loud * (torch.randn(shape, dtype=torch.float64) + steep)


def _asked(answer: Answer, x: Tensor) -> Tensor:
    """Return one number for each image.

    Raises:
        CheckFailed: If the function returns anything else, or changes the images.
    """
    before = x.clone()
    value = answer(x)
    if not torch.equal(x, before) or x.requires_grad:
        wrong("total_variation changes the images that it is given: write a - b, not a -= b")
    if not isinstance(value, Tensor):
        wrong(f"the total variation should be a tensor, (B,), and is {what(value)}")
    if value.dim() == 0:
        wrong(
            "this is one number for the whole batch: return one for each image, so that whoever "
            "descends on one of them can tell it from the others"
        )
    return expect_tensor(value, "the total variation", (len(x),))


def _slow(x: Tensor) -> Tensor:
    """The truth, pair by pair."""
    totals = []
    for image in x:
        down = [(row - above) ** 2 for c in image for above, row in pairwise(c)]
        columns = [channel.T for channel in image]
        right = [(b - a) ** 2 for c in columns for a, b in pairwise(c)]
        totals.append(torch.cat(down).mean() + torch.cat(right).mean())
    return torch.stack(totals)


def _mistakes() -> Iterator[tuple[str, Formula]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "only vertical neighbors are compared: an image of upright stripes would count as smooth",
        lambda x: _per_image(_down(x)),
    )
    yield (
        "only horizontal neighbors are compared: an image of level stripes would count as smooth",
        lambda x: _per_image(_right(x)),
    )
    yield (
        "neighbors go round the edge: the first row is compared with the last one, as roll does, "
        "and a picture that is dark above and bright below is charged for it",
        lambda x: _per_image(x - x.roll(1, 2)) + _per_image(x - x.roll(1, 3)),
    )
    yield (
        "the image is taken to go on in black beyond its edge: compare pixels with pixels only",
        lambda x: sum(
            _per_image(torch.cat([d, x.narrow(axis, -1, 1)], axis))
            for axis, d in ((2, _down(x)), (3, _right(x)))
        ),
    )
    yield (
        "only pixels that have a neighbor in both directions are counted: the last row has "
        "neighbors to the side, and the last column has some below",
        lambda x: _per_image(_down(x)[..., :-1]) + _per_image(_right(x)[..., :-1, :]),
    )
    yield (
        "the differences are absolute where they should be squared",
        lambda x: _per_image(_down(x).abs().sqrt()) + _per_image(_right(x).abs().sqrt()),
    )
    yield (
        "the squared differences are summed: take their mean, so that a weight on it serves images "
        "of any size",
        lambda x: _down(x).square().sum((1, 2, 3)) + _right(x).square().sum((1, 2, 3)),
    )
    yield (
        "the squared differences are summed over the channels: the mean runs over them, too",
        lambda x: (_per_image(_down(x)) + _per_image(_right(x))) * x.shape[1],
    )
    yield (
        "the sums are divided by the number of pixels: an image has fewer pairs of neighbors than "
        "pixels, and fewer in one direction than in the other",
        lambda x: (
            (_down(x).square().sum((1, 2, 3)) + _right(x).square().sum((1, 2, 3))) / x[0].numel()
        ),
    )
    yield (
        "both directions share one mean: each has a mean of its own, and the two are added",
        lambda x: torch.cat([_down(x).flatten(1), _right(x).flatten(1)], 1).square().mean(1),
    )
    yield (
        "this is half of it: the two means are added, not averaged",
        lambda x: _slow(x) / 2,
    )
    yield (
        "this is the difference of the two directions: both count as roughness, so add them",
        lambda x: _per_image(_down(x)) - _per_image(_right(x)),
    )
    yield (
        "this is divided by the number of images: one image's roughness must not depend on how "
        "many others there are",
        lambda x: _slow(x) / len(x),
    )
    yield (
        "every image gets the mean of the batch: one image's roughness must not depend on the "
        "others",
        lambda x: _slow(x).mean().expand(len(x)),
    )
    yield (
        "every image gets the sum over the batch: one image's roughness must not depend on the "
        "others",
        lambda x: _slow(x).sum().expand(len(x)),
    )
    yield (
        "a root is taken: leave the mean of the squares as it is",
        lambda x: _per_image(_down(x)).sqrt() + _per_image(_right(x)).sqrt(),
    )
    yield ("a root is taken: leave the mean of the squares as it is", lambda x: _slow(x).sqrt())
    yield (
        "diagonal neighbors are compared: neighbors share an edge",
        lambda x: (
            _per_image(x[..., 1:, 1:] - x[..., :-1, :-1])
            + _per_image(x[..., 1:, :-1] - x[..., :-1, 1:])
        ),
    )
    yield (
        "this is the variance of the pixels: a black half and a white half have much of it, and "
        "one edge",
        lambda x: x.flatten(1).var(1),
    )
    yield (
        "this is the variance of the pixels: a black half and a white half have much of it, and "
        "one edge",
        lambda x: x.flatten(1).var(1, correction=0),
    )


def _down(x: Tensor) -> Tensor:
    return x.diff(dim=2)


def _right(x: Tensor) -> Tensor:
    return x.diff(dim=3)


def _per_image(differences: Tensor) -> Tensor:
    return differences.square().mean((1, 2, 3))


def _check_gradient(answer: Answer, x: Tensor) -> None:
    """See that an attack can descend on it."""
    leaf = x.clone().requires_grad_()
    value = answer(leaf)
    if not isinstance(value, Tensor) or not value.requires_grad:
        wrong(
            "no gradient leads from the total variation back to the images: compute it with "
            "tensors, without detach, item or no_grad, because an attack will descend on it"
        )
    (found,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True, materialize_grads=True)
    if not same(found, gradient(lambda x: _slow(x).sum(), x)):
        wrong(
            "the number is right, and its gradient is not: a part of it was computed outside of "
            "the graph"
        )

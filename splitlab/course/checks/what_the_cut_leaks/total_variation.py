"""Exercise 1: how much an image changes from pixel to pixel."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from splitlab.course.checks.judge import exercise

Formula = Callable[[Tensor], Tensor]


def _images(*shape: int, low: float = 0.0) -> Tensor:
    """Images in which the two directions differ, and the channels, too."""
    steep = torch.linspace(0, 3, shape[2]).view(1, 1, -1, 1)
    loud = torch.linspace(0.2, 1, shape[1]).view(1, -1, 1, 1)
    return low + loud * (torch.randn(shape) + steep)


def _neighbors(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.diff(dim=2), x.diff(dim=3)


def _mean_square(differences: Tensor) -> Tensor:
    return differences.square().mean((1, 2, 3))


def _with(
    differences: Callable[[Tensor], tuple[Tensor, Tensor]] = _neighbors,
    of: Formula = _mean_square,
    total: Callable[[Tensor, Tensor], Tensor] = torch.add,
) -> Formula:
    """An answer with other differences, another number of each direction's, or another total."""
    return lambda x: total(*map(of, differences(x)))


def _in_place(x: Tensor) -> Tensor:
    x[:, :, :-1] -= x[:, :, 1:].clone()
    return _mean_square(x[:, :, :-1]) + _mean_square(x.diff(dim=3))


@exercise(
    cases=[
        lambda: (_images(5, 3, 4, 6).requires_grad_(),),
        lambda: (_images(4, 2, 3, 5),),
        lambda: (_images(2, 1, 2, 7, low=-9),),
        lambda: (_images(1, 2, 5, 2),),
        lambda: (_images(3, 1, 2, 2),),
        lambda: (torch.full((2, 3, 4, 3), 0.7),),
    ],
    returns="the total variation",
    praise="a flat image scores 0, and each image's score depends on that image alone.",
    otherwise="this is not the total variation: for each image, the mean of the squared "
    "differences of vertical neighbors, plus the mean of those of horizontal ones",
    slips={
        "the vertical differences are detached, so no gradient comes from them": _with(
            lambda x: (x.detach().diff(dim=2), x.diff(dim=3))
        ),
        "the horizontal differences are detached, so no gradient comes from them": _with(
            lambda x: (x.diff(dim=2), x.detach().diff(dim=3))
        ),
        "this is one number for the whole batch: return one for each image, so that each can be "
        "optimized by itself": _with(total=lambda down, right: (down + right).mean()),
        "total_variation changes the images that it is given: write a - b, not a -= b": _in_place,
        "only vertical neighbors are compared: an image of upright stripes would count as "
        "smooth": _with(total=lambda down, right: down),
        "only horizontal neighbors are compared: an image of level stripes would count as "
        "smooth": _with(total=lambda down, right: right),
        "the first row is compared with the last one, as roll does: compare only pixels that "
        "are next to each other": _with(lambda x: (x - x.roll(1, 2), x - x.roll(1, 3))),
        "the image is padded with zeros before pixels are compared: compare only pixels of the "
        "image": (
            _with(lambda x: (F.pad(x, (0, 0, 0, 1)).diff(dim=2), F.pad(x, (0, 1)).diff(dim=3)))
        ),
        "only pixels that have a neighbor in both directions are counted: the last row has "
        "neighbors to the side, and the last column has some below": _with(
            lambda x: (x[..., :-1].diff(dim=2), x[..., :-1, :].diff(dim=3))
        ),
        "the last pair of rows and of columns is left out: a slice ends too early": _with(
            lambda x: (x.diff(dim=2)[..., :-1, :], x.diff(dim=3)[..., :-1])
        ),
        "only the first channel is looked at: the mean runs over all of them": _with(
            lambda x: _neighbors(x[:, :1])
        ),
        "these are differences of differences: neighbors alone are compared": _with(
            lambda x: (x.diff(2, dim=2), x.diff(2, dim=3))
        ),
        "the absolute differences are used: square the differences": _with(
            of=lambda differences: differences.abs().mean((1, 2, 3))
        ),
        "the squared differences are summed: take their mean, so that a weight on it serves images "
        "of any size": _with(of=lambda differences: differences.square().sum((1, 2, 3))),
        "the squared differences are summed over the channels: the mean runs over them, too": _with(
            of=lambda differences: differences.square().mean((2, 3)).sum(1)
        ),
        "the sums are divided by the number of pixels: an image has fewer pairs of neighbors than "
        "pixels, and fewer in one direction than in the other": _with(
            lambda x: (F.pad(x.diff(dim=2), (0, 0, 0, 1)), F.pad(x.diff(dim=3), (0, 1)))
        ),
        "both directions share one mean: each has a mean of its own, and the two are added": (
            lambda x: torch.cat([d.flatten(1) for d in _neighbors(x)], 1).square().mean(1)
        ),
        "this is half of it: the two means are added, not averaged": _with(
            total=lambda down, right: (down + right) / 2
        ),
        "this is the difference of the two directions: both count as roughness, so add them": _with(
            total=torch.sub
        ),
        "this is divided by the number of images: one image's roughness must not depend on how "
        "many others there are": _with(total=lambda down, right: (down + right) / len(down)),
        "every image gets the mean of the batch: one image's roughness must not depend on the "
        "others": _with(total=lambda down, right: (down + right).mean().repeat(len(down))),
        "every image gets the sum over the batch: one image's roughness must not depend on the "
        "others": _with(total=lambda down, right: (down + right).sum().repeat(len(down))),
        "a root is taken: leave the mean of the squares as it is": _with(
            of=lambda differences: _mean_square(differences).sqrt()
        ),
        "a root is taken of the sum: leave the sum of the two means as it is": _with(
            total=lambda down, right: (down + right).sqrt()
        ),
        "diagonal neighbors are compared: neighbors share an edge": _with(
            lambda x: (
                x[..., 1:, 1:] - x[..., :-1, :-1],
                x[..., 1:, :-1] - x[..., :-1, 1:],
            )
        ),
        "this is the variance of the pixels: a black half and a white half have much of it, and "
        "one edge": lambda x: x.flatten(1).var(1),
        "this is the mean squared distance of the pixels from their mean: compare neighbors": (
            lambda x: x.flatten(1).var(1, correction=0)
        ),
    },
)
def total_variation(x: Tensor) -> Tensor:
    return _with()(x)

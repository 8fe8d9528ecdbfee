"""Exercise 1: the norm of each row's gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from splitlab.course.checks.base import Answer, check, expect_right, same, wrong
from splitlab.course.checks.labels_leak.common import expect_scores, undisturbed

ROUNDING = 1e-5  # relative; an answer may compute in float32
SMALL = 1e-6  # how much smaller gradients are, late in training, than those of the first cases


@check("one number for each image, and no label was needed for it.")
def norm_score(answer: Answer) -> None:
    """`norm_score(dz)`: the Euclidean norm of each image's gradient, (B, ...) -> (B,)."""
    cases = [(_gradients(shape),) for shape in ((7, 3, 4, 2), (6, 5), (5, 4, 3), (9, 2, 2, 2, 3))]
    expect_right(
        [_asked(answer, *case) for case in cases],
        cases,
        _norms,
        _mistakes(),
        "these are not the norms: square all numbers of one image's gradient, add them up, and "
        "take the root",
        ROUNDING,
    )
    dz = cases[0][0].clone()
    dz[-1] = 0  # an image that the server has learned
    if not same(_asked(answer, dz * SMALL) / SMALL, _norms(dz), ROUNDING):
        wrong(
            "the scores of small gradients are not right: late in training they are a million "
            "times smaller, some of them are zero, and a number that is added drowns them"
        )


def _asked(answer: Answer, dz: Tensor) -> Tensor:
    return expect_scores(undisturbed(answer, dz, what="the gradients"), dz)


def _mistakes() -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "these are the squared norms: they put the images in the same order, so the attack is as "
        "good, and a norm is what the docstring promises; take the root",
        lambda dz: _norms(dz).square(),
    )
    yield (
        "these are the roots of mean squares: the norm is the root of the sum, so that it can be "
        "compared with what others report",
        lambda dz: dz.flatten(1).square().mean(1).sqrt(),
    )
    yield (
        "these are mean squares: the norm is the root of the sum of squares",
        lambda dz: dz.flatten(1).square().mean(1),
    )
    yield (
        "these are sums of absolute values: square the numbers, and take the root of their sum",
        lambda dz: dz.flatten(1).abs().sum(1),
    )
    yield (
        "these are means of absolute values: square the numbers, and take the root of their sum",
        lambda dz: dz.flatten(1).abs().mean(1),
    )
    yield (
        "these are the largest absolute values: all numbers of a gradient count",
        lambda dz: dz.flatten(1).abs().amax(1),
    )
    yield (
        "these are sums with signs, in which large numbers cancel: square them first",
        lambda dz: dz.flatten(1).sum(1),
    )
    yield (
        "these are means with signs, in which large numbers cancel: square them first",
        lambda dz: dz.flatten(1).mean(1),
    )
    yield (
        "each channel's norm is taken, and then their mean: take one norm over everything",
        lambda dz: _channels(dz).mean(1),
    )
    yield (
        "each channel's norm is taken, and then their sum: take one norm over everything",
        lambda dz: _channels(dz).sum(1),
    )
    yield (
        "the mean of each gradient is subtracted first: it is a part of the gradient",
        lambda dz: (dz.flatten(1) - dz.flatten(1).mean(1, keepdim=True)).norm(dim=1),
    )
    yield (
        "the norms are divided by the batch's largest: then no batch can be compared with another",
        lambda dz: _norms(dz) / _norms(dz).max(),
    )
    yield (
        "the norms are divided by their sum: then no batch can be compared with another",
        lambda dz: _norms(dz) / _norms(dz).sum(),
    )
    yield (
        "these are negative norms: the attack takes a large norm for the rare label",
        lambda dz: -_norms(dz),
    )


def _norms(dz: Tensor) -> Tensor:
    return dz.flatten(1).square().sum(1).sqrt()


def _channels(dz: Tensor) -> Tensor:
    """Each channel's norm, (B, C)."""
    return dz.reshape(*dz.shape[:2], -1).square().sum(2).sqrt()


def _gradients(shape: tuple[int, ...]) -> Tensor:
    """Make gradients, float64, of unlike norms and not centerd."""
    sizes = 0.2 + 3 * torch.rand(shape[0], *[1] * (len(shape) - 1), dtype=torch.float64)
    return sizes * (torch.randn(shape, dtype=torch.float64) + 0.3)

"""Exercise 1: the norm of each row's gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Score = Callable[[Tensor], Tensor]


def _gradients(*shape: int) -> Tensor:
    """Gradients of different norms, not centered; two of them are equal."""
    dz = torch.randn(shape) + 0.3
    dz *= 0.2 + 3 * torch.rand(shape[0], *[1] * (len(shape) - 1))
    dz[-1] = dz[0]
    return dz


def _small() -> tuple[Tensor]:
    """Gradients as late in training; the server has learned one image."""
    dz = 1e-6 * _gradients(7, 3, 4, 2)
    dz[-1] = 0
    return (dz,)


def _rows(score: Score) -> Score:
    """A score of rows (B, D)."""
    return lambda dz: score(dz.flatten(1))


def _norms(dz: Tensor) -> Tensor:
    return torch.linalg.vector_norm(dz.flatten(1), dim=1)


def _channels(dz: Tensor) -> Tensor:
    """Each channel's norm, (B, C)."""
    return torch.linalg.vector_norm(dz.reshape(*dz.shape[:2], -1), dim=2)


@exercise(
    cases=[
        lambda: (_gradients(7, 3, 4, 2),),
        lambda: (_gradients(6, 5),),
        lambda: (_gradients(5, 4, 3),),
        lambda: (-torch.rand(1, 1, 2, 2, 3),),
        _small,
    ],
    returns="the tensor of scores",
    praise="one number for each image, and no label was needed for it.",
    otherwise="these are not the norms: square all numbers of one image's gradient, add them up, "
    "and take the root",
    slips={
        "there is one score for the whole batch: each image has a gradient of its own, and gets "
        "its own score": lambda dz: dz.norm(),
        "there is a score for each channel: one image's gradient runs over its channels and "
        "positions together": _channels,
        "there is a score for each position: one image's gradient runs over its channels and "
        "positions together": lambda dz: dz.norm(dim=1),
        "the score is taken over the batch, for each number of z: take it over the numbers of z, "
        "for each image of the batch": lambda dz: dz.norm(dim=0),
        "these are the squared norms: they put the images in the same order, so the attack is as "
        "good, and a norm is what the docstring promises; take the root": _rows(
            lambda rows: rows.square().sum(1)
        ),
        "these are the roots of mean squares: the norm is the root of the sum, so that it can be "
        "compared with what others report": _rows(lambda rows: rows.square().mean(1).sqrt()),
        "these are mean squares: the norm is the root of the sum of squares": _rows(
            lambda rows: rows.square().mean(1)
        ),
        "these are sums of absolute values: square the numbers, and take the root of their sum": (
            _rows(lambda rows: rows.abs().sum(1))
        ),
        "these are means of absolute values: square the numbers, and take the root of their sum": (
            _rows(lambda rows: rows.abs().mean(1))
        ),
        "these are the largest absolute values: all numbers of a gradient count": _rows(
            lambda rows: rows.abs().amax(1)
        ),
        "these are sums with signs, in which large numbers cancel: square them first": _rows(
            lambda rows: rows.sum(1)
        ),
        "these are means with signs, in which large numbers cancel: square them first": _rows(
            lambda rows: rows.mean(1)
        ),
        "each channel's norm is taken, and then their mean: take one norm over everything": (
            lambda dz: _channels(dz).mean(1)
        ),
        "each channel's norm is taken, and then their sum: take one norm over everything": (
            lambda dz: _channels(dz).sum(1)
        ),
        "the mean of each gradient is subtracted first: it is a part of the gradient": _rows(
            lambda rows: (rows - rows.mean(1, keepdim=True)).norm(dim=1)
        ),
        "the norms are divided by the batch's largest: then no batch can be compared with "
        "another": lambda dz: _norms(dz) / _norms(dz).max(),
        "the norms are divided by their sum: then no batch can be compared with another": (
            lambda dz: _norms(dz) / _norms(dz).sum()
        ),
        "these are negative norms: the attack takes a large norm for the rare label": (
            lambda dz: -_norms(dz)
        ),
        "the scores of small gradients are not right: late in training they are a million times "
        "smaller, some of them are zero, and a number that is added drowns them": _rows(
            lambda rows: (rows.square().sum(1) + 1e-12).sqrt()
        ),
    },
)
def norm_score(dz: Tensor) -> Tensor:
    return _norms(dz)

"""Exercise 3: the cosine between each row's gradient and a known gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from splitlab.course.checks.judge import exercise

Score = Callable[[Tensor, Tensor], Tensor]


def _gradients(*shape: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Short and long gradients at acute and obtuse angles to a known one; two are equal."""
    known = torch.randn(shape[1:]) + 0.2
    along, size = 2 * torch.rand(2, shape[0], *[1] * known.dim()) - 1
    dz = (1.6 + 1.4 * size) * (along * known + 0.5 * torch.randn(shape))
    dz[-1] = dz[0]
    return scale * dz, scale * known


def _with_zeros() -> tuple[Tensor, Tensor]:
    """The server has learned one image."""
    dz, known = _gradients(9, 3, 4, 2)
    dz[2] = 0
    return dz, known


def _norms(dz: Tensor) -> Tensor:
    return torch.linalg.vector_norm(dz.flatten(1), dim=1)


def _dots(dz: Tensor, known: Tensor) -> Tensor:
    return dz.flatten(1) @ known.flatten()


def _cosines(dz: Tensor, known: Tensor) -> Tensor:
    return _dots(F.normalize(dz.flatten(1)), F.normalize(known.flatten(), dim=0))


def _over(length: Score) -> Score:
    """The products, divided by another length."""
    return lambda dz, known: _dots(dz, known) / length(dz, known)


def _changed(change: Callable[[Tensor], Tensor]) -> Score:
    return lambda dz, known: change(_cosines(dz, known))


@exercise(
    cases=[
        lambda: _gradients(9, 3, 4, 2),
        lambda: _gradients(8, 5),
        lambda: _gradients(7, 4, 3),
        lambda: _gradients(1, 1, 2, 2, 3),
        lambda: _gradients(6, 2, 3, 2, scale=1e-5),
        _with_zeros,
        lambda: (torch.randn(4, 3, 2), torch.zeros(3, 2)),
    ],
    returns="the tensor of scores",
    praise="one known image reveals the labels of the others, whatever the norms of their "
    "gradients.",
    otherwise="these are not the cosines: multiply a row with the known gradient number by number, "
    "add up, and divide by the norms of both, and by nothing else; where there is no direction the "
    "score is 0, and all other scores stay as they are",
    slips={
        "these are products, not cosines: a long gradient of another class outscores a short one "
        "of the known class; divide by both norms": _dots,
        "the rows keep their norms: divide by the norm of each row, too, and not by that of the "
        "known gradient alone": _over(lambda dz, known: known.norm()),
        "the known gradient keeps its norm: divide by its norm, too, or scores of two known "
        "images cannot be compared": _over(lambda dz, known: _norms(dz)),
        "the norms are squared: divide by the norms": _over(
            lambda dz, known: (_norms(dz) * known.norm()).square()
        ),
        "the gradients are normalized over the batch: give each row the length 1, over its own "
        "numbers, dim=1": lambda dz, known: _dots(F.normalize(dz, dim=0), known / known.norm()),
        "the gradients are normalized over the batch: all of it is divided by one length, and each "
        "row should be divided by its own": _over(lambda dz, known: dz.norm() * known.norm()),
        "a row of zeros, from an image that the server has learned, gives nan, or a known gradient "
        "of zeros does: it has no direction, so let its score be 0, on neither side": _over(
            lambda dz, known: _norms(dz) * known.norm()
        ),
        "a known gradient of zeros gives nan: it has no direction, so let all scores be 0, on "
        "neither side": lambda dz, known: _cosines(dz, known) / (known.norm() > 0),
        "the scores of small gradients are not right: a cosine does not depend on the norms of the "
        "gradients, so add nothing to the norms": _over(
            lambda dz, known: _norms(dz) * known.norm() + 1e-8
        ),
        "the sign is lost: a negative cosine is what marks the other class, so leave out abs": (
            _changed(torch.abs)
        ),
        "the sign is lost: the cosines are squared": _changed(torch.square),
        "cosines below 0 are cut off: how far below 0 they lie is information": _changed(F.relu),
        "only the signs are left: the score should say how near, so that a threshold can be "
        "chosen": _changed(torch.sign),
        "these are distances, 1 minus the cosine: a score should be higher where an image is "
        "more like the known one": _changed(lambda cosine: 1 - cosine),
        "the sign is reversed: a score should be higher where an image is more like the known "
        "one": (_changed(torch.neg)),
        "the cosines are moved to run from 0 to 1: leave them between -1 and 1": _changed(
            lambda cosine: (1 + cosine) / 2
        ),
        "these are angles: return their cosines": _changed(torch.acos),
        "the mean of each gradient is subtracted first, which makes it a correlation: leave the "
        "gradients as they are": lambda dz, known: _cosines(
            dz.flatten(1) - dz.flatten(1).mean(1, keepdim=True), known - known.mean()
        ),
        "the batch's mean gradient is subtracted first: leave the gradients as they are": (
            lambda dz, known: _cosines(dz - dz.mean(0), known)
        ),
        "there is a score for each position: one image's gradient runs over its channels and "
        "positions together": lambda dz, known: F.cosine_similarity(dz, known[None], dim=1),
        "there is a cosine for each position, and then their mean: take one cosine over all of an "
        "image's numbers": lambda dz, known: (
            F.cosine_similarity(dz, known[None], dim=1).flatten(1).mean(1)
            if dz.dim() > 2
            else _cosines(dz, known)
        ),
        "the rows are compared with the batch's first row: the known gradient is an argument, "
        "and need not be in the batch": lambda dz, known: _cosines(dz, dz[0]),
    },
)
def cosine_score(dz: Tensor, known: Tensor) -> Tensor:
    return _cosines(dz, known)

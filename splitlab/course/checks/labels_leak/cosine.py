"""Exercise 3: the angle between each row's gradient and one that is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from splitlab.course.checks.base import Answer, check, expect_right, same, wrong
from splitlab.course.checks.labels_leak.common import expect_scores, undisturbed

ROUNDING = 1e-6  # an answer may compute in float32
SMALL = 1e-4


@check("one known image reveals the labels of the others, whatever the norms of their gradients.")
def cosine_score(answer: Answer) -> None:
    """`cosine_score(dz, known)`: the cosine of each row with one known positive's gradient."""
    cases = [_gradients(shape) for shape in ((9, 3, 4, 2), (8, 5), (7, 4, 3), (6, 2, 2, 3, 2))]
    expect_right(
        [_asked(answer, *case) for case in cases],
        cases,
        _cosines,
        _mistakes(),
        "these are not the cosines: multiply a row with the known gradient number by number, add "
        "up, and divide by the norms of both",
        ROUNDING,
    )
    dz, known = cases[0]
    small = _asked(answer, dz * SMALL, known * SMALL)
    if not same(small, _cosines(dz, known), ROUNDING):
        wrong(
            "the scores of small gradients are not right: a cosine does not depend on the norms of "
            "the gradients, so add nothing to the norms that is not far smaller than they are"
        )
    _check_zeros(answer, dz, known)


def _check_zeros(answer: Answer, dz: Tensor, known: Tensor) -> None:
    """A gradient of zeros has no direction, and gets 0."""
    with_zeros = dz.clone()
    with_zeros[2] = 0
    for what, rows, one in (
        ("a row of zeros, from an image that the server has learned,", with_zeros, known),
        ("a known gradient of zeros", dz, torch.zeros_like(known)),
    ):
        value = undisturbed(answer, rows, one, what="the gradients")
        if isinstance(value, Tensor) and value.isnan().any():
            wrong(f"{what} gives nan: it has no direction, so let its score be 0, on neither side")
        scores = expect_scores(value, rows)
        if not same(scores, _cosines(rows, one), ROUNDING):
            wrong(
                f"{what} changes the scores in another way than asked: where there is no direction "
                "the score is 0, and all other scores stay as they are"
            )


def _asked(answer: Answer, dz: Tensor, known: Tensor) -> Tensor:
    return expect_scores(undisturbed(answer, dz, known, what="the gradients"), dz)


def _mistakes() -> Iterator[tuple[str, Callable[[Tensor, Tensor], Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "these are products, not cosines: a long gradient of another class outscores a short one "
        "of the known class; divide by both norms",
        lambda dz, known: dz.flatten(1) @ known.flatten(),
    )
    yield (
        "the rows keep their norms: divide by the norm of each row, too, and not by that of the "
        "known gradient alone",
        lambda dz, known: _cosines(dz, known) * dz.flatten(1).norm(dim=1),
    )
    yield (
        "the known gradient keeps its norm: divide by its norm, too, or scores of two known "
        "images cannot be compared",
        lambda dz, known: _cosines(dz, known) * known.norm(),
    )
    yield (
        "the norms are squared: divide by the norms",
        lambda dz, known: _cosines(dz, known) / (dz.flatten(1).norm(dim=1) * known.norm()),
    )
    yield (
        "the gradients are normalized over the batch: give each row the length 1, over its own "
        "numbers, dim=1",
        lambda dz, known: F.normalize(dz.flatten(1), dim=0) @ F.normalize(known.flatten(), dim=0),
    )
    yield (
        "the gradients are normalized over the batch: all of it is divided by one length, and each "
        "row should be divided by its own",
        lambda dz, known: dz.flatten(1) @ known.flatten() / (dz.norm() * known.norm()),
    )
    changed: dict[str, Callable[[Tensor], Tensor]] = {
        "the sign is lost: a negative cosine is what marks the other class, so leave out abs": (
            lambda cosine: cosine.abs()
        ),
        "the sign is lost: the cosines are squared": lambda cosine: cosine.square(),
        "cosines below 0 are cut off: how far below 0 they lie is information": (
            lambda cosine: cosine.clamp(min=0)
        ),
        "only the signs are left: the score should say how near, so that a threshold can be "
        "chosen": lambda cosine: cosine.sign(),
        "these are distances, 1 minus the cosine: a score is higher where an image looks more "
        "like the known one": lambda cosine: 1 - cosine,
        "the sign is turned: a score is higher where an image looks more like the known one": (
            lambda cosine: -cosine
        ),
        "the cosines are moved to run from 0 to 1: leave them between -1 and 1": (
            lambda cosine: (1 + cosine) / 2
        ),
        "these are angles: return their cosines": lambda cosine: cosine.acos(),
    }
    for message, change in changed.items():
        yield message, lambda dz, known, change=change: change(_cosines(dz, known))
    yield (
        "the mean of each gradient is subtracted first, which makes it a correlation: leave the "
        "gradients as they are",
        lambda dz, known: _cosines(
            dz - dz.flatten(1).mean(1).view(-1, *[1] * known.dim()), known - known.mean()
        ),
    )
    yield (
        "the batch's mean gradient is subtracted first: leave the gradients as they are",
        lambda dz, known: _cosines(dz - dz.mean(0), known),
    )
    yield (
        "there is a cosine for each position, and then their mean: take one cosine over all of an "
        "image's numbers",
        lambda dz, known: (
            F.cosine_similarity(dz, known[None], dim=1).flatten(1).mean(1)
            if dz.dim() > 2
            else _cosines(dz, known)
        ),
    )
    yield (
        "the rows are compared with the batch's first row: the known gradient is handed over, and "
        "need not be in the batch",
        lambda dz, known: _cosines(dz, dz[0]),
    )


def _cosines(dz: Tensor, known: Tensor) -> Tensor:
    """One cosine for each row, 0 where there is no direction."""
    directions = [F.normalize(one.flatten(), dim=0) for one in (*dz, known)]
    return torch.stack([(one * directions[-1]).sum() for one in directions[:-1]])


def _gradients(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Make gradients, float64, that lie to both sides of a known one, short and long."""
    known = torch.randn(shape[1:], dtype=torch.float64) + 0.2
    along = torch.linspace(-1, 1, shape[0], dtype=torch.float64)[torch.randperm(shape[0])]
    per_row = [-1, *[1] * known.dim()]
    dz = along.view(per_row) * known + 0.5 * torch.randn(shape, dtype=torch.float64)
    return dz * (0.2 + 3 * torch.rand(shape[0], dtype=torch.float64)).view(per_row), known

"""Exercise 2: the published score of SplitGuard, with the angle in radians."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Given = tuple[Any, ...]


def _case(
    fake: int, first: int, second: int, *, shift: float = 1.0, squash: tuple[float, ...] = ()
) -> Callable[[], Given]:
    """Gradients of each kind, in these numbers; the fake ones are displaced by `shift`."""

    def case() -> Given:
        center, other = torch.randn(2, 6)
        parts = [center + torch.randn(n, 6) for n in (fake, first, second)]
        return parts[0] + shift * other, parts[1], 1.3 * parts[2], *squash

    return case


def _parallel() -> Iterator[Given]:
    """Gradients that point in one direction or opposite ones, so that a cosine rounds beyond 1."""
    for factor in (2.0, -2.0):
        row = torch.randn(6)
        while not (row @ row / row.norm() ** 2 > 1 and row @ row / (row.norm() * row.norm()) > 1):
            row = torch.randn(6)
        yield factor * row[None], row[None].clone(), row[None].clone()


def _of_one_norm() -> Given:
    rows = torch.tensor([[3.0, 4.0], [5.0, 0.0], [0.0, 5.0], [4.0, -3.0]])
    return rows[:1], rows[1:3].clone(), rows[3:].clone()


def _angle(a: Tensor, b: Tensor) -> Tensor:
    return torch.acos(_cosine(a, b).clamp(-1, 1))


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm())


def _between_means(a: Tensor, b: Tensor) -> Tensor:
    return _angle(a.mean(0), b.mean(0))


def _of_pairs(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([_angle(one, other) for one in a for other in b]).mean()


def _mean_norm(part: Tensor) -> Tensor:
    return part.norm(dim=1).mean()


def _norm_of_mean(part: Tensor) -> Tensor:
    return part.mean(0).norm()


def _with(
    *,
    angle: Callable[[Tensor, Tensor], Tensor] = _angle,
    regular: Callable[[Tensor, Tensor], Tensor] = lambda one, two: (one.mean(0) + two.mean(0)) / 2,
    length: Callable[[Tensor], Tensor] = _mean_norm,
    usual: Callable[[Tensor, Tensor], Tensor] | None = None,
    distance: Callable[[Tensor, Tensor], Tensor] = lambda a, b: (a - b).abs(),
    raw: Callable[[Tensor, Tensor], Tensor] = lambda weighed, total: weighed / total,
    signs: tuple[int, int] = (1, -1),
    still: float = 0.0,
    squashed: Callable[..., Any] = lambda s, alpha, beta: torch.sigmoid(alpha * s) ** beta,
) -> Callable[..., Any]:
    """An answer that has one part wrong.

    Args:
        angle: Of two mean gradients.
        regular: (R1, R2) -> the mean gradient of R.
        length: A kind's gradients -> its length.
        usual: (R1, R2) -> the length of R; the mean of theirs by default.
        distance: Of two lengths.
        raw: (the weighed angles, the sum of the distances) -> S.
        signs: Of both terms of S.
        still: S where both distances are 0.
        squashed: (S, alpha, beta) -> the score.
    """

    def answer(
        fake: Tensor, first: Tensor, second: Tensor, alpha: float = 5.0, beta: float = 2.0
    ) -> Any:
        of_fake, one, two = length(fake), length(first), length(second)
        both = usual(first, second) if usual else (one + two) / 2
        apart, within = distance(of_fake, both), distance(one, two)
        weighed = signs[0] * angle(fake.mean(0), regular(first, second)) * apart
        weighed = weighed + signs[1] * angle(first.mean(0), second.mean(0)) * within
        total = apart + within
        return squashed(raw(weighed, total) if total != 0 else still + 0 * total, alpha, beta)

    return answer


def _by_vectors(
    fake: Tensor, first: Tensor, second: Tensor, alpha: float = 5.0, beta: float = 2.0
) -> Any:
    """With the norm of a difference of means for d."""
    f, one, two = fake.mean(0), first.mean(0), second.mean(0)
    r = (one + two) / 2
    apart, within = (f - r).norm(), (one - two).norm()
    s = (_angle(f, r) * apart - _angle(one, two) * within) / (apart + within)
    return torch.sigmoid(alpha * s) ** beta


def _by_pairs(
    fake: Tensor, first: Tensor, second: Tensor, alpha: float = 5.0, beta: float = 2.0
) -> Any:
    """With the mean angle of pairs of gradients for theta."""
    one, two = _mean_norm(first), _mean_norm(second)
    apart, within = (_mean_norm(fake) - (one + two) / 2).abs(), (one - two).abs()
    outer = _of_pairs(fake, torch.cat([first, second]))
    s = (outer * apart - _of_pairs(first, second) * within) / (apart + within)
    return torch.sigmoid(alpha * s) ** beta


def _pooled(one: Tensor, two: Tensor) -> Tensor:
    return torch.cat([one, two]).mean(0)


def _pooled_norm(one: Tensor, two: Tensor) -> Tensor:
    return _mean_norm(torch.cat([one, two]))


@exercise(
    cases=[
        _case(3, 4, 2, squash=(0.5, 1.5)),
        _case(2, 1, 3, shift=2.5, squash=(1.2, 3.0)),
        _case(1, 5, 2, squash=(0.8, 0.7)),
        _case(4, 2, 3, shift=0.3),
        _parallel,
        _of_one_norm,
    ],
    returns="the score",
    tolerance=1e-6,
    praise="near 1 the false batches move f elsewhere than the true ones, and near 1/4 or below "
    "they do not.",
    otherwise="the score is not right: with theta the angle between two mean gradients, and d the "
    "difference of two mean norms, S is (theta(F, R) d(F, R) - theta(R1, R2) d(R1, R2)) / (d(F, R) "
    "+ d(R1, R2)), and the score is sigmoid(alpha S) to the power of beta",
    slips={
        "the angle is in degrees: sigmoid(5 S) is then 0 or 1 for almost every angle, so leave it "
        "in radians": _with(angle=lambda a, b: torch.rad2deg(_angle(a, b))),
        "theta is a cosine: take its arc cosine": _with(angle=_cosine),
        "theta is the mean angle between single gradients: average the gradients of a kind first, "
        "and take the angle between the means": _by_pairs,
        "d is the norm of a difference of mean gradients: take the difference of their mean "
        "norms": _by_vectors,
        "d compares the norms of the mean gradients: take the mean of the gradients' norms": _with(
            length=_norm_of_mean
        ),
        "R is the mean over all true batches together: it is the mean of R1's mean and R2's mean, "
        "which weighs both halves alike": _with(regular=_pooled, usual=_pooled_norm),
        "R's direction is the mean over all true batches together: it is the mean of R1's mean and "
        "R2's mean": _with(regular=_pooled),
        "R's norm is the mean over all true batches together: it is the mean of R1's mean norm and "
        "R2's": _with(usual=_pooled_norm),
        "R's norm is that of its mean gradient: it is the mean of R1's mean norm and R2's": _with(
            usual=lambda one, two: ((one.mean(0) + two.mean(0)) / 2).norm()
        ),
        "the difference of two mean norms has a sign here: d is its absolute value": _with(
            distance=lambda a, b: a - b
        ),
        "d is a squared difference: take the absolute value": _with(
            distance=lambda a, b: (a - b) ** 2
        ),
        "the two terms of S are added: subtract the second one": _with(signs=(1, 1)),
        "the two terms of S have changed places: subtract what separates the true batches": _with(
            signs=(-1, 1)
        ),
        "the second term of S is missing: subtract theta(R1, R2) d(R1, R2)": _with(signs=(1, 0)),
        "S is not divided by d(F, R) + d(R1, R2)": _with(raw=lambda weighed, total: weighed),
        "beta is forgotten: raise the sigmoid to the power of beta": _with(
            squashed=lambda s, alpha, beta: torch.sigmoid(alpha * s)
        ),
        "alpha is forgotten: the sigmoid is that of alpha * S": _with(
            squashed=lambda s, alpha, beta: torch.sigmoid(s) ** beta
        ),
        "the sigmoid is multiplied by beta: raise it to that power": _with(
            squashed=lambda s, alpha, beta: torch.sigmoid(alpha * s) * beta
        ),
        "beta is inside the sigmoid: raise the sigmoid itself to the power of beta": _with(
            squashed=lambda s, alpha, beta: torch.sigmoid(alpha * s * beta)
        ),
        "this is S: return sigmoid(alpha S) to the power of beta": _with(
            squashed=lambda s, alpha, beta: s
        ),
        "a cosine is rounded to more than 1 or less than -1, and its arc cosine is nan: clamp it "
        "first": _with(angle=lambda a, b: torch.acos(_cosine(a, b))),
        "the score is nan where both differences are 0: S is 0 then": _with(still=torch.nan),
        "the score is 0 where both differences are 0: S is 0 then, and the score is that of S": (
            _with(squashed=lambda s, alpha, beta: torch.sigmoid(alpha * s) ** beta * (s != 0))
        ),
    },
)
def splitguard_score(
    fake: Tensor, first: Tensor, second: Tensor, alpha: float = 5.0, beta: float = 2.0
) -> Any:
    return _with()(fake, first, second, alpha, beta)

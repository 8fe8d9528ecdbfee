"""Exercise 3: the majority of SafeSplit's first score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from scipy.fft import dct
from torch import Tensor

from splitlab.course.checks.judge import exercise


def _case(count: int, size: int, share: float) -> Callable[[], tuple[Tensor, float]]:
    """Three kinds of updates whose majority changes under subtle slips, but not by rounding."""

    def case() -> tuple[Tensor, float]:
        while True:
            kinds = torch.randn(3, size)[torch.randint(3, (count,))]
            updates = kinds + 0.4 * torch.randn(count, size) + 0.4 * torch.randn(count, 1)
            low, wrong = _low(updates, share), _low(updates, share, norm=None)
            ordered = _scores(low).sort().values
            clear = ordered.diff()[count // 2] > 1e-3 * ordered[count // 2]
            all_scores = _scores(low), _scores(low, first=0), _scores(low, power=2), _scores(wrong)
            if clear and len({tuple(_majority(scores)) for scores in all_scores}) == 4:
                return updates, share

    return case


def _low(updates: Tensor, share: float, **options: Any) -> Tensor:
    options = {"norm": "ortho"} | options
    coefficients = torch.from_numpy(dct(updates.detach().numpy(), **options))
    return coefficients[:, : round(share * updates.shape[1])]


def _high(updates: Tensor, share: float) -> Tensor:
    return _low(updates, 1)[:, -round(share * updates.shape[1]) :]


def _distances(rows: Tensor) -> Tensor:
    return (rows[:, None] - rows[None]).norm(dim=2)


def _scores(rows: Tensor, *, power: int = 1, first: int = 1) -> Tensor:
    """Sums over the nearest neighbors, which at `first` = 0 begin with the point itself."""
    nearest = _distances(rows).pow(power).sort(1).values
    return nearest[:, first : first + len(rows) // 2 + 1].sum(1)


def _majority(scores: Tensor, size: int = 0) -> list[int]:
    chosen: list[int] = scores.argsort()[: size or len(scores) // 2 + 1].tolist()
    return sorted(chosen)


@exercise(
    cases=[
        _case(24, 12, 0.4),  # few mistakes look alike here
        _case(21, 24, 0.25),
        _case(16, 9, 0.3),
        _case(22, 40, 0.1),
        _case(13, 6, 0.5),
    ],
    returns="the places",
    praise="the majority has the updates that lie closest together at low frequencies.",
    otherwise="these are not the places of the majority: take the first round(share * n) DCT "
    "coefficients of each update, sum its distances to the N // 2 + 1 nearest others, and return "
    "the places of the N // 2 + 1 smallest sums, in ascending order",
    slips={
        "each update counts as its own neighbor, at distance 0: sum the distances to N // 2 + 1 "
        "others": lambda u, share: _majority(_scores(_low(u, share), first=0)),
        "these are the high frequencies: the low ones come first, so take the first coefficients": (
            lambda u, share: _majority(_scores(_high(u, share)))
        ),
        "the distances are squared: sum the distances themselves": (
            lambda u, share: _majority(_scores(_low(u, share), power=2))
        ),
        "these are only N // 2 places: a majority has N // 2 + 1": lambda u, share: _majority(
            _scores(_low(u, share)), len(u) // 2
        ),
        "this compares with the mean update: sum the distances to the nearest other updates": (
            lambda u, share: _majority((_low(u, share) - _low(u, share).mean(0)).norm(dim=1))
        ),
        "the sum runs over all other updates: take only the N // 2 + 1 nearest": (
            lambda u, share: _majority(_distances(_low(u, share)).sum(1))
        ),
        "the DCT runs across the updates: transform each update by itself, along axis 1": (
            lambda u, share: _majority(_scores(_low(u, share, axis=0)))
        ),
        "there is no DCT: these are the first numbers of the updates, so transform them before you "
        "cut": lambda u, share: _majority(_scores(u[:, : round(share * u.shape[1])])),
        "the first coefficient counts too much: set norm='ortho', so that distances stay as they "
        "are under the DCT": lambda u, share: _majority(_scores(_low(u, share, norm=None))),
    },
)
def benign(updates: Tensor, share: float) -> list[int]:
    return _majority(_scores(_low(updates, share)))

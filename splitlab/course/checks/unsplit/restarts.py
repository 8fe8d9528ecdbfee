"""Exercise 1: which of several restarts to keep."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitlab.attacks.priors import total_variation
from splitlab.course.checks.base import Answer, check, expect_right, what, wrong
from splitlab.course.checks.unsplit.common import Untouched, expect_unchanged

Restart = tuple[Tensor, nn.Module]
Case = tuple[list[Restart], Tensor]


@check("the restart that explains z best is kept, and no private image was needed to choose it.")
def best_restart(answer: Answer) -> None:
    """`best_restart(restarts, z)`: the number of the restart whose features are nearest to z."""
    cases = [_case(count, batch) for batch in (4, 3, 1) for count in (4, 5, 7, 3, 6, 5)]
    cases.append(_case(1, 2))
    expect_right(
        [_asked(answer, *case) for case in cases],
        cases,
        _smallest(_error),
        _mistakes(),
        "this is not the restart whose features are nearest to z: for each restart take "
        "surrogate(images), subtract z, and compare the means of the squares",
    )


def _asked(answer: Answer, restarts: list[Restart], z: Tensor) -> Tensor:
    """Return the student's choice, if it is the number of a restart.

    Raises:
        CheckFailed: If it is not, or if something has changed.
    """
    before = [images.clone() for images, _ in restarts], z.clone()
    nets = [Untouched(surrogate, "a surrogate") for _, surrogate in restarts]
    given = list(restarts)
    number = answer(given, z)
    for net in nets:
        net.check()
    pairs = zip(restarts, before[0], strict=True)
    for (images, _), copy in pairs:
        expect_unchanged("best_restart", images=(images, copy))
    expect_unchanged("best_restart", z=(z, before[1]))
    if len(given) != len(restarts) or any(map(operator.is_not, given, restarts)):
        wrong("best_restart changes the list of restarts: leave it as it is")
    return torch.tensor(_number(number))


def _number(value: Any) -> int:
    """Return a whole number of any kind as an int."""
    if isinstance(value, Tensor) and value.dim():
        wrong(
            f"what best_restart returns has shape {tuple(value.shape)}: each restart has one error "
            "for the whole batch, and one number is the answer"
        )
    if isinstance(value, tuple | list | nn.Module):
        wrong(f"best_restart returns {what(value)}: return the restart's number, not the restart")
    try:
        return operator.index(value)
    except TypeError:
        wrong(
            f"best_restart returns {what(value)} where a whole number is expected: the number of "
            "the restart, not its error"
        )
        raise


def _smallest(cost: Callable[[Restart, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The number of the restart that costs least."""

    def choose(restarts: list[Restart], z: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack([cost(restart, z) for restart in restarts]).argmin()

    return choose


def _features(restart: Restart) -> Tensor:
    images, surrogate = restart
    return surrogate(images)


def _error(restart: Restart, z: Tensor) -> Tensor:
    return (_features(restart) - z).square().mean()


def _mistakes() -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "this is the last restart in every case: later is not better, each restart began anew",
        lambda restarts, z: torch.tensor(len(restarts) - 1),
    )
    yield (
        "this is the first restart in every case: look at the others, too",
        lambda restarts, z: torch.tensor(0),
    )
    yield (
        "this is the restart with the largest error: the nearest one has the smallest",
        _smallest(lambda restart, z: -_error(restart, z)),
    )
    yield (
        "the restarts are counted from 1 here: the first one is number 0, so that "
        "restarts[number] is the one you mean",
        lambda restarts, z: _smallest(_error)(restarts, z) + 1,
    )
    costs: dict[str, Callable[[Restart, Tensor], Tensor]] = {
        "this is the restart with the smoothest images: total variation says what images look "
        "like, and whether they explain z it does not say": (
            lambda restart, z: total_variation(restart[0]).mean()
        ),
        "this is the restart with the smallest features, whatever z is: compare them with z": (
            lambda restart, z: _features(restart).square().mean()
        ),
        "the features of each image are compared with the z of all images: row i of "
        "surrogate(images) belongs to row i of z, and to no other": (
            lambda restart, z: (_features(restart)[:, None] - z[None]).square().mean()
        ),
        "the absolute error decides here: take the mean squared error, which the restarts were "
        "optimized for": lambda restart, z: (_features(restart) - z).abs().mean(),
        "the largest single error decides here: take the mean of the squared errors": (
            lambda restart, z: (_features(restart) - z).abs().amax()
        ),
        "the errors are not squared, and those of opposite sign cancel": (
            lambda restart, z: (_features(restart) - z).mean()
        ),
        "the errors are averaged before they lose their sign, and those of opposite sign cancel": (
            lambda restart, z: (_features(restart) - z).mean().abs()
        ),
        "the angle between the features and z decides here, which is blind to their size: take "
        "the squared error": (
            lambda restart, z: -F.cosine_similarity(_features(restart).flatten(), z.flatten(), 0)
        ),
        "only the first image of the batch is compared: the error is a mean over all": (
            lambda restart, z: (_features(restart)[0] - z[0]).square().mean()
        ),
    }
    for message, cost in costs.items():
        yield message, _smallest(cost)


def _case(count: int, batch: int) -> Case:
    """Make restarts, none of which is much better than the others, and the z they are after."""
    z = torch.rand(batch, 2, 3, 2, dtype=torch.float64) - 0.3
    restarts = []
    for _ in range(count):
        surrogate = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Tanh()).double()
        restarts.append((torch.rand(batch, 1, 6, 4, dtype=torch.float64) * 2 - 1, surrogate))
    return restarts, z

"""Exercise 1: which of several restarts to keep."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitlab.attacks.priors import total_variation
from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise
from splitlab.course.checks.sight import what

Restart = tuple[Tensor, nn.Module]


def _case(
    batch: int, counts: tuple[int, ...] = (4, 5, 7, 3, 6, 2), *, size: float = 1, near: bool = False
) -> Callable[[], Iterator[tuple[list[Restart], Tensor]]]:
    """Several choices among restarts, none of which is much better than the others.

    Args:
        batch: Number of images.
        counts: Number of restarts, by choice.
        size: Of all numbers.
        near: Whether the restarts are nearly the same.
    """

    def restart() -> Restart:
        first = nn.Conv2d(1, 2, 3, 2, 1)
        for weight in first.parameters():
            weight.grad = torch.randn_like(weight)
        nn.init.uniform_(first.bias, -size, size)
        images = size * (2 * torch.rand(batch, 1, 6, 4) - 1)
        return images, nn.Sequential(first, nn.LeakyReLU(0.3))

    def case() -> Iterator[tuple[list[Restart], Tensor]]:
        for count in counts:
            restarts = [restart() for _ in range(count)]
            if near:
                images, surrogate = restarts[0]
                restarts = [
                    (images + 1e-3 * torch.randn_like(images), copy.deepcopy(surrogate))
                    for _ in restarts
                ]
            next(restarts[-1][1].eval().parameters()).requires_grad_(False)
            yield restarts, size * (0.2 + torch.randn(batch, 2, 3, 2) / 2)

    return case


def _flat() -> tuple[list[Restart], Tensor]:
    """A z without positions, and images that are still the leaves of an optimizer."""
    restarts: list[Restart] = [
        (torch.rand(2, 1, 2, 2, requires_grad=True), nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
        for _ in range(5)
    ]
    return restarts, torch.randn(2, 3)


def _whole(number: Any, restarts: list[Restart], z: Tensor) -> Any:
    """Return a whole number of any kind as an int.

    Raises:
        CheckFailed: If it is none.
    """
    if isinstance(number, Tensor) and number.dim():
        return number
    try:
        return operator.index(number)
    except TypeError:
        wrong(
            f"best_restart returns {what(number)} where a whole number is expected: return the "
            "number of the restart, not the restart itself or its error"
        )


def _least(cost: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., int]:
    """The number of the restart with the lowest cost(images, features, z)."""

    def choose(restarts: list[Restart], z: Tensor) -> int:
        with torch.no_grad():
            costs = [cost(images, surrogate(images), z) for images, surrogate in restarts]
        return int(torch.stack(costs).argmin())

    return choose


def _error(images: Tensor, features: Tensor, z: Tensor) -> Tensor:
    return (features - z).square().mean()


def _after(act: Callable[..., Any]) -> Callable[..., int]:
    """The right choice, and its side effects on the restarts."""

    def choose(restarts: list[Restart], z: Tensor) -> int:
        number = _least(_error)(restarts, z)
        for images, surrogate in list(restarts):
            act(images, surrogate, z)
        return number

    return choose


def _sorted(restarts: list[Restart], z: Tensor) -> int:
    number = _least(_error)(restarts, z)
    restarts.sort(key=lambda restart: _error(restart[0], restart[1](restart[0]), z).item())
    return number


@exercise(
    cases=[
        *(_case(4), _case(3), _case(1), _case(2, size=1e3), _case(3, near=True)),
        *(_flat, _case(2, (1,)), _case(40, (9,), size=1e-3)),
    ],
    returns="the number",
    use=_whole,
    praise="the restart that explains z best is kept, and no private image was needed to choose "
    "it.",
    otherwise="this is not the restart whose features are nearest to z: for each restart take "
    "surrogate(images), subtract z, and compare the means of the squares",
    slips={
        "this is the last restart in every case: later is not better, each restart began anew": (
            lambda restarts, z: len(restarts) - 1
        ),
        "this is number 0 in every case: look at all restarts, and leave their order as it is": (
            lambda restarts, z: 0
        ),
        "this is the restart with the largest error: the nearest one has the smallest": _least(
            lambda images, features, z: -_error(images, features, z)
        ),
        "the restarts are counted from 1 here: the first one is number 0, so that "
        "restarts[number] is the one you mean": (
            lambda restarts, z: _least(_error)(restarts, z) + 1
        ),
        "this is the restart with the smoothest images: total variation says what images look "
        "like, not whether they explain z": _least(
            lambda images, features, z: total_variation(images).mean()
        ),
        "this is the restart with the smallest features, whatever z is: compare them with z": (
            _least(lambda images, features, z: features.square().mean())
        ),
        "the features of each image are compared with the z of all images: row i of "
        "surrogate(images) belongs to row i of z, and to no other": _least(
            lambda images, features, z: (features[:, None] - z[None]).square().mean()
        ),
        "the absolute error decides here: take the mean squared error, which the restarts were "
        "optimized for": _least(lambda images, features, z: (features - z).abs().mean()),
        "the largest single error decides here: take the mean of the squared errors": _least(
            lambda images, features, z: (features - z).abs().amax()
        ),
        "the errors are not squared, and those of opposite sign cancel": _least(
            lambda images, features, z: (features - z).mean()
        ),
        "the errors are averaged before they lose their sign, and those of opposite sign cancel": (
            _least(lambda images, features, z: (features - z).mean().abs())
        ),
        "the angle between the features and z decides here, which is blind to their size: take "
        "the squared error": _least(
            lambda images, features, z: -F.cosine_similarity(features.flatten(), z.flatten(), 0)
        ),
        "only the first image of the batch is compared: the error is a mean over all": _least(
            lambda images, features, z: _error(images, features[:1], z[:1])
        ),
        "best_restart changes the list of restarts: leave it as it is": _sorted,
        "the .grad of a surrogate's weights has changed, and would be added to its next training "
        "step: no backward pass is needed here": _after(
            lambda images, surrogate, z: _error(images, surrogate(images), z).backward()
        ),
        "the weights of a surrogate no longer require gradients, so it cannot learn: work under "
        "torch.no_grad() instead": _after(
            lambda images, surrogate, z: surrogate.requires_grad_(False)
        ),
        "the surrogates are left in evaluation mode: leave each in the mode that it came in": (
            _after(lambda images, surrogate, z: surrogate.eval())
        ),
    },
)
def best_restart(restarts: list[Restart], z: Tensor) -> int:
    return _least(_error)(restarts, z)

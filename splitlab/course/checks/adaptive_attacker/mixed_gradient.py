"""Exercise 1: a gradient that is partly a hijack and partly the agreed task."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Answer = Callable[[Tensor, Tensor, float], Tensor]


def _case(
    *shape: int, weight: float, size: float = 1.0
) -> Callable[[], tuple[Tensor, Tensor, float]]:
    """Two gradients whose rows have unlike norms; the task's is `size` times as long, or 0."""

    def case() -> tuple[Tensor, Tensor, float]:
        rows = torch.linspace(0.2, 1.8, shape[0]).view(-1, *[1] * (len(shape) - 1))
        return torch.randn(shape) * rows, torch.randn(shape) * rows.flip(0) * size, weight

    return case


def _rows(dz: Tensor) -> Tensor:
    return dz.flatten(1).norm(dim=1).view(-1, *[1] * (dz.dim() - 1))


def _scaled(hijack: Tensor, task: Tensor) -> Tensor:
    length = task.norm()
    return task * (hijack.norm() / length) if length > 0 else task


def _with(scaled: Callable[[Tensor, Tensor], Tensor]) -> Answer:
    """An answer that scales the task in another way; a task's gradient of 0 stays 0."""

    def answer(hijack: Tensor, task: Tensor, weight: float) -> Tensor:
        found = scaled(hijack, task) if task.norm() > 0 else task
        return weight * hijack + (1 - weight) * found

    return answer


def _mixture_scaled(hijack: Tensor, task: Tensor, weight: float) -> Tensor:
    mixture = _with(_scaled)(hijack, task, weight)
    return mixture * (hijack.norm() / mixture.norm())


def _hijack_scaled(hijack: Tensor, task: Tensor, weight: float) -> Tensor:
    return weight * _scaled(task, hijack) + (1 - weight) * task


def _unit_lengths(hijack: Tensor, task: Tensor, weight: float) -> Tensor:
    one = torch.ones(())
    return weight * _scaled(one, hijack) + (1 - weight) * _scaled(one, task)


@exercise(
    cases=[
        _case(5, 3, 2, 2, weight=0.3),
        _case(4, 6, weight=0.8, size=0.01),
        _case(3, 2, 4, 4, weight=0.7, size=0),
        _case(1, 9, weight=0.2, size=20.0),
    ],
    returns="the mixture",
    tolerance=1e-6,  # a small number in the denominator is no mistake
    praise="lambda means the same at every step, even when the task's gradient fades.",
    otherwise="the mixture is not right: scale task to the norm of hijack, both taken over the "
    "whole batch, and return weight * hijack + (1 - weight) * the scaled task",
    slips={
        "each row of task is scaled by itself: take both norms over the whole batch": _with(
            lambda hijack, task: task * (_rows(hijack) / _rows(task))
        ),
        "task is not scaled: it fades as the task is learned, so bring it to the norm of hijack "
        "first": _with(lambda hijack, task: task),
        "hijack is scaled to the norm of task: leave hijack as long as it is, and scale "
        "task": _hijack_scaled,
        "both gradients are scaled to the norm 1: keep the norm of hijack": _unit_lengths,
        "the mixture is scaled to the norm of hijack: scale task alone, and then "
        "mix": _mixture_scaled,
        "the ratio of the norms is upside down: task should have the norm of hijack": _with(
            lambda hijack, task: task * (task.norm() / hijack.norm())
        ),
        "the ratio of the squared norms is taken: task should have the norm of hijack": _with(
            lambda hijack, task: task * (hijack.norm() / task.norm()) ** 2
        ),
        "task is multiplied by the norm of hijack and not divided by its own": _with(
            lambda hijack, task: task * hijack.norm()
        ),
        "task is brought to the norm 1: multiply it by the norm of hijack": _with(
            lambda hijack, task: task / task.norm()
        ),
        "the norms are sums of absolute values: take the Euclidean norm": _with(
            lambda hijack, task: task * (hijack.abs().sum() / task.abs().sum())
        ),
        "the norms are the largest numbers: take the Euclidean norm": _with(
            lambda hijack, task: task * (hijack.abs().max() / task.abs().max())
        ),
        "the two weights have changed places: weight is the share of hijack": (
            lambda hijack, task, weight: _with(_scaled)(hijack, task, 1 - weight)
        ),
        "task is added in full: multiply it by 1 - weight": (
            lambda hijack, task, weight: weight * hijack + _scaled(hijack, task)
        ),
        "hijack is added in full: multiply it by weight": (
            lambda hijack, task, weight: hijack + (1 - weight) * _scaled(hijack, task)
        ),
        "a task gradient of 0 makes the mixture nan: do not divide by its norm then": (
            lambda hijack, task, weight: (
                weight * hijack + (1 - weight) * task * (hijack.norm() / task.norm())
            )
        ),
        "with a task gradient of 0 the whole hijack is sent: it is still multiplied by weight": (
            lambda hijack, task, weight: (
                _with(_scaled)(hijack, task, weight) if task.norm() > 0 else hijack.clone()
            )
        ),
    },
)
def mixed_gradient(hijack: Tensor, task: Tensor, weight: float) -> Tensor:
    return weight * hijack + (1 - weight) * _scaled(hijack, task)

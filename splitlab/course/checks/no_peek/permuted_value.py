"""Exercise 3: the value of a statistic for pairs that are independent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.judge import exercise

Statistic = Callable[[Tensor, Tensor], Tensor]


def _case(count: int, times: int, *shape: int) -> Callable[[], tuple[Any, ...]]:
    """A statistic of pairs, images, and a z that depends on them."""

    def case() -> tuple[Any, ...]:
        x, z = torch.randn(count, 2, 2, 2), torch.randn(count, *shape)
        z += x.flatten(1).sum(1).view(-1, *[1] * len(shape))
        weights = torch.randn(z[0].numel())

        def statistic(x: Tensor, z: Tensor) -> Tensor:
            a, b = x.flatten(1).norm(dim=1), z.flatten(1) @ weights
            value: Tensor = (a * b).mean().square() + (a - b).sin().square().mean()
            return value

        return statistic, x, z, torch.stack([torch.randperm(count) for _ in range(times)])

    return case


def _values(statistic: Statistic, x: Tensor, z: Tensor, orders: Tensor) -> Tensor:
    return torch.stack([statistic(x, z[order]) for order in orders])


def _at_each(play: Callable[[Statistic, Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An answer that does something else with each order."""
    return lambda statistic, x, z, orders: torch.stack(
        [play(statistic, x, z, order) for order in orders]
    ).mean()


def _one_after_another(statistic: Statistic, x: Tensor, z: Tensor, orders: Tensor) -> Tensor:
    found = []
    for order in orders:
        z = z[order]
        found.append(statistic(x, z))
    return torch.stack(found).mean()


def _all_at_once(statistic: Statistic, x: Tensor, z: Tensor, orders: Tensor) -> Tensor:
    return statistic(torch.cat([x] * len(orders)), torch.cat([z[order] for order in orders]))


@exercise(
    cases=[_case(8, 3, 8), _case(6, 4, 3, 2, 2), _case(5, 1, 4), _case(9, 6, 7)],
    returns="the mean",
    praise="it is the floor that the statistic of dependent pairs has to be compared with.",
    otherwise="the mean is not right: for each order take statistic(x, z[order]), and return the "
    "mean of these values",
    slips={
        "x and z are still paired as they were: reorder the rows of z alone": (
            lambda statistic, x, z, orders: statistic(x, z)
        ),
        "the rows of x are reordered: leave x as it is, and take z[order]": _at_each(
            lambda statistic, x, z, order: statistic(x[order], z)
        ),
        "the orders are applied one after another: each permutes the z that was given": (
            _one_after_another
        ),
        "the columns of z are reordered, and its rows still belong to their images: take "
        "z[order]": _at_each(lambda statistic, x, z, order: statistic(x, z[:, order])),
        "the columns of x are reordered: leave x as it is, and take z[order]": _at_each(
            lambda statistic, x, z, order: statistic(x.flatten(1)[:, order], z)
        ),
        "this is the sum over the orders: return the mean": (lambda *given: _values(*given).sum()),
        "this is the largest value: return the mean": lambda *given: _values(*given).max(),
        "this is the smallest value: return the mean": lambda *given: _values(*given).min(),
        "this is the median: return the mean": lambda *given: _values(*given).median(),
        "only the first order is used: take the mean over all orders": (
            lambda *given: _values(*given)[0]
        ),
        "only the last order is used: take the mean over all orders": (
            lambda *given: _values(*given)[-1]
        ),
        "z is averaged before the statistic: take the statistic for each order, and then the "
        "mean": lambda statistic, x, z, orders: statistic(x, z[orders].mean(0)),
        "all orders are joined to one large sample: a statistic depends on the number of rows, so "
        "take it for each order by itself": _all_at_once,
        "this is the excess over the permuted pairs: return the mean of the permuted pairs "
        "itself": lambda statistic, x, z, orders: (
            statistic(x, z) - _values(statistic, x, z, orders).mean()
        ),
    },
)
def permuted_value(statistic: Statistic, x: Tensor, z: Tensor, orders: Tensor) -> Tensor:
    return _values(statistic, x, z, orders).mean()

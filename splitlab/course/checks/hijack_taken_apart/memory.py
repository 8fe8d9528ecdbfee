"""Exercise 4: what Adam's two memories make of a gradient whose size changes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam

from splitlab.course.checks.base import Answer, check, expect_right, expect_tensor, what, wrong

USUAL = (0.9, 0.999)
TOLERANCE = 1e-4  # Adam's own eps, and float32, may enter
Betas = tuple[float, float]
Case = tuple[list[float], Betas]


@check("torch's own Adam takes exactly these steps.")
def effective_rate(answer: Answer) -> None:
    """`effective_rate(factors, betas)`: by how much Adam multiplies its rate, step by step."""
    drawn = (torch.rand(25, dtype=torch.float64) * 3 + 0.5).tolist()
    cases: list[Case] = [
        ([1.05**step for step in range(50)], USUAL),
        ([100.0] + [1.0] * 30, USUAL),
        ([20 * 0.9**step for step in range(25)], USUAL),
        (drawn, USUAL),
        (drawn, (0.5, 0.9)),
        ([4.0, 1.0, 2.0], (0.8, 0.6)),
        ([3.0], USUAL),
    ]
    expect_right(
        [_asked(answer, *case) for case in cases],
        cases,
        _by_torch,
        _mistakes(),
        "these are not Adam's steps: m and v are running means of the factors and of their "
        "squares, each divided by 1 - beta**t with t counted from 1, and the rate is the first "
        "over the root of the second",
        TOLERANCE,
    )


def _asked(answer: Answer, factors: list[float], betas: Betas) -> Tensor:
    """Return the student's rates; the usual betas are not handed over.

    Raises:
        CheckFailed: If there is not one number a step.
    """
    given = list(factors)
    value = answer(given) if betas == USUAL else answer(given, betas)
    if given != factors:
        wrong("effective_rate changes the list of factors: leave it as it is")
    if isinstance(value, list | tuple | np.ndarray):
        value = _tensor(value)
    if not isinstance(value, Tensor):
        wrong(
            f"effective_rate returns {what(value)}: return one rate for each of the "
            f"{len(factors)} steps, as a list or a tensor"
        )
    return expect_tensor(value, "what effective_rate returns", (len(factors),)).double()


def _tensor(values: Any) -> Tensor:
    try:
        return torch.tensor([float(value) for value in values], dtype=torch.float64)
    except (TypeError, ValueError):
        wrong("effective_rate returns a list of something else than numbers: one rate for a step")
        raise


def _by_torch(factors: Sequence[float], betas: Betas) -> Tensor:
    """Let torch's Adam take the steps, at a rate of 1, and measure them."""
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    adam = Adam([weight], lr=1.0, betas=betas, eps=0.0)
    rates = []
    for factor in factors:
        before = weight.item()
        weight.grad = torch.full_like(weight, factor)
        adam.step()
        rates.append(before - weight.item())
    return torch.tensor(rates, dtype=torch.float64)


# --- Adam's formulas with a slip ---------------------------------------------------------------


def _rates(
    factors: Sequence[float],
    betas: Betas,
    *,
    new: tuple[float | None, float | None] = (None, None),
    corrected: tuple[bool, bool] = (True, True),
    late: int = 0,
    power: int = 2,
    rate: Callable[[float, float, float], float] = lambda m, v, factor: m / v**0.5,
) -> Tensor:
    """Adam by hand.

    Args:
        factors: As in the exercise.
        betas: As in the exercise.
        new: What the new factor is weighted with, in m and in v; 1 - beta if None.
        corrected: Whether m and v are divided by 1 - beta**t.
        late: Added to t.
        power: Of the factor in v.
        rate: From the corrected m and v, and the factor.
    """
    m = v = 0.0
    weights = [1 - beta if w is None else w for w, beta in zip(new, betas, strict=True)]
    rates = []
    for step, factor in enumerate(factors, start=1 + late):
        m = betas[0] * m + weights[0] * factor
        v = betas[1] * v + weights[1] * factor**power
        hats = [
            mean / (1 - beta**step) if wanted else mean
            for mean, beta, wanted in zip((m, v), betas, corrected, strict=True)
        ]
        rates.append(rate(hats[0], hats[1], factor))
    return torch.tensor(rates, dtype=torch.float64)


def _all_alike(factors: Sequence[float], betas: Betas) -> Tensor:
    """Plain means over all steps so far, which forget nothing."""
    sizes = torch.tensor(factors, dtype=torch.float64)
    count = torch.arange(1, len(sizes) + 1)
    return sizes.cumsum(0) / count / (sizes.square().cumsum(0) / count).sqrt()


def _mistakes() -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Yield (message, what it gives) of likely slips."""
    slips: dict[str, dict[str, Any]] = {
        "every rate is 1: that is the present factor over its own size, and Adam remembers the "
        "earlier ones": {"rate": lambda m, v, factor: 1.0},
        "both bias corrections are missing: m and v begin at 0, so divide each by 1 - beta**t": {
            "corrected": (False, False)
        },
        "the bias correction of m is missing: divide it by 1 - beta1**t": {
            "corrected": (False, True)
        },
        "the bias correction of v is missing: divide it by 1 - beta2**t": {
            "corrected": (True, False)
        },
        "the steps are counted from 2 in the bias corrections: the first step is number 1": {
            "late": 1
        },
        "the squares are missing in v: it is a running mean of the squared factors": {"power": 1},
        "the root is missing: the rate is m over the root of v": {
            "rate": lambda m, v, factor: m / v
        },
        "the root is over the whole fraction: only v stands under it": {
            "rate": lambda m, v, factor: (m / v) ** 0.5
        },
        "only the second memory counts here: the numerator is m, not the present factor": {
            "rate": lambda m, v, factor: factor / v**0.5
        },
        "only the first memory counts here: the denominator is the root of v, not the present "
        "factor": {"rate": lambda m, v, factor: m / factor},
        "this is m alone: Adam divides it by the root of v": {"rate": lambda m, v, factor: m},
        "this is the root of v alone: Adam divides m by it": {"rate": lambda m, v, factor: v**0.5},
        "this is the rate upside down: m over the root of v": {
            "rate": lambda m, v, factor: v**0.5 / m
        },
        "the rates are multiplied by the factors: the factors are in m already": {
            "rate": lambda m, v, factor: m / v**0.5 * factor
        },
        "the new factor enters m with the weight 1: that is momentum, and Adam weights it with "
        "1 - beta1": {"new": (1.0, None)},
        "the new square enters v with the weight 1: Adam weights it with 1 - beta2": {
            "new": (None, 1.0)
        },
        "the new factor enters m and v with the weight 1: Adam weights it with 1 - beta": {
            "new": (1.0, 1.0)
        },
    }
    for message, slip in slips.items():
        yield message, functools.partial(_rates, **slip)
    yield (
        "the betas have changed places: m forgets fast, with the first, and v slowly, with the "
        "second",
        lambda factors, betas: _rates(factors, (betas[1], betas[0])),
    )
    yield (
        "beta and 1 - beta have changed places: beta weights what is remembered",
        lambda factors, betas: _rates(factors, (1 - betas[0], 1 - betas[1])),
    )
    yield (
        "the betas that come in are not used: here they are always 0.9 and 0.999",
        lambda factors, betas: _rates(factors, USUAL),
    )
    yield (
        "these are plain means over all steps so far: Adam forgets, each memory with its own beta",
        _all_alike,
    )
    yield (
        "every rate comes a step late: at step t the factor of step t is in m and v already",
        lambda factors, betas: torch.cat(
            [torch.ones(1, dtype=torch.float64), _rates(factors, betas)[:-1]]
        ),
    )

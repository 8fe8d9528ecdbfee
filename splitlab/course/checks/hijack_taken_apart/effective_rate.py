"""Exercise 4: the steps that Adam takes along a gradient whose size changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from splitlab.course.checks.judge import exercise

USUAL = (0.9, 0.999)
Betas = tuple[float, float]
Rates = list[float]


def _rates(
    factors: list[float],
    betas: Betas = USUAL,
    *,
    new: tuple[float | None, float | None] = (None, None),
    corrected: tuple[bool, bool] = (True, True),
    late: int = 0,
    power: int = 2,
    rate: Callable[[float, float, float], float] = lambda m, v, factor: m / v**0.5,
) -> Rates:
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
    return rates


def _of_betas(change: Callable[[float, float], Betas]) -> Callable[..., Rates]:
    """An answer that takes other betas."""
    return lambda factors, betas=USUAL: _rates(factors, change(*betas))


def _all_alike(factors: list[float], betas: Betas = USUAL) -> Rates:
    """Plain means over all steps so far, which forget nothing."""
    return [
        float(np.mean(factors[:count]) / np.sqrt(np.mean(np.square(factors[:count]))))
        for count in range(1, len(factors) + 1)
    ]


def _drawn(count: int) -> list[float]:
    return (3 * torch.rand(count) + 0.5).tolist()


@exercise(
    cases=[
        lambda: (_drawn(25), (0.5, 0.9)),
        lambda: (_drawn(30),),
        lambda: ([100.0] + [1.0] * 30,),
        lambda: ([1.05**step for step in range(50)], USUAL),
        lambda: ([20 * 0.9**step for step in range(25)], (0.8, 0.6)),
        lambda: (_drawn(4), (0.0, 0.9)),
        lambda: (_drawn(4), (0.9, 0.0)),
        lambda: (_drawn(300),),
        lambda: ([3.0],),
    ],
    returns="what effective_rate returns",
    tolerance=1e-7,
    use=lambda rates, *given: rates.tolist() if isinstance(rates, np.ndarray) else rates,
    praise="torch's own Adam takes exactly these steps.",
    otherwise="these are not Adam's steps: m and v are running means of the factors and of their "
    "squares, each divided by 1 - beta**t with t counted from 1, and the rate is the first over "
    "the root of the second",
)
def effective_rate(factors: list[float], betas: Betas = USUAL) -> Rates:
    return _rates(factors, betas)


CHANGES: dict[str, dict[str, Any]] = {
    "every rate is 1: that is the present factor over its own size, and Adam remembers the earlier "
    "ones": {"rate": lambda m, v, factor: 1.0},
    "both bias corrections are missing: m and v begin at 0, so divide each by 1 - beta**t": {
        "corrected": (False, False)
    },
    "the bias correction of m is missing: divide it by 1 - beta1**t": {"corrected": (False, True)},
    "the bias correction of v is missing: divide it by 1 - beta2**t": {"corrected": (True, False)},
    "the steps are counted from 2 in the bias corrections: the first step is number 1": {"late": 1},
    "the steps are counted from 0 in the bias corrections, which are 0 then: the first step is "
    "number 1": {"late": -1},
    "the squares are missing in v: it is a running mean of the squared factors": {"power": 1},
    "the root is missing: the rate is m over the root of v": {"rate": lambda m, v, factor: m / v},
    "the root is over the whole fraction: only v is under it": {
        "rate": lambda m, v, factor: (m / v) ** 0.5
    },
    "only the second memory counts here: the numerator is m, not the present factor": {
        "rate": lambda m, v, factor: factor / v**0.5
    },
    "only the first memory counts here: the denominator is the root of v, not the present factor": {
        "rate": lambda m, v, factor: m / factor
    },
    "this is m alone: Adam divides it by the root of v": {"rate": lambda m, v, factor: m},
    "this is the root of v alone: Adam divides m by it": {"rate": lambda m, v, factor: v**0.5},
    "this is the rate upside down: m over the root of v": {"rate": lambda m, v, factor: v**0.5 / m},
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
effective_rate.slips |= {
    **{message: partial(_rates, **change) for message, change in CHANGES.items()},
    "the betas have changed places: m forgets fast, with the first, and v slowly, "
    "with the second": (_of_betas(lambda first, second: (second, first))),
    "beta and 1 - beta have changed places: beta weights what is remembered": _of_betas(
        lambda first, second: (1 - first, 1 - second)
    ),
    "the betas that come in are not used: here they are always 0.9 and 0.999": _of_betas(
        lambda first, second: USUAL
    ),
    "these are plain means over all steps so far: Adam forgets, each memory with its own beta": (
        _all_alike
    ),
    "every rate comes a step late: at step t the factor of step t is in m and v already": (
        lambda factors, betas=USUAL: [1.0, *_rates(factors, betas)[:-1]]
    ),
}

"""Factors on the gradient that the server sends, and how the client's Adam responds to them.

Adam (Kingma and Ba, ICLR 2015, Algorithm 1) divides a mean of late gradients by the root of a mean
of late squares. A constant factor cancels. One that changes with the step does not, since the first
mean remembers some ten steps and the second a thousand: such a factor is a learning-rate schedule
chosen by the party that sends the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from splitlab.arguments import call, count, described, finite, function, number, reals

Schedule = Callable[[int], float]

ADAM_BETAS = (0.9, 0.999)  # torch's defaults


def factor_of(name: str, schedule: Any) -> None:
    """Refuse anything but a schedule, judged by its factor at step 0.

    Raises:
        TypeError: If it cannot be called.
        ValueError: If it makes no finite number of step 0.
    """
    do = "pass a function of the step, such as lambda step: 1.0"
    function(name, schedule, do)
    finite(f"{name}(0)", call(f"{name} at step 0", lambda: schedule(0), do))


def constant(step: int) -> float:
    """Return 1 at every step."""
    return 1.0


def growing(growth: float, *, start: float = 1.0) -> Schedule:
    """Return the factor start * growth**step; the steps count from 0.

    Args:
        growth: Of each step over the one before, above 0; below 1 it shrinks.
        start: The factor of step 0, above 0.

    Raises:
        ValueError: If one of the two is not above 0.
    """
    growth, start = number("growth", growth, above=True), number("start", start, above=True)
    return lambda step: float(start * growth**step)


def half_at(steps: int) -> Schedule:
    """Return a factor that falls linearly from 1 to 1/2 over `steps` steps, and stays there.

    Raises:
        ValueError: If `steps` is no whole number of at least 1.
    """
    steps = count("steps", steps, least=1)
    return lambda step: 1 - 0.5 * min(step / steps, 1)


def falling(steps: int, *, start: float = 140 / 240, to: float = 0.2) -> Schedule:
    """Return a factor that is 1 up to `start * steps`, then falls geometrically to `to` at `steps`.

    Adam's second moment remembers a thousand steps, so a falling gradient is a falling learning
    rate, in the attacker's hands.

    Raises:
        ValueError: If `steps` is no whole number of at least 1, or another number is out of range.
    """
    steps, to = count("steps", steps, least=1), number("to", to, above=True)
    start = number("start", start)
    if start >= 1:
        raise ValueError(f"start is {start:g}: choose a share of the steps below 1")

    def factor(step: int) -> float:
        progress = (step / steps - start) / (1 - start)
        return float(to ** min(max(progress, 0.0), 1.0))

    return factor


def effective_rate(
    factors: Sequence[float], betas: tuple[float, float] = ADAM_BETAS
) -> list[float]:
    """Return how far Adam moves at each step, divided by its learning rate.

    For a gradient that is the same at every step but for these factors. Adam then moves by 1 at
    every step where the factors are constant, whatever the constant. Its epsilon is left out, so a
    gradient is taken to be far above 1e-8.

    Args:
        factors: The factor of each step; not all of the first ones 0.
        betas: How much of their past the two means keep, each from 0 to below 1.

    Raises:
        ValueError: If a beta is out of its range, or there was no gradient yet at a step.
    """
    first, second = _betas(betas)
    if not (0 <= first < 1 and 0 <= second < 1):
        raise ValueError(f"betas are {betas}: choose both from 0 to below 1")
    mean = square = 0.0
    rates = []
    for step, factor in enumerate(reals("factors", factors), start=1):
        mean = first * mean + (1 - first) * factor
        square = second * square + (1 - second) * factor**2
        if square == 0:
            raise ValueError("the factors begin with 0, and Adam cannot divide by it: leave it out")
        # The means began at 0; Adam corrects both for that.
        rates.append(mean / (1 - first**step) / math.sqrt(square / (1 - second**step)))
    return rates


def fastest_growth(betas: tuple[float, float] = ADAM_BETAS) -> tuple[float, float]:
    """Return the growth per step that speeds Adam up most, and the largest speedup.

    By the inequality of Cauchy and Schwarz no factors move Adam further at a late step than those
    that grow by second beta / first beta. The bound (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2)) is
    reached after some thousand steps; after t steps it is sqrt(1 - b2^t) of that (as soon as b1^t
    is small).

    Raises:
        ValueError: If a beta is out of its range, or the first mean does not forget faster than
            the second, b1^2 < b2.
    """
    first, second = _betas(betas)
    if not (0 < first < 1 and 0 < second < 1 and first**2 < second):
        raise ValueError(f"betas are {betas}: choose both between 0 and 1, and b1^2 below b2")
    most = (1 - first) / math.sqrt((1 - second) * (1 - first**2 / second))
    return second / first, most


def _betas(betas: Any) -> tuple[float, float]:
    """Return two numbers; a TypeError or ValueError for anything else."""
    numbers = reals("betas", betas)
    if len(numbers) != 2:
        raise ValueError(f"betas are {described(betas)}: pass two numbers, such as (0.9, 0.999)")
    return numbers[0], numbers[1]

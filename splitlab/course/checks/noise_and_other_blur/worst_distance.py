"""Exercise 1: how far apart two images can be, in standard deviations of the noise."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from splitlab.course.checks.judge import exercise


def _case(norm: float, sigma: float, releases: int) -> Callable[[], tuple[float, float, int]]:
    return lambda: (norm, sigma, releases)


@exercise(
    cases=[
        _case(8.0, 0.7, 1),
        _case(3.0, 2.5, 9),
        _case(0.6, 1.7, 50),
        _case(5.0, 0.3, 7),
    ],
    returns="the worst distance",
    praise="with it and a delta, sl.defenses.gaussian_epsilon gives the epsilon.",
    otherwise="the worst distance is not right: two clipped z are at most 2 * norm apart, and the "
    "mean of k messages has noise of standard deviation sigma / sqrt(k)",
    slips={
        "this is the distance of one z from 0: two z can point in opposite directions, so their "
        "distance is up to 2 * norm": lambda norm, sigma, releases: norm * sqrt(releases) / sigma,
        "this is the distance of two z at a right angle: they can point in opposite directions, "
        "which is farther, so take 2 * norm": (
            lambda norm, sigma, releases: norm * sqrt(2 * releases) / sigma
        ),
        "the releases are not counted: the server averages them, which makes the noise smaller": (
            lambda norm, sigma, releases: 2 * norm / sigma
        ),
        "the distance grows with the number of releases itself: the noise of a mean falls with "
        "its root, so take sqrt(releases)": lambda norm, sigma, releases: (
            2 * norm * releases / sigma
        ),
        "more releases bring the two images closer together here: they make the noise of the mean "
        "smaller, so multiply by sqrt(releases)": lambda norm, sigma, releases: (
            2 * norm / (sigma * sqrt(releases))
        ),
        "this is the distance in z's own units: divide it by sigma": (
            lambda norm, sigma, releases: 2 * norm * sqrt(releases)
        ),
        "more noise moves the two images farther apart here: divide by sigma": (
            lambda norm, sigma, releases: 2 * norm * sqrt(releases) * sigma
        ),
        "the distance is divided by the variance of the noise: sigma is its standard deviation, so "
        "divide by sigma itself": lambda norm, sigma, releases: (
            2 * norm * sqrt(releases) / sigma**2
        ),
        "this is the square of the distance: take the root": lambda norm, sigma, releases: (
            4 * norm**2 * releases / sigma**2
        ),
        "the root is taken over sigma, too: only the releases are under it": (
            lambda norm, sigma, releases: 2 * norm * sqrt(releases / sigma)
        ),
    },
)
def worst_distance(norm: float, sigma: float, releases: int) -> float:
    return 2 * norm * sqrt(releases) / sigma

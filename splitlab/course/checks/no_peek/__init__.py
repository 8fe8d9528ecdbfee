"""Checks of the exercises to chapter 51, NoPeek."""

from splitlab.course.checks.no_peek.choose_defense import budget, choose_defense
from splitlab.course.checks.no_peek.distance_correlation import distance_correlation
from splitlab.course.checks.no_peek.double_centered import double_centered
from splitlab.course.checks.no_peek.outbidding_factor import outbidding_factor
from splitlab.course.checks.no_peek.permuted_value import permuted_value

__all__ = [
    "budget",
    "choose_defense",
    "distance_correlation",
    "double_centered",
    "outbidding_factor",
    "permuted_value",
]

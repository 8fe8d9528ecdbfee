"""Checks of the exercises to chapter 54, the adaptive attacker."""

from splitlab.course.checks.adaptive_attacker.looks_false import looks_false
from splitlab.course.checks.adaptive_attacker.mixed_gradient import mixed_gradient
from splitlab.course.checks.adaptive_attacker.score import score
from splitlab.course.checks.adaptive_attacker.watched_runs import practice

__all__ = [
    "looks_false",
    "mixed_gradient",
    "practice",
    "score",
]

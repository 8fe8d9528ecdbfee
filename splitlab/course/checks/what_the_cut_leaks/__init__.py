"""Checks of the exercises to chapter 21, What the cut leaks."""

from splitlab.course.checks.what_the_cut_leaks.descent import invert
from splitlab.course.checks.what_the_cut_leaks.oracle import ask_oracle
from splitlab.course.checks.what_the_cut_leaks.private_client import make_client
from splitlab.course.checks.what_the_cut_leaks.smoothness import total_variation
from splitlab.course.checks.what_the_cut_leaks.surrogate import surrogate_step

__all__ = ["ask_oracle", "invert", "make_client", "surrogate_step", "total_variation"]

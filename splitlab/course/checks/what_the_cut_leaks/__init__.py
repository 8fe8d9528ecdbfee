"""Checks of the exercises to chapter 21, What the cut leaks."""

from splitlab.course.checks.what_the_cut_leaks.ask_oracle import ask_oracle
from splitlab.course.checks.what_the_cut_leaks.invert import invert
from splitlab.course.checks.what_the_cut_leaks.make_client import make_client
from splitlab.course.checks.what_the_cut_leaks.surrogate_step import surrogate_step
from splitlab.course.checks.what_the_cut_leaks.total_variation import total_variation

__all__ = ["ask_oracle", "invert", "make_client", "surrogate_step", "total_variation"]

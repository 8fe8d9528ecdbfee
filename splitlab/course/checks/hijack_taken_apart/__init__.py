"""Checks of the exercises to chapter 34, The hijack taken apart."""

from splitlab.course.checks.hijack_taken_apart.effective_rate import effective_rate
from splitlab.course.checks.hijack_taken_apart.make_shuffle import make_shuffle
from splitlab.course.checks.hijack_taken_apart.slanted import slanted
from splitlab.course.checks.hijack_taken_apart.unseen_errors import unseen_errors

__all__ = ["effective_rate", "make_shuffle", "slanted", "unseen_errors"]

"""Checks of the exercises to chapter 34, The hijack taken apart."""

from splitlab.course.checks.hijack_taken_apart.memory import effective_rate
from splitlab.course.checks.hijack_taken_apart.shuffling import make_shuffle
from splitlab.course.checks.hijack_taken_apart.slant import slanted
from splitlab.course.checks.hijack_taken_apart.unseen import unseen_errors

__all__ = ["effective_rate", "make_shuffle", "slanted", "unseen_errors"]

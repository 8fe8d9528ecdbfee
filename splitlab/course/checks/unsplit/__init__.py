"""Checks of the exercises to chapter 22, Stealing without data: UnSplit."""

from splitlab.course.checks.unsplit.best_restart import best_restart
from splitlab.course.checks.unsplit.steal import Budget, steal
from splitlab.course.checks.unsplit.take_turns import take_turns
from splitlab.course.checks.unsplit.upright import upright

__all__ = ["Budget", "best_restart", "steal", "take_turns", "upright"]

"""Checks of the exercises to chapter 22, Stealing without data: UnSplit."""

from splitlab.course.checks.unsplit.budget import Budget, steal
from splitlab.course.checks.unsplit.restarts import best_restart
from splitlab.course.checks.unsplit.sign import upright
from splitlab.course.checks.unsplit.turns import take_turns

__all__ = ["Budget", "best_restart", "steal", "take_turns", "upright"]

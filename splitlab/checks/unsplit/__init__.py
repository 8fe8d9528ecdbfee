"""Checks of the exercises to chapter 05, Stealing without data: UnSplit."""

from splitlab.checks.unsplit.budget import Budget, steal
from splitlab.checks.unsplit.labels import infer_labels
from splitlab.checks.unsplit.restarts import best_restart
from splitlab.checks.unsplit.sign import upright
from splitlab.checks.unsplit.turns import take_turns

__all__ = ["Budget", "best_restart", "infer_labels", "steal", "take_turns", "upright"]

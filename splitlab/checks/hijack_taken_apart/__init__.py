"""Checks of the exercises to chapter 07, The hijack taken apart."""

from splitlab.checks.hijack_taken_apart.hiding import make_pilot
from splitlab.checks.hijack_taken_apart.memory import effective_rate
from splitlab.checks.hijack_taken_apart.shuffling import make_shuffle
from splitlab.checks.hijack_taken_apart.slant import slanted
from splitlab.checks.hijack_taken_apart.unseen import unseen_errors

__all__ = ["effective_rate", "make_pilot", "make_shuffle", "slanted", "unseen_errors"]

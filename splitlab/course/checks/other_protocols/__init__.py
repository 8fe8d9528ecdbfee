"""Checks of the exercises to the page Other protocols, the companion of chapter 11."""

from splitlab.course.checks.other_protocols.average import average
from splitlab.course.checks.other_protocols.hand_over import hand_over
from splitlab.course.checks.other_protocols.owner_turn import owner_turn

__all__ = ["average", "hand_over", "owner_turn"]

"""Checks of the exercises to chapter 32, Feature-space hijacking."""

from splitlab.course.checks.feature_space_hijacking.gradient_penalty import gradient_penalty
from splitlab.course.checks.feature_space_hijacking.hijack_gradient import hijack_gradient
from splitlab.course.checks.feature_space_hijacking.matched import matched
from splitlab.course.checks.feature_space_hijacking.suspicion import suspicion
from splitlab.course.checks.feature_space_hijacking.turn import turn

__all__ = ["gradient_penalty", "hijack_gradient", "matched", "suspicion", "turn"]

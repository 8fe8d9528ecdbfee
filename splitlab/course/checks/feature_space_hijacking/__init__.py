"""Checks of the exercises to chapter 32, Feature-space hijacking."""

from splitlab.course.checks.feature_space_hijacking.alarm import suspicion
from splitlab.course.checks.feature_space_hijacking.gradient import hijack_gradient
from splitlab.course.checks.feature_space_hijacking.matching import matched
from splitlab.course.checks.feature_space_hijacking.penalty import gradient_penalty
from splitlab.course.checks.feature_space_hijacking.turns import turn

__all__ = ["gradient_penalty", "hijack_gradient", "matched", "suspicion", "turn"]

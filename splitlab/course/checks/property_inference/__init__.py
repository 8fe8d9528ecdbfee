"""Checks of the exercises to chapter 35, Property inference."""

from splitlab.course.checks.property_inference.bar_to_beat import bar_to_beat
from splitlab.course.checks.property_inference.property_loss import property_loss
from splitlab.course.checks.property_inference.property_turn import property_turn
from splitlab.course.checks.property_inference.slant import slant
from splitlab.course.checks.property_inference.train_on_few import train_on_few

__all__ = ["bar_to_beat", "property_loss", "property_turn", "slant", "train_on_few"]

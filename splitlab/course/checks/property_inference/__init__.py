"""Checks of the exercises to chapter 35, Property inference."""

from splitlab.course.checks.property_inference.loss import property_loss
from splitlab.course.checks.property_inference.majority_baseline import bar_to_beat
from splitlab.course.checks.property_inference.slanted import slant
from splitlab.course.checks.property_inference.turns import property_turn
from splitlab.course.checks.property_inference.twenty_labels import train_on_few

__all__ = ["bar_to_beat", "property_loss", "property_turn", "slant", "train_on_few"]

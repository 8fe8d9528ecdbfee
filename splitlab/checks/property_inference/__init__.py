"""Checks of the exercises to chapter 08, Property inference."""

from splitlab.checks.property_inference.bar import bar_to_beat
from splitlab.checks.property_inference.few import train_on_few
from splitlab.checks.property_inference.loss import property_loss
from splitlab.checks.property_inference.slanted import slant
from splitlab.checks.property_inference.turns import property_turn

__all__ = ["bar_to_beat", "property_loss", "property_turn", "slant", "train_on_few"]

"""Checks of the exercises to chapter 41, The client-side GAN."""

from splitlab.course.checks.client_gan.generator_turn import generator_turn
from splitlab.course.checks.client_gan.poison_turn import poison_turn
from splitlab.course.checks.client_gan.prototype_distance import prototype_distance

__all__ = ["generator_turn", "poison_turn", "prototype_distance"]

"""Checks of the exercises to chapter 42, Poisoning and backdoors."""

from splitlab.course.checks.poisoning.attack_success import attack_success
from splitlab.course.checks.poisoning.benign import benign
from splitlab.course.checks.poisoning.poison_batch import poison_batch
from splitlab.course.checks.poisoning.scaled_turn import scaled_turn

__all__ = ["attack_success", "benign", "poison_batch", "scaled_turn"]

"""Checks of the exercises to chapter 53, detectors of training hijacks at the client."""

from splitlab.course.checks.defenses_that_watch.gradient_gap import gradient_gap
from splitlab.course.checks.defenses_that_watch.race import race
from splitlab.course.checks.defenses_that_watch.splitguard_score import splitguard_score
from splitlab.course.checks.defenses_that_watch.threshold_for import threshold_for

__all__ = ["gradient_gap", "race", "splitguard_score", "threshold_for"]

"""Checks of the exercises to chapter 52, noise, differential privacy and other blur."""

from splitlab.course.checks.noise_and_other_blur.averaged import averaged
from splitlab.course.checks.noise_and_other_blur.choose_blur import budget, choose_blur
from splitlab.course.checks.noise_and_other_blur.epsilon_bound import epsilon_bound
from splitlab.course.checks.noise_and_other_blur.private_release import private_release
from splitlab.course.checks.noise_and_other_blur.worst_distance import worst_distance

__all__ = [
    "averaged",
    "budget",
    "choose_blur",
    "epsilon_bound",
    "private_release",
    "worst_distance",
]

"""Defenses of the honest client, and of a server that holds labels."""

from splitlab.defenses.label_noise import GradientNoise, Marvell, MaxNorm
from splitlab.defenses.norms import ClipGradient, NormAlarm, SetNorm, highest_honest

__all__ = [
    "ClipGradient",
    "GradientNoise",
    "Marvell",
    "MaxNorm",
    "NormAlarm",
    "SetNorm",
    "highest_honest",
]

"""Defenses: components of the honest client, and of a server that holds labels."""

from splitlab.defenses.base import Defense, HijackingDetected, Turn
from splitlab.defenses.label_noise import GradientNoise, LabelDefense, Marvell, MaxNorm
from splitlab.defenses.norms import ClipGradient, NormAlarm, SetNorm, highest_honest

__all__ = [
    "ClipGradient",
    "Defense",
    "GradientNoise",
    "HijackingDetected",
    "LabelDefense",
    "Marvell",
    "MaxNorm",
    "NormAlarm",
    "SetNorm",
    "Turn",
    "highest_honest",
]

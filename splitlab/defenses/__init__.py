"""Defenses of the honest client, and of an honest server."""

from splitlab.defenses.label_noise import GradientNoise, Marvell, MaxNorm
from splitlab.defenses.norms import ClipGradient, NormAlarm, SetNorm, highest_honest
from splitlab.defenses.safe_split import SafeSplit

__all__ = [
    "ClipGradient",
    "GradientNoise",
    "Marvell",
    "MaxNorm",
    "NormAlarm",
    "SafeSplit",
    "SetNorm",
    "highest_honest",
]

"""Defenses: components of the honest client, and of a server that holds labels."""

from splitlab.defenses.base import Defense, HijackingDetected, Turn
from splitlab.defenses.label_noise import GradientNoise, LabelDefense, Marvell, MaxNorm

__all__ = [
    "Defense",
    "GradientNoise",
    "HijackingDetected",
    "LabelDefense",
    "Marvell",
    "MaxNorm",
    "Turn",
]

"""Defenses of the honest client, and of an honest server."""

from splitlab.defenses.dropout import CutDropout
from splitlab.defenses.label_noise import GradientNoise, Marvell, MaxNorm
from splitlab.defenses.no_peek import (
    NoPeek,
    bias_corrected,
    distance_correlation,
    permuted,
    squared_distance_correlation,
)
from splitlab.defenses.norms import ClipGradient, NormAlarm, SetNorm, highest_honest
from splitlab.defenses.res_sfl import ResSFL
from splitlab.defenses.safe_split import SafeSplit
from splitlab.defenses.shredder import Shredder

__all__ = [
    "ClipGradient",
    "CutDropout",
    "GradientNoise",
    "Marvell",
    "MaxNorm",
    "NoPeek",
    "NormAlarm",
    "ResSFL",
    "SafeSplit",
    "SetNorm",
    "Shredder",
    "bias_corrected",
    "distance_correlation",
    "highest_honest",
    "permuted",
    "squared_distance_correlation",
]

"""Defenses of the honest client, and of an honest server."""

from splitlab.defenses.dp_sgd import DPSGD
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
from splitlab.defenses.safe_split import SafeSplit

__all__ = [
    "DPSGD",
    "ClipGradient",
    "CutDropout",
    "GradientNoise",
    "Marvell",
    "MaxNorm",
    "NoPeek",
    "NormAlarm",
    "SafeSplit",
    "SetNorm",
    "bias_corrected",
    "distance_correlation",
    "highest_honest",
    "permuted",
    "squared_distance_correlation",
]

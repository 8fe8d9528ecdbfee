"""Defenses of the honest client, and of an honest server."""

from splitlab.defenses.dp_sgd import DPSGD
from splitlab.defenses.dropout import CutDropout
from splitlab.defenses.label_noise import GradientNoise, Marvell, MaxNorm
from splitlab.defenses.label_permutation import LabelPermutation
from splitlab.defenses.no_peek import (
    NoPeek,
    bias_corrected,
    distance_correlation,
    permuted,
    squared_distance_correlation,
)
from splitlab.defenses.noise import GaussianNoise, LaplaceNoise, gaussian_epsilon
from splitlab.defenses.norms import ClipGradient, NormAlarm, SetNorm, highest_honest
from splitlab.defenses.pruning import TopK
from splitlab.defenses.res_sfl import ResSFL
from splitlab.defenses.safe_split import SafeSplit
from splitlab.defenses.secret_transforms import OrthogonalProjection, PatchShuffle
from splitlab.defenses.shredder import Shredder

__all__ = [
    "DPSGD",
    "ClipGradient",
    "CutDropout",
    "GaussianNoise",
    "GradientNoise",
    "LabelPermutation",
    "LaplaceNoise",
    "Marvell",
    "MaxNorm",
    "NoPeek",
    "NormAlarm",
    "OrthogonalProjection",
    "PatchShuffle",
    "ResSFL",
    "SafeSplit",
    "SetNorm",
    "Shredder",
    "TopK",
    "bias_corrected",
    "distance_correlation",
    "gaussian_epsilon",
    "highest_honest",
    "permuted",
    "squared_distance_correlation",
]

"""Defenses of the honest client, and of an honest server."""

from splitlab.defenses.detector import alarm_threshold, most_suspicious
from splitlab.defenses.dp_sgd import DPSGD
from splitlab.defenses.dropout import CutDropout
from splitlab.defenses.feature_test import FeatureTest
from splitlab.defenses.gradient_rank import GradientRank
from splitlab.defenses.gradient_scrutinizer import GradientScrutinizer
from splitlab.defenses.label_noise import GradientNoise, Marvell, MaxNorm
from splitlab.defenses.label_permutation import LabelPermutation
from splitlab.defenses.loss_alarm import LossAlarm
from splitlab.defenses.no_peek import (
    NoPeek,
    bias_corrected,
    distance_correlation,
    permuted,
    squared_distance_correlation,
)
from splitlab.defenses.noise import GaussianNoise, LaplaceNoise, gaussian_epsilon
from splitlab.defenses.norms import ClipGradient, NormAlarm, SetNorm
from splitlab.defenses.pruning import TopK
from splitlab.defenses.res_sfl import ResSFL
from splitlab.defenses.safe_split import SafeSplit
from splitlab.defenses.secret_transforms import OrthogonalProjection, PatchShuffle
from splitlab.defenses.shredder import Shredder
from splitlab.defenses.split_guard import SplitGuard
from splitlab.defenses.split_out import SplitOut

__all__ = [
    "DPSGD",
    "ClipGradient",
    "CutDropout",
    "FeatureTest",
    "GaussianNoise",
    "GradientNoise",
    "GradientRank",
    "GradientScrutinizer",
    "LabelPermutation",
    "LaplaceNoise",
    "LossAlarm",
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
    "SplitGuard",
    "SplitOut",
    "TopK",
    "alarm_threshold",
    "bias_corrected",
    "distance_correlation",
    "gaussian_epsilon",
    "most_suspicious",
    "permuted",
    "squared_distance_correlation",
]

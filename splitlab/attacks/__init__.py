"""Attacks, one file each."""

from splitlab.attacks.fsha import FSHA
from splitlab.attacks.gradient_clustering import GradientClustering
from splitlab.attacks.gradient_cosine import GradientCosine
from splitlab.attacks.gradient_norm import GradientNorm
from splitlab.attacks.label_inference import LabelInference, Received
from splitlab.attacks.no_hijack import NoHijack
from splitlab.attacks.unsplit import UnSplit, UnSplitBrightOnDark
from splitlab.attacks.unsplit_labels import UnSplitLabels, UnSplitLabelsKnownStart

__all__ = [
    "FSHA",
    "GradientClustering",
    "GradientCosine",
    "GradientNorm",
    "LabelInference",
    "NoHijack",
    "Received",
    "UnSplit",
    "UnSplitBrightOnDark",
    "UnSplitLabels",
    "UnSplitLabelsKnownStart",
]

"""Attacks, one file each."""

from splitlab.attacks.backdoor import Backdoor
from splitlab.attacks.black_box import BlackBoxInversion
from splitlab.attacks.client_gan import ClientGAN
from splitlab.attacks.fsha import FSHA
from splitlab.attacks.gradient_clustering import GradientClustering
from splitlab.attacks.gradient_cosine import GradientCosine
from splitlab.attacks.gradient_norm import GradientNorm
from splitlab.attacks.guard_aware import GuardAwareFSHA
from splitlab.attacks.label_flipping import LabelFlipping
from splitlab.attacks.label_inference import LabelInference, Received
from splitlab.attacks.multitask import MultitaskFSHA
from splitlab.attacks.no_hijack import NoHijack
from splitlab.attacks.property_inference import PropertyInference
from splitlab.attacks.query_free import QueryFreeInversion
from splitlab.attacks.server_backdoor import ServerBackdoor
from splitlab.attacks.triggers import Blend, Patch, Trigger
from splitlab.attacks.unsplit import UnSplit, UnSplitBrightOnDark
from splitlab.attacks.unsplit_labels import UnSplitLabels, UnSplitLabelsKnownStart
from splitlab.attacks.white_box import WhiteBoxInversion

__all__ = [
    "FSHA",
    "Backdoor",
    "BlackBoxInversion",
    "Blend",
    "ClientGAN",
    "GradientClustering",
    "GradientCosine",
    "GradientNorm",
    "GuardAwareFSHA",
    "LabelFlipping",
    "LabelInference",
    "MultitaskFSHA",
    "NoHijack",
    "Patch",
    "PropertyInference",
    "QueryFreeInversion",
    "Received",
    "ServerBackdoor",
    "Trigger",
    "UnSplit",
    "UnSplitBrightOnDark",
    "UnSplitLabels",
    "UnSplitLabelsKnownStart",
    "WhiteBoxInversion",
]

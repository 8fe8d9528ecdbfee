"""Attacks, one file each."""

from splitlab.attacks.fsha import FSHA
from splitlab.attacks.no_hijack import NoHijack
from splitlab.attacks.unsplit import UnSplit, UnSplitBrightOnDark
from splitlab.attacks.unsplit_labels import UnSplitLabels

__all__ = ["FSHA", "NoHijack", "UnSplit", "UnSplitBrightOnDark", "UnSplitLabels"]

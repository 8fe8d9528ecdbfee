"""Attacks, one file each."""

from splitlab.attacks.fsha import FSHA
from splitlab.attacks.no_hijack import NoHijack

__all__ = ["FSHA", "NoHijack"]

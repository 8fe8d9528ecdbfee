"""Attacks, one file each."""

from splitlab.attacks.black_box import BlackBoxInversion
from splitlab.attacks.fsha import FSHA
from splitlab.attacks.no_hijack import NoHijack
from splitlab.attacks.query_free import QueryFreeInversion
from splitlab.attacks.white_box import WhiteBoxInversion

__all__ = ["FSHA", "BlackBoxInversion", "NoHijack", "QueryFreeInversion", "WhiteBoxInversion"]

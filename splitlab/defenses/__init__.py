"""Defenses: components of the honest client."""

from splitlab.defenses.base import Defense, HijackingDetected, Turn

__all__ = ["Defense", "HijackingDetected", "Turn"]

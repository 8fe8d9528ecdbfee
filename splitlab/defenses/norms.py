"""Defenses of the client that use the norm of the gradient that arrives.

All take dz's norm over the whole batch. They see one number a step, and the server sets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from torch import Tensor

from splitlab.arguments import number
from splitlab.core.client import Defense, Turn
from splitlab.data import ImageData
from splitlab.defenses.detector import Detector

if TYPE_CHECKING:
    from splitlab.core.client import Client


class ClipGradient(Defense):
    """Clip each gradient to the norm `max_norm`.

    Args:
        max_norm: The greatest norm let through, above 0.

    Raises:
        ValueError: If it is not above 0.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = number("max_norm", max_norm, above=True)

    def __repr__(self) -> str:
        return f"ClipGradient({self.max_norm:g})"

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return dz, scaled down to the largest norm if it exceeds it."""
        norm = dz.norm()
        return dz * (self.max_norm / norm) if norm > self.max_norm else dz

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example with a norm that an honest gradient exceeds."""
        return cls(0.01)


class SetNorm(Defense):
    """Scale every gradient to the same norm; a gradient of zero stays zero.

    Args:
        norm: The norm, above 0. To Adam one is as good as another.

    Raises:
        ValueError: If it is not above 0.
    """

    def __init__(self, norm: float = 1.0) -> None:
        self.norm = number("norm", norm, above=True)

    def __repr__(self) -> str:
        return f"SetNorm({self.norm:g})"

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return dz, scaled to the one norm."""
        norm = dz.norm()
        return dz * (self.norm / norm) if norm > 0 else dz

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return an example with the default settings."""
        return cls()


class NormAlarm(Detector):
    """Alarm if a gradient's norm is outside the range seen in honest training.

    Args:
        highest: The greatest norm without an alarm, above 0; see `alarm_threshold`.
        lowest: The smallest, from 0 and below `highest`.
        stop: As in `Detector`.

    Raises:
        ValueError: If the limits are no range.
    """

    def __init__(self, highest: float, *, lowest: float = 0.0, stop: bool = True) -> None:
        super().__init__(number("highest", highest, above=True), stop=stop)
        self.lowest = number("lowest", lowest)
        if not self.lowest < self.threshold:
            raise ValueError(
                f"lowest is {self.lowest:g} and highest {self.threshold:g}: choose lowest < highest"
            )

    def __repr__(self) -> str:
        return f"NormAlarm({self.threshold:g}, lowest={self.lowest:g})"

    @property
    def limits(self) -> str:
        """The norms at which it alarms, in words."""
        return f"outside of {self.lowest:.3g} to {self.threshold:.3g}"

    def suspicious(self, score: float) -> bool:
        """Return whether a norm is outside the range; NaN always is."""
        return not self.lowest <= score <= self.threshold

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return dz unchanged.

        Raises:
            HijackingDetected: As in `Detector.see`.
        """
        if not turn.fake:
            norm = float(dz.norm())
            self.see(client, norm, f"the gradient has norm {norm:.3g}")
        return dz

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that alarms and counts."""
        return cls(0.01, stop=False)

"""Defenses of the client that look at the size of the gradient that comes in.

All take dz's norm over the whole batch. They see one number a step, and the server sets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from torch import Tensor

from splitlab.core.client import Defense, HijackingDetected, Turn
from splitlab.data import ImageData

if TYPE_CHECKING:
    from splitlab.core.client import Client


class ClipGradient(Defense):
    """Shortens a gradient that is longer than `max_norm` to that length.

    Args:
        max_norm: The greatest norm let through, above 0.

    Raises:
        ValueError: If it is not above 0.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = _above_0("ClipGradient", max_norm)

    def __repr__(self) -> str:
        return f"ClipGradient({self.max_norm:g})"

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return dz, or the same direction at the greatest norm."""
        norm = dz.norm()
        return dz * (self.max_norm / norm) if norm > self.max_norm else dz

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return one that an honest gradient exceeds."""
        return cls(0.01)


class SetNorm(Defense):
    """Gives every gradient the same norm, whatever it had; one of norm 0 stays 0.

    Args:
        norm: The norm, above 0. To Adam one is as good as another.

    Raises:
        ValueError: If it is not above 0.
    """

    def __init__(self, norm: float = 1.0) -> None:
        self.norm = _above_0("SetNorm", norm)

    def __repr__(self) -> str:
        return f"SetNorm({self.norm:g})"

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return the same direction at the one norm."""
        norm = dz.norm()
        return dz * (self.norm / norm) if norm > 0 else dz

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return one at the default."""
        return cls()


class NormAlarm(Defense):
    """Raises an alarm when a gradient's norm lies outside of what honest training shows.

    Args:
        highest: The greatest norm without an alarm, above 0; see `highest_honest`.
        lowest: The smallest, from 0 and below `highest`.
        stop: Whether the client stops at the first alarm, or goes on and counts.

    Attributes:
        alarms: The steps at which there was an alarm, from 0.

    Raises:
        ValueError: If the limits are no range.
    """

    STATE = ("alarms",)

    def __init__(self, highest: float, *, lowest: float = 0.0, stop: bool = True) -> None:
        self.highest, self.lowest = _above_0("NormAlarm", highest), lowest
        if not 0 <= lowest < highest:
            raise ValueError(f"NormAlarm({highest}, lowest={lowest}): choose 0 <= lowest < highest")
        self.stop = stop
        self.alarms: list[int] = []

    def __repr__(self) -> str:
        return f"NormAlarm({self.highest:g}, lowest={self.lowest:g})"

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return dz as it is.

        Raises:
            HijackingDetected: At an alarm, if the client is to stop; says when and why.
        """
        norm = float(dz.norm())
        if not self.lowest <= norm <= self.highest:  # so that a NaN alarms, too
            self.alarms.append(client.step)
            if self.stop:
                raise HijackingDetected(
                    f"the gradient of step {client.step} has norm {norm:.3g}, and honest ones lie "
                    f"between {self.lowest:.3g} and {self.highest:.3g}"
                )
        return dz

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return one that alarms and counts."""
        return cls(0.01, stop=False)


def highest_honest(runs: Sequence[Sequence[float]], margin: float = 1.0) -> float:
    """Return `margin` times the greatest norm of some honest runs: a limit for an alarm.

    With n honest runs and a margin of 1, one more such run exceeds all of them with a chance of
    1 / (n + 1).

    Args:
        runs: The norms of each run, one a step; at least one of them.
        margin: Above 0.

    Raises:
        ValueError: If there is no norm, or the margin is not above 0.
    """
    norms = [norm for run in runs for norm in run]
    if not norms or margin <= 0:
        raise ValueError("a limit needs the norms of at least one honest run, and a margin above 0")
    return margin * max(norms)


def _above_0(who: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{who}({value}): the norm must be above 0")
    return value

"""The rank of the gradient: a hijack may leave z unchanged in some directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from splitlab.arguments import chance
from splitlab.core.client import Turn
from splitlab.data import ImageData
from splitlab.defenses.detector import Detector

if TYPE_CHECKING:
    from splitlab.core.client import Client


class GradientRank(Detector):
    """Alarm if the gradient moves z in few of its channels' directions.

    This library's own, against the fast design, whose pilot uses half of the channels; a rotation
    of z does not hide it. The score is the share of the channels' directions in which the batch's
    gradient is not negligible: the singular values of dz as a matrix (places, channels) above
    `tolerance` times the largest, divided by the smaller of its sides.

    Args:
        threshold: A score below it is an alarm.
        tolerance: Relative to the largest singular value, between 0 and 1.
        stop: As in `Detector`.

    Raises:
        ValueError: If a number is out of range.
    """

    ALARMS = "below"

    def __init__(
        self, threshold: float = 0.75, *, tolerance: float = 1e-4, stop: bool = True
    ) -> None:
        super().__init__(threshold, stop=stop)
        self.tolerance = chance("tolerance", tolerance, such_as="1e-4")

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return dz unchanged.

        Raises:
            HijackingDetected: As in `Detector.see`.
        """
        if not turn.fake:
            score = rank_share(dz, self.tolerance)
            self.see(client, score, f"the gradient has {score:.0%} of the largest possible rank")
        return dz

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that counts alarms."""
        return cls(stop=False)


def rank_share(dz: Tensor, tolerance: float = 1e-4) -> float:
    """Return the rank of dz over its channels, divided by the largest possible rank.

    Args:
        dz: A gradient, (B, C, ...); without places, (B, C), rows are images.
        tolerance: Singular values below this, relative to the largest, count as 0.

    Returns:
        From 0, for a gradient of zeros, to 1; NaN if it is not finite.
    """
    if not dz.isfinite().all():
        return float("nan")
    rows = dz.detach().movedim(1, -1).flatten(0, -2).double()
    values = torch.linalg.svdvals(rows)
    return float((values > tolerance * values.max()).double().mean())

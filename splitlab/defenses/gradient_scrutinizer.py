"""Gradients Scrutinizer: gradients of images of one class should have similar directions.

Fu, Liu, Zhu, et al.: "Focusing on Pinocchio's Nose: A Gradients Scrutinizer to Thwart Split-
Learning Hijacking Attacks Using Intrinsic Attributes", NDSS 2023.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from splitlab.arguments import count
from splitlab.core.client import Turn
from splitlab.data import ImageData
from splitlab.defenses.detector import Detector

if TYPE_CHECKING:
    from splitlab.core.client import Client

LAST = 60  # steps; up to here honest runs at tiny scale keep a high score


class GradientScrutinizer(Detector):
    """Compare the similarity of gradients within a class with that across classes.

    Rows of dz that belong to images of one class point the same way if the server trains a
    classifier. A hijacker does not look at labels. In every batch the cosines of all pairs of rows,
    mapped to [0, 1], have a mean and a standard deviation among pairs of one class and among pairs
    of two. The score joins three signs into a number from 0 to 1 (`scrutiny`).

    One formula scores every server. The public code computes the overlap of the two ranges in one
    way for honest runs and in another for hijacks.

    A batch with fewer than two classes, or no two images of one class, is not judged.

    Args:
        threshold: A score below it is an alarm.
        first: Steps before the first score, which make the first curve to fit; at least 3.
        last: The last step that is judged. Later, the scores of honest runs fall, too.
        window: Batches over which means and deviations are averaged, at least 1.
        stop: As in `Detector`.

    Raises:
        ValueError: If a number is out of range, or the window of steps is empty.
    """

    STATE = ("history",)
    ALARMS = "below"
    NEEDS = ("each image's row of the gradient that arrives", "labels")

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        first: int = 10,
        last: int = LAST,
        window: int = 10,
        stop: bool = True,
    ) -> None:
        super().__init__(threshold, stop=stop)
        self.first, self.last = count("first", first, least=3), count("last", last, least=0)
        self.window = count("window", window, least=1)
        if self.last < self.first:
            raise ValueError(f"last is {last}, before first, {first}: no step would be judged")
        self.history: list[tuple[float, ...]] = []

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return dz unchanged.

        Raises:
            HijackingDetected: As in `Detector.see`.
        """
        if turn.fake or turn.labels is None or client.step > self.last:
            return dz
        seen = similarities(dz, turn.labels)
        if seen is not None:
            self.history.append(seen)
            if client.step >= self.first and len(self.history) >= 3:
                score = scrutiny(self.history, self.window)
                same, _, other, _ = np.mean(self.history[-self.window :], axis=0)
                self.see(
                    client,
                    score,
                    f"gradients of one class have mean similarity {same:.2f} and of two classes "
                    f"{other:.2f}, which gives a score of {score:.2f}",
                )
        return dz

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that judges as early as possible, and counts alarms."""
        return cls(first=3, stop=False)


def similarities(dz: Tensor, labels: Tensor) -> tuple[float, float, float, float] | None:
    """Return the (mean, deviation) of a gradient's similarities, within and across classes.

    Args:
        dz: A gradient, one row for each image, (B, ...).
        labels: Their classes, int64 (B,).

    Returns:
        Mean and standard deviation of (1 + cosine) / 2 over the pairs of one class, then over the
        pairs of two classes; None if there are no pairs of either kind. A row of zeros has cosine
        0 to every other.
    """
    rows = normalize(dz.detach().flatten(1).double(), dim=1)
    cosines = (1 + rows @ rows.T) / 2
    alike = labels[:, None] == labels
    pairs = torch.ones_like(alike).triu(1)
    same, other = cosines[pairs & alike], cosines[pairs & ~alike]
    if not len(same) or not len(other):
        return None
    figures = (same.mean(), same.std(correction=0), other.mean(), other.std(correction=0))
    a, b, c, d = (float(figure) for figure in figures)
    return a, b, c, d


def overlap(same: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the overlap of two ranges (mean - deviation, mean + deviation) divided by their union.

    Returns:
        From 0, where they are apart, to 1, where they are the same.
    """
    (a, da), (b, db) = same, other
    shared = min(a + da, b + db) - max(a - da, b - db)
    union = max(a + da, b + db) - min(a - da, b - db)
    return max(shared, 0.0) / union if union > 0 else 1.0


def scrutiny(history: list[tuple[float, ...]], window: int = 10) -> float:
    """Return the detection score of the steps so far, from 0 to 1; it is low for hijacks.

    After a gradient that is not finite it is NaN.

    The gap G, the fit's error E and the overlap V are joined as published:

        sigmoid(5 (sign(G) |G|^0.4 (-ln(7 E + e^-2)) (-ln(V + e^-1)) - 0.7))

    Args:
        history: `similarities` of the steps so far, at least three of them.
        window: Of the last so many, means and deviations are averaged for G and V. E is the root
            mean squared error of a parabola fitted to all steps' means, the average over the two
            curves.
    """
    steps = np.array(history)
    if not np.isfinite(steps).all():
        return math.nan
    same, same_deviation, other, other_deviation = steps[-window:].mean(0)
    gap = (same - other) / (same + other) if same + other > 0 else 0.0
    time = np.linspace(-1, 1, len(steps))
    errors = []
    for curve in (steps[:, 0], steps[:, 2]):
        fitted = np.polyval(np.polyfit(time, curve, 2), time)
        errors.append(math.sqrt(np.mean((curve - fitted) ** 2)))
    error = sum(errors) / 2
    shared = overlap((same, same_deviation), (other, other_deviation))
    signs = math.copysign(abs(gap) ** 0.4, gap)
    signs *= -math.log(7 * error + math.exp(-2)) * -math.log(shared + math.exp(-1))
    return 1 / (1 + math.exp(-5 * (signs - 0.7)))

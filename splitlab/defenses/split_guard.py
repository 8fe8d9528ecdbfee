"""SplitGuard: send a few batches with false labels, and test whether the gradients respond.

Erdogan, Kupcu, Cicek: "SplitGuard: Detecting and Mitigating Training-Hijacking Attacks in Split
Learning", WPES 2022, arXiv 2108.09052.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from splitlab.arguments import chance, count
from splitlab.core.client import Turn
from splitlab.data import ImageData
from splitlab.defenses.detector import Detector, first_parameter_learns

if TYPE_CHECKING:
    from splitlab.core.client import Client

FAKE, FIRST, SECOND = 0, 1, 2  # rows of the sums


class SplitGuard(Detector):
    """Compare the gradients of batches with false labels with those of true ones.

    After the first steps, a batch is false with some chance: all its labels are shifted by one
    random number of classes, and the client does not learn from it. If the server trains the task,
    a false batch moves f elsewhere than a true one, and farther. A hijacker does not look at
    labels, so that it moves f alike. The gradients are those of f's first parameter.

    At every false batch the score is computed from all batches so far (`raw_score`, `squashed`).
    The published squashing saturates for angles in degrees; here they are in radians.

    An honest server learns from the false batches, too: that is the cost.

    Args:
        threshold: A score below it is an alarm.
        false_share: The chance that a batch is false, between 0 and 1.
        after: Steps before the first false batch, which are not looked at, at least 0.
        window: Scores that are averaged before they are compared; 1 is the published "fast" policy,
            20 its "Mean-20". There is no alarm before so many false batches.
        stop: As in `Detector`.

    Raises:
        ValueError: If a number is out of range; when the client is made, if its labels reach
            neither the server nor a tail, or its data have one class.
    """

    STATE = ("sums", "norms", "counts", "raw")
    ALARMS = "below"
    NEEDS = ("the gradient of f's first layer", "labels that it may falsify", "false batches")

    def __init__(
        self,
        threshold: float = 0.9,
        *,
        false_share: float = 0.1,
        after: int = 20,
        window: int = 1,
        stop: bool = True,
    ) -> None:
        super().__init__(threshold, stop=stop)
        self.false_share = chance("false_share", false_share)
        self.after = count("after", after, least=0)
        self.window = count("window", window, least=1)
        self.sums: Tensor | None = None
        self.norms = [0.0, 0.0, 0.0]
        self.counts = [0, 0, 0]
        self.raw: list[float] = []

    def prepare(self, client: Client) -> None:
        """Check that false labels would reach the server or a tail.

        Raises:
            ValueError: If they would not, or f's first parameter, whose gradient it compares, does
                not learn.
        """
        first_parameter_learns("SplitGuard", client.net)
        if not client.sends_labels and client.tail is None:
            raise ValueError(
                "SplitGuard falsifies labels, and this client's labels stay with the server: leave "
                "out sends_index=True, or choose another detector"
            )
        if len(client.data.classes) < 2:
            raise ValueError(
                "SplitGuard falsifies labels, and the client's data have one class: choose another "
                "detector"
            )

    def begin(self, client: Client, turn: Turn) -> None:
        """Falsify the labels of a batch with probability `false_share`."""
        if client.step < self.after or turn.labels is None:
            return
        if float(torch.rand(())) < self.false_share:
            classes = len(client.data.classes)
            shift = int(torch.randint(1, classes, ()))
            turn.labels = (turn.labels + shift) % classes
            turn.fake, turn.update = True, False

    def grads(self, client: Client, turn: Turn) -> None:
        """Add the gradient to those of its kind, and compute the score after a false batch.

        Raises:
            HijackingDetected: As in `Detector.see`.
        """
        if client.step < self.after:
            return
        gradient = next(client.net.parameters()).grad
        assert gradient is not None
        row = gradient.detach().flatten().double()
        kind = FAKE if turn.fake else (FIRST, SECOND)[int(torch.randint(2, ()))]
        if self.sums is None:
            self.sums = row.new_zeros(3, len(row))
        self.sums[kind] += row
        self.norms[kind] += float(row.norm())
        self.counts[kind] += 1
        if not turn.fake or 0 in self.counts:
            return
        counts = self.sums.new_tensor(self.counts)
        means, lengths = self.sums / counts[:, None], self.sums.new_tensor(self.norms) / counts
        self.raw.append(float(raw_score(means, lengths)))
        if len(self.raw) >= self.window:
            latest = self.raw[-self.window :]
            score = sum(squashed(s) for s in latest) / self.window
            self.see(
                client,
                score,
                f"false batches so far: {self.counts[FAKE]}; the score is {score:.2f}, because "
                "they move f much like true ones",
            )

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that begins at once, and counts alarms."""
        return cls(false_share=0.5, after=0, stop=False)


def raw_score(means: Tensor, lengths: Tensor) -> Tensor:
    """Return S, in radians: how much farther apart false and true batches are than true ones.

        S = (theta(F, R) d(F, R) - theta(R1, R2) d(R1, R2)) / (d(F, R) + d(R1, R2))

    where theta is the angle between two mean gradients, d the difference of two mean norms, R1 and
    R2 are random halves of the true batches, and R is the mean of the two.

    Args:
        means: The mean gradients of F, R1 and R2, (3, n).
        lengths: The means of their gradients' norms, (3,).

    Returns:
        A scalar from -pi to pi. Where all gradients have the same norm, or means are zero, it is 0;
        where a gradient is not finite, NaN.
    """
    fake, first, second = means
    regular = (first + second) / 2
    length, one, other = lengths
    apart, within = (length - (one + other) / 2).abs(), (one - other).abs()
    weighed = _angle(fake, regular) * apart - _angle(first, second) * within
    total = apart + within
    return torch.zeros_like(total) if total == 0 else weighed / total


def squashed(raw: float, alpha: float = 5.0, beta: float = 2.0) -> float:
    """Return sigmoid(alpha S)^beta, from 0 to 1, as published."""
    return float(torch.sigmoid(torch.tensor(alpha * raw, dtype=torch.float64)) ** beta)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    lengths = a.norm() * b.norm()
    if lengths == 0:
        return torch.zeros_like(lengths)
    return torch.acos((a @ b / lengths).clamp(-1, 1))

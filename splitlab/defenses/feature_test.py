"""A test of the features: if they reconstruct easily and classify poorly, that is suspicious.

After the abstract of Xu et al., "BiFD", ICME 2025, which compares how well features can be
reconstructed and classified. Its details are not known here: the construction is this library's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from splitlab.arguments import count
from splitlab.core.client import Turn
from splitlab.data import ImageData
from splitlab.defenses.detector import Detector

if TYPE_CHECKING:
    from splitlab.core.client import Client


class FeatureTest(Detector):
    """Compare how well the main directions of z explain the images and the labels.

    At every `every`-th step, two linear regressions from the first principal components of z, to
    the images and to the one-hot labels, are fitted to the last `batches` and tried on the new
    one. The score is the explained variance of the images minus that of the labels, the mean of
    the last `window` trials. (From all of z, which has more numbers than the images, both can be
    read in honest runs as well as under a hijack.)

    Args:
        threshold: A score above it is an alarm.
        components: Principal components, at least 1.
        batches: Batches that the regressions are fitted to, at least 1.
        every: Steps from one trial to the next, at least 1.
        after: Steps before the first trial, at least 0: at first, f is as it was made, and honest
            features are as hard to classify as hijacked ones.
        window: Trials in the mean, at least 1; there is no alarm before so many.
        stop: As in `Detector`.

    Raises:
        ValueError: If a number is out of range.
    """

    STATE = ("kept", "differences")
    NEEDS = ("its own images, z and labels", "two regressions now and then")

    def __init__(
        self,
        threshold: float = 0.3,
        *,
        components: int = 8,
        batches: int = 10,
        every: int = 5,
        after: int = 50,
        window: int = 4,
        stop: bool = True,
    ) -> None:
        super().__init__(threshold, stop=stop)
        self.components = count("components", components, least=1)
        self.batches = count("batches", batches, least=1)
        self.every = count("every", every, least=1)
        self.after = count("after", after, least=0)
        self.window = count("window", window, least=1)
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []
        self.differences: list[float] = []

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return dz unchanged.

        Raises:
            HijackingDetected: As in `Detector.see`.
        """
        if turn.fake or turn.labels is None or turn.z is None:
            return dz
        labels = one_hot(turn.labels, len(client.data.classes))
        new = (turn.z.detach().flatten(1), turn.x.flatten(1), labels)
        z, x, y = (part.double() for part in new)
        due = client.step >= self.after and client.step % self.every == 0
        if due and len(self.kept) == self.batches:
            image, label = self._explained(z, x, y)
            self.differences = [*self.differences, image - label][-self.window :]
            if len(self.differences) == self.window:
                score = sum(self.differences) / self.window
                self.see(
                    client,
                    score,
                    f"the main directions of z explain {image:.2f} of the images' variance and "
                    f"{label:.2f} of the labels', and the mean difference is {score:.2f}",
                )
        self.kept = [*self.kept, (z, x, y)][-self.batches :]
        return dz

    def _explained(self, z: Tensor, x: Tensor, y: Tensor) -> tuple[float, float]:
        """Return the variance of new images and of their labels that components of z explain."""
        known, *targets = map(torch.cat, zip(*self.kept, strict=True))
        if not (known.isfinite().all() and z.isfinite().all()):
            return float("nan"), float("nan")
        center = known.mean(0)
        known, z = known - center, z - center
        # The components of the rows, from the smaller of the two products.
        values, vectors = torch.linalg.eigh(known @ known.T)
        scores = vectors[:, -self.components :]
        largest = values[-self.components :].clamp(min=1e-12 * float(values[-1].abs()) + 1e-30)
        new = z @ known.T @ scores / largest
        found = []
        for target, truth in zip(targets, (x, y), strict=True):
            mean = target.mean(0)
            predicted = mean + new @ (scores.T @ (target - mean))
            total = float((truth - mean).square().mean())
            error = float((predicted - truth).square().mean())
            found.append(1 - error / total if total > 0 else 0.0)
        return found[0], found[1]

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that judges every batch after the first, and counts alarms."""
        return cls(batches=1, every=1, after=0, window=1, stop=False)

"""Label inference from the direction of the gradient, with one or a few known examples.

Li, Sun and others: "Label Leakage and Protection in Two-party Split Learning", ICLR 2022, the
direction attack. For two classes dz_i is (p_i - y_i) times a vector that differs little from row to
row, so that gradients of one label point one way and those of the other the opposite way. For K
classes each label has a direction of its own.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Self, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Adam

from splitlab.attacks.label_inference import LabelInference, Options, Received
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny


class GradientCosine(LabelInference):
    """Compare each gradient with those of rows whose label is known.

    A known row comes up once an epoch. A gradient is compared with the known row's that is nearest
    in time, before or after: the client looks back over what it kept.

    Args:
        net: The client's network f.
        data: The private images, without labels.
        known: Labels by row number. For two classes, one row of either will do; for more, at least
            one of each class.
        options: Further arguments of `LabelInference`.

    Raises:
        ValueError: If no row is known, or a class lacks one.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="client, honest but curious (passive)",
        goal="infer the labels, which the server holds",
        sees=("the gradient with respect to z, one row for each image, once a step",),
        knows=("its private images", "its own network f", "how many classes there are"),
        does_not_know=("the labels of the other rows", "the server's network and loss"),
        grants=("the labels of a few rows: one for two classes, one of each for more",),
        source="Li, Sun and others, ICLR 2022",
    )

    def __init__(
        self, net: nn.Module, data: ImageData, *, known: dict[int, int], **options: Unpack[Options]
    ) -> None:
        super().__init__(net, data, known=known, **options)
        lacking = sorted(set(range(self.classes)) - set(self.known.values()))
        if not self.known or (self.classes > 2 and lacking):
            raise ValueError(
                "GradientCosine knows no row of class "
                f"{lacking[0]}: with {self.classes} classes, pass known={{row: label}} with "
                + ("at least one row" if self.classes == 2 else "a row of each class")
            )

    def score(self, received: Received) -> Tensor:
        """Return the cosines of gradients with those of the known rows.

        Returns:
            For two classes (n,): the mean over the known rows, those of label 0 with the sign
            turned. For K classes (n, K): the largest over the known rows of each class. A gradient
            of 0 has cosine 0 with everything. Known rows that have not come up yet are left out.

        Raises:
            ValueError: If none of a class (of two classes: none at all) has come up yet.
        """
        everything, rows = self.received(), received.directions()
        seen = {row: everything.of(everything.index == row) for row in self.known}
        seen = {row: mine for row, mine in seen.items() if len(mine)}
        labels = torch.tensor([self.known[row] for row in seen], device=rows.device)
        if not seen or (self.classes > 2 and len(labels.unique()) < self.classes):
            raise ValueError(
                "no known row of some class has been in a batch yet: train for an epoch"
            )
        cosines = torch.stack(
            [(rows * _nearest(mine, received.step)).sum(1) for mine in seen.values()], dim=1
        )
        if self.classes == 2:
            return (cosines * (2 * labels - 1)).mean(1)
        return torch.stack(
            [cosines[:, labels == k].max(1).values for k in range(self.classes)], dim=1
        )

    def infer_labels(self, received: Received) -> Tensor:
        """Return 1 where the score is above 0; for more than two classes, the best one. (n,)."""
        score = self.score(received)
        return (score > 0).long() if self.classes == 2 else score.argmax(1)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that knows one row of each of two classes."""
        images, adam = private.without_labels(), partial(Adam, lr=1e-3)
        return cls(tiny.client(), images, known={0: 0, 1: 1}, optimizer=adam, batch_size=8)


def _nearest(mine: Received, steps: Tensor) -> Tensor:
    """Return a known row's gradient nearest in time to each step, with norm 1, (n, d)."""
    return mine.directions()[(steps[:, None] - mine.step[None]).abs().argmin(1)]

"""Label inference from the norm of the gradient, which is larger for a rare class.

Li, Sun and others: "Label Leakage and Protection in Two-party Split Learning", ICLR 2022, the norm
attack. |dz_i| is |p_i - y_i| times a factor. Where label 1 is rare, the network soon predicts 0 for
every row, and |p_i - 1| is large.
"""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from splitlab.arguments import chance
from splitlab.attacks.label_inference import LabelInference, Options, Received
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData


class GradientNorm(LabelInference):
    """Assign label 1, the rare one, to the rows with the largest gradients.

    Args:
        net: The client's network f.
        data: The private images, without labels.
        share: How rare label 1 is, between 0 and 1. `score` does not need it.
        options: Further arguments of `LabelInference`.

    Raises:
        ValueError: If the share is not between 0 and 1, or there are more than two classes.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="client, honest but curious (passive)",
        goal="infer the labels, which the server holds",
        sees=("the gradient with respect to z, one row for each image, once a step",),
        knows=("its private images", "its own network f", "how rare label 1 is"),
        does_not_know=("any label", "the server's network and loss"),
        source="Li, Sun and others, ICLR 2022",
    )

    def __init__(
        self, net: nn.Module, data: ImageData, *, share: float = 0.1, **options: Unpack[Options]
    ) -> None:
        super().__init__(net, data, **options)
        self.share = chance("share", share)
        if self.classes != 2:
            raise ValueError(
                f"a norm cannot distinguish {self.classes} classes: use GradientCosine or "
                "GradientClustering"
            )

    def score(self, received: Received) -> Tensor:
        """Return the norm of each gradient, (n,)."""
        return received.norms()

    def infer_labels(self, received: Received) -> Tensor:
        """Assign label 1 to the largest gradients, a share `share` of all; int64 (n,)."""
        score = self.score(received)
        longest = score.topk(round(self.share * len(score))).indices
        return torch.zeros_like(received.index).scatter(0, longest, 1)

"""Label inference without known labels: gradients of one class have similar directions.

The same leak as in Li, Sun and others, ICLR 2022, with the known example replaced by k-means on
directions. It finds which rows share a label, not which label.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from splitlab.arguments import seed as whole
from splitlab.attacks.label_inference import LabelInference, Received
from splitlab.core.threat import ThreatModel

STARTS = 4


class GradientClustering(LabelInference):
    """Cluster the directions of the gradients by k-means, one cluster for each class.

    Its arguments are those of `LabelInference`.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="client, honest but curious (passive)",
        goal="infer which rows share a label, while the server holds the labels",
        sees=("the gradient with respect to z, one row for each image, once a step",),
        knows=("its private images", "its own network f", "how many classes there are"),
        does_not_know=("any label", "the server's network and loss"),
        source="after Li, Sun and others, ICLR 2022",
    )

    def infer_labels(self, received: Received) -> Tensor:
        """Return the cluster of each gradient, int64 (n,). The clusters have no names.

        A gradient of 0 has no direction and lies at the origin. There are as many clusters as
        classes, or as gradients where those are fewer.
        """
        return clusters(received.directions(), self.classes, seed=self.attacker_randomness.seed)


def clusters(directions: Tensor, classes: int, *, seed: int = 0) -> Tensor:
    """Return the k-means cluster of each direction, int64 (n,).

    Args:
        directions: Rows of norm 1, or 0, (n, d), as `Received.directions` returns them.
        classes: How many clusters; fewer where there are fewer rows.
        seed: Seeds k-means.
    """
    from sklearn.cluster import KMeans  # slow to import, and needed only here

    rows = directions.float().cpu().numpy()
    state = whole(seed) % 2**32  # what numpy takes
    means = KMeans(min(classes, len(rows)), n_init=STARTS, random_state=state)
    return torch.from_numpy(means.fit_predict(rows)).long().to(directions.device)

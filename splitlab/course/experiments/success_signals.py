"""What a hijacking server could compute to tell success from failure, without a private image.

All of it comes from messages that the server received, its own networks, and its public images.
Whether any of it separates the two is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import splitlab as sl
from splitlab.course.experiments.two_dimensions import apart
from splitlab.referee.classifiers import CNNClassifier

# What the signals are. All but the last need no labels.
SIGNALS = {
    "gap": "critic's gap",
    "apart": "energy distance of the two clouds",
    "sure": "probability of the class named",
    "labels": "share of labels named",
}


class LastMessages(sl.Observer):
    """Keeps the last smashed data that crossed the wire, as a server could.

    Args:
        keep: How many messages, at least 1.

    Attributes:
        kept: Copies of the messages, the oldest first.
    """

    def __init__(self, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}: a server that keeps no message can compute nothing")
        self.keep = keep
        self.kept: list[sl.SmashedData] = []

    def message(self, message: sl.Message) -> None:
        """Keep a copy of smashed data, and drop the oldest if there are too many."""
        if isinstance(message, sl.SmashedData):
            self.kept = [*self.kept, message.delivered()][-self.keep :]

    def state_dict(self) -> dict[str, Any]:
        """Return what was kept."""
        kept = [{"z": m.z, "labels": m.labels, "of": (m.sender, m.step)} for m in self.kept]
        return {"kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self.kept = [
            sl.SmashedData(z=m["z"], labels=m["labels"], sender=m["of"][0], step=m["of"][1])
            for m in state["kept"]
        ]


def decoded(attack: sl.FSHA, messages: Sequence[sl.SmashedData]) -> Tensor:
    """Return the attack's pictures from all these messages, (N, C, H, W)."""
    return torch.cat([attack.reconstruct(message) for message in messages])


def signals(
    attack: sl.FSHA, messages: Sequence[sl.SmashedData], classifier: CNNClassifier | None = None
) -> dict[str, float]:
    """Return the figures of `SIGNALS` that these messages allow.

    Args:
        attack: The server, after training.
        messages: The last ones that it received, at least one.
        classifier: Trained on the attacker's public images. Without one `sure` and `labels` are
            left out.

    Returns:
        `gap`: mean score of z minus that of the pilot's codes of the public images, in the critic's
        units. `apart`: energy distance of the pictures from the public images. `sure`: the
        classifier's mean probability for the class that it names, 0 to 1. `labels`: how often it
        names the label that was sent, 0 to 1; left out where none was.
    """
    pictures, public = decoded(attack, messages), attack.public.x
    z = torch.cat([message.z for message in messages])
    z_public = sl.nets.in_parts(attack.pilot, public)
    with torch.no_grad():
        gap = attack.critic.score(z).mean() - attack.critic.score(z_public).mean()
    figures = {"gap": float(gap), "apart": apart(pictures, public)}
    if classifier is None:
        return figures
    chances = probabilities(classifier, pictures)
    figures["sure"] = float(chances.amax(1).mean())
    labels = [message.labels for message in messages if message.labels is not None]
    if labels:
        named = chances.argmax(1)
        figures["labels"] = float((named == torch.cat(labels).cpu()).double().mean())
    return figures


def probabilities(classifier: CNNClassifier, images: Tensor) -> Tensor:
    """Return the classifier's probabilities of the classes, (N, K), for images (N, C, H, W)."""
    with torch.no_grad():
        logits: Tensor = classifier.network(classifier._inputs(images))
    return logits.softmax(1)

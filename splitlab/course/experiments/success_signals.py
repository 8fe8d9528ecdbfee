"""What a hijacking server could compute to tell success from failure, without a private image.

All of it comes from messages that the server received, its own networks, and its public images.
Whether any of it tells is another matter, and measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

import splitlab as sl
from splitlab.course.experiments.two_dimensions import apart
from splitlab.referee.classifiers import CNNClassifier

# What the signals are, in the order of the tables. All but the last need no labels.
SIGNALS = {
    "gap": "critic's gap",
    "sure": "classifier is sure",
    "classes": "classes, distance",
    "own_kind": "nearest is its own kind",
    "nearest": "to the nearest public",
    "crowding": "to the nearest other",
    "apart": "clouds apart",
    "contrast": "contrast",
    "roughness": "roughness",
    "z_size": "size of z",
    "epochs": "again in the next epoch",
    "labels": "class is the label sent",
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
    """Return what the attack draws of all these messages, (N, C, H, W)."""
    return torch.cat([attack.reconstruct(message) for message in messages])


def signals(
    attack: sl.FSHA, messages: Sequence[sl.SmashedData], classifier: CNNClassifier | None = None
) -> dict[str, float]:
    """Return the figures of `SIGNALS` that these messages allow; see there for the words.

    Args:
        attack: The server, after training.
        messages: The last ones that it received, an even number: the older half should be one
            epoch, and the newer half the next. All figures but `epochs` are of the newer half.
        classifier: Trained on the attacker's public images. Without one `sure`, `classes` and
            `labels` are left out.

    Returns:
        `gap`: mean score of z above that of z_public, in the critic's units. `sure`: the
        classifier's mean probability for the class that it names. `classes`: half the sum of the
        differences between its shares of classes and the public ones, 0 to 1. `own_kind`: see
        there. `nearest`, `crowding`, `epochs`: mean distance to the nearest public picture, to the
        nearest other picture, and to the nearest picture of the epoch before, each in parts of
        the mean distance from a public image to the nearest other one. `apart`: energy distance
        from the public images. `contrast`, `roughness` and `z_size`: variance over pictures, total
        variation, and root mean square of z, in parts of the public side's. `labels`: how often
        the classifier names the label that was sent; left out where none was.

    Raises:
        ValueError: If the number of messages is odd, or 0.
    """
    half = len(messages) // 2
    if not messages or len(messages) % 2:
        raise ValueError(
            f"signals compares two halves of the messages, and there are {len(messages)}: pass an "
            "even number"
        )
    before, now = decoded(attack, messages[:half]), decoded(attack, messages[half:])
    public = attack.public.x
    z = torch.cat([message.z for message in messages[half:]])
    z_public = sl.nets.in_parts(attack.pilot, public)
    with torch.no_grad():
        gap = attack.critic.score(z).mean() - attack.critic.score(z_public).mean()
    unit = float(nearest_other(public).mean())
    figures = {
        "gap": float(gap),
        "own_kind": own_kind(now, public),
        "nearest": float(distances(now, public).amin(1).mean()) / unit,
        "crowding": float(nearest_other(now).mean()) / unit,
        "apart": apart(now, public),
        "contrast": float(now.var(0).mean() / public.var(0).mean()),
        "roughness": float(_roughness(now) / _roughness(public)),
        "z_size": float(z.square().mean().sqrt() / z_public.square().mean().sqrt()),
        "epochs": float(distances(now, before).amin(1).mean()) / unit,
    }
    if classifier is None:
        return figures
    chances = probabilities(classifier, now)
    named = chances.argmax(1)
    figures["sure"] = float(chances.amax(1).mean())
    figures["classes"] = classes_apart(named, attack.public.y.cpu(), chances.shape[1])
    labels = [message.labels for message in messages[half:] if message.labels is not None]
    if labels:
        figures["labels"] = float((named == torch.cat(labels).cpu()).double().mean())
    return figures


def probabilities(classifier: CNNClassifier, images: Tensor) -> Tensor:
    """Return the classifier's probabilities of the classes, (N, K), for images (N, C, H, W)."""
    with torch.no_grad():
        logits: Tensor = classifier.network(classifier._inputs(images))
    return logits.softmax(1)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distances (M, N) of images (M, ...) and (N, ...), float64."""
    return torch.cdist(a.flatten(1).double(), b.flatten(1).double())


def nearest_other(images: Tensor) -> Tensor:
    """Return each image's distance to the nearest other one of the same set, (N,)."""
    return distances(images, images).fill_diagonal_(torch.inf).amin(1)


def own_kind(pictures: Tensor, public: Tensor) -> float:
    """Return how often a picture's nearest neighbour is a picture, and a public image's a public.

    The nearest-neighbour test of two samples (M. F. Schilling, 1986), on as many of either: about
    1/2 where both come from one distribution, 1 where they lie far apart.

    Args:
        pictures: Images (M, ...).
        public: Images (N, ...); of the larger set the first ones are used.
    """
    n = min(len(pictures), len(public))
    both = torch.cat([pictures[:n], public[:n].to(pictures.device)])
    nearest = distances(both, both).fill_diagonal_(torch.inf).argmin(1).cpu()
    kind = torch.arange(2 * n) < n
    return float((kind[nearest] == kind).double().mean())


def classes_apart(one: Tensor, other: Tensor, classes: int) -> float:
    """Return half the sum of the differences between two sets' shares of classes, 0 to 1."""
    shares = [one_hot(labels, classes).double().mean(0) for labels in (one, other)]
    return float((shares[0] - shares[1]).abs().sum() / 2)


def mutual(one: Tensor, other: Tensor) -> float:
    """Return how many images of a set are the nearest to their own nearest in another set.

    Two drawings of the same images find each other, in whatever order they come.

    Args:
        one: Images (M, ...).
        other: Images (N, ...).

    Returns:
        The share of `one`, from 0 to 1.
    """
    table = distances(one, other)
    there = table.argmin(1)
    back = table.argmin(0)[there]
    return float((back == torch.arange(len(one), device=back.device)).double().mean())


def separation(success: Sequence[float], failure: Sequence[float]) -> float:
    """Return how often a run that succeeded has the higher figure than one that failed (AUC).

    1 or 0 where a threshold separates the runs, 1/2 where the figure says nothing.

    Raises:
        ValueError: If there are no runs of one kind.
    """
    scores = torch.tensor([*success, *failure], dtype=torch.float64)
    auc = sl.leak_auc(scores, torch.tensor([1] * len(success) + [0] * len(failure)))
    if auc is None:
        raise ValueError("a separation is between runs that succeeded and runs that failed")
    return auc


def _roughness(images: Tensor) -> Tensor:
    return sl.attacks.priors.total_variation(images).mean()

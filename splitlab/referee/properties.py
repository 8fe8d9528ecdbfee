"""The referee of properties: the only place where true properties and inferred ones meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from splitlab.core.client import Client
from splitlab.core.messages import SmashedData
from splitlab.core.tables import Table
from splitlab.data import ImageData
from splitlab.referee.images import refuse_overlap

Figures = dict[str, float]

SCORED = 1000  # private images, at most


class Inferrer(Protocol):
    """What the referee needs of an attack on a property, such as `sl.PropertyInference`."""

    public: ImageData

    def infer_property(self, message: SmashedData) -> Tensor:
        """Return the probability of each class of the property, (N, K), for smashed data."""

    def classify(self, x: Tensor) -> Tensor:
        """Return the same for images (N, C, H, W), by the attack's own networks."""


@dataclass(frozen=True)
class PropertyReport:
    """How often an attack told a property rightly, and what can be had without it.

    Each entry has "accuracy", the share of images, and "balanced", the mean over the classes of the
    share of a class's images.

    Attributes:
        metrics: The attack: f in evaluation mode, active defenses on.
        received: The same for what the server truly receives during training (BatchNorm and Dropout
            in training mode); None where f has no such layer.
        floors: What needs no z. "chance": 1 in K. "public_majority": always the class that is most
            common among the attacker's images. "best_constant": always the class that is most
            common among those scored, which nobody knows. "best_from_label": where the client sends
            the labels of its task, for each the class that most images scored have with it, which
            nobody knows either.
        others: What has other means. "own_networks": the attack's pilot and head on the private
            images themselves; no bound, for f also adapts to the private images. "true_pairs": a
            linear classifier of z that learned from true pairs of z and class, for one half of the
            images, scored on the other.
        confusion: Images of each true class (rows) by inferred class (columns).
        classes: Names of the classes.
        n: Private images scored.
    """

    metrics: Figures
    received: Figures | None
    floors: dict[str, Figures]
    others: dict[str, Figures]
    confusion: list[list[int]]
    classes: tuple[str, ...]
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, ready for JSON."""
        names = ("metrics", "received", "floors", "others", "confusion", "n")
        return {name: getattr(self, name) for name in names} | {"classes": list(self.classes)}

    def table(self) -> Table:
        """Return the figures as a table: floors, attack, others."""
        attack = {"attack": self.metrics}
        if self.received is not None:
            attack["attack, as received in training"] = self.received
        named = {f"floor: {_words(name)}": figures for name, figures in self.floors.items()}
        named |= attack | {_words(name): figures for name, figures in self.others.items()}
        rows = [(what, f["accuracy"], f["balanced"]) for what, f in named.items()]
        caption = f"{self.n} private images scored."
        head = ("", "accuracy", "balanced accuracy")
        return Table(head, rows, caption=caption, strong=len(self.floors))

    def mistakes(self) -> Table:
        """Return the confusion as a table: a row for each true class, a column for each told."""
        rows = list(zip(self.classes, *map(list, zip(*self.confusion, strict=True)), strict=True))
        return Table(("it is", *(f"told: {name}" for name in self.classes)), rows)

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def accuracies(told: Tensor, truth: Tensor) -> Figures:
    """Return accuracy and balanced accuracy of class numbers.

    Args:
        told: Inferred classes, int64 (n,).
        truth: True classes, int64 (n,).

    Returns:
        "accuracy" and "balanced", the mean over the true classes that occur, each from 0 to 1.

    Raises:
        ValueError: If the shapes differ or there is no image.
    """
    if told.shape != truth.shape or truth.ndim != 1 or len(truth) == 0:
        raise ValueError(
            f"inferred classes have the shape {tuple(told.shape)} and true ones "
            f"{tuple(truth.shape)}: pass one of each for each image, and at least one image"
        )
    right = (told.to(truth.device) == truth).double()
    each = [right[truth == name].mean() for name in truth.unique()]
    return {"accuracy": float(right.mean()), "balanced": float(torch.stack(each).mean())}


def evaluate_property(
    client: Client, attack: Inferrer, truth: ImageData, *, seed: int = 0
) -> PropertyReport:
    """Score an attack on a property of the private images.

    Args:
        client: The client, after training.
        attack: The attack. Of a `NoHijack` it is the attribute `attack`.
        truth: The client's images in the client's order, labelled with the property.
        seed: Seeds the choice of images, where there are more than `SCORED`, and their halves.

    Raises:
        TypeError: If the attack infers no property.
        ValueError: If `truth` holds other images than the client, or other classes than the
            attack's public images, or if public images are private ones.
    """
    if not hasattr(attack, "infer_property"):
        raise TypeError(
            f"{type(attack).__name__} infers no property: pass an attack such as "
            "sl.PropertyInference (of a NoHijack, its attribute attack)"
        )
    if truth.x.shape != client.data.x.shape or not torch.equal(
        truth.x.to(client.device), client.data.x
    ):
        raise ValueError(
            "truth must hold the client's own images in their order: label the private part with "
            "the property, and pass that"
        )
    if truth.classes != attack.public.classes:
        raise ValueError(
            f"truth has the classes {', '.join(truth.classes)} and the public images "
            f"{', '.join(attack.public.classes)}: label both with the same property"
        )
    refuse_overlap(truth, attack.public)
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))[:SCORED]
    images = truth.select(order)
    x, y = images.x, images.y.cpu()

    def told(message: SmashedData) -> Tensor:
        return attack.infer_property(message).argmax(1).cpu()

    message = client.smash(x)
    guesses = told(message)
    received = None
    if any(
        isinstance(m, nn.modules.batchnorm._BatchNorm | nn.Dropout) for m in client.net.modules()
    ):
        received = accuracies(told(client.smash(x, training_mode=True)), y)
    count = len(truth.classes)
    task = client.data.y[order.to(client.device)].cpu() if client.sends_labels else None
    pairs = torch.bincount(y * count + guesses, minlength=count**2).view(count, count)
    return PropertyReport(
        metrics=accuracies(guesses, y),
        received=received,
        floors=_floors(y, attack.public.y.cpu(), task, count),
        others={
            "own_networks": accuracies(attack.classify(x).argmax(1).cpu(), y),
            "true_pairs": _true_pairs(message.z, y),
        },
        confusion=pairs.tolist(),
        classes=truth.classes,
        n=len(y),
    )


def _floors(y: Tensor, public: Tensor, task: Tensor | None, classes: int) -> dict[str, Figures]:
    """The figures of guesses that need no z, for true classes y, (n,)."""

    def most_common(labels: Tensor) -> Tensor:
        return torch.bincount(labels, minlength=classes).argmax()

    floors = {
        "chance": {"accuracy": 1 / classes, "balanced": 1 / classes},
        "public_majority": accuracies(most_common(public).expand(len(y)), y),
        "best_constant": accuracies(most_common(y).expand(len(y)), y),
    }
    if task is not None:
        guesses = torch.empty_like(y)
        for label in task.unique():
            guesses[task == label] = most_common(y[task == label])
        floors["best_from_label"] = accuracies(guesses, y)
    return floors


def _true_pairs(z: Tensor, y: Tensor) -> Figures:
    """The figures of a linear classifier that learned from the second half of z (n, ...) and y."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    half = len(y) // 2
    numbers = z.flatten(1).cpu().double().numpy()
    if len(y[half:].unique()) < 2:  # nothing to learn
        return accuracies(y[half:][:1].expand(half), y[:half])
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    probe.fit(numbers[half:], y[half:].numpy())
    return accuracies(torch.from_numpy(probe.predict(numbers[:half])), y[:half])


def _words(name: str) -> str:
    return name.replace("_", " ")

"""The scorer of properties: compares inferred with true properties of private images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splitlab.arguments import able, described, generator, tensor_of
from splitlab.core.messages import SmashedData
from splitlab.data import ImageData
from splitlab.referee.attacked import AttackedClients
from splitlab.referee.floors import refuse_overlap
from splitlab.referee.labels import same_images
from splitlab.referee.report import AS_RECEIVED, Report, Scores

SCORED = 1000  # private images, at most


def score_property(
    attacked: AttackedClients, attack: Any, truth: ImageData | None, *, seed: int = 0
) -> Report:
    """Score an attack on a property; arguments and errors as in `evaluate`.

    Each row has "accuracy", the share of images, and "balanced", the mean over the classes of the
    share of a class's images.

    The floors: "chance": 1 in K. "public_majority": always the class that is most common among the
    attacker's images. "best_constant": always the class that is most common among those scored,
    which no attacker knows. "best_from_label": where clients send the labels of their task, for
    each label the class that is most common among the images scored with it, which no attacker
    knows either.

    The ceilings: "own_networks": the attack's pilot and head on the private images themselves; no
    strict bound, for f also adapts to the private images. "true_pairs": a linear classifier of z
    that learned from true pairs of z and class, for one half of the images, scored on the other.

    `further` has the "confusion", images of each true class (rows) by inferred class (columns), and
    the names of the "classes".
    """
    do = "write it, or pass an attack such as sl.PropertyInference"
    able("attack", attack, ("infer_property", "classify"), do)
    if not isinstance(getattr(attack, "public", None), ImageData):
        raise TypeError(
            f"{type(attack).__name__} has no public images labeled with the property: give it an "
            "attribute public, of ImageData"
        )
    if truth is None:
        raise ValueError(
            "the clients do not hold the property: pass truth=, their images in their order, "
            "labeled with it"
        )
    same_images(truth, attacked)
    if truth.classes != attack.public.classes:
        raise ValueError(
            f"truth has the classes {', '.join(truth.classes)} and the public images "
            f"{', '.join(attack.public.classes)}: label both with the same property"
        )
    refuse_overlap(truth, attack.public)
    rows = torch.randperm(len(truth), generator=generator(seed))[:SCORED]
    images = truth.select(rows)
    x, y = images.x, images.y.cpu()

    def inferred(message: SmashedData) -> Tensor:
        return _classes(attack.infer_property(message), len(message.z), count)

    count = len(truth.classes)
    guesses = attacked.ask(inferred, rows)
    scores = {"attack": accuracies(guesses, y)}
    if attacked.look_different_in_training():
        scores[AS_RECEIVED] = accuracies(attacked.ask(inferred, rows, training_mode=True), y)
    task = attacked.data.y[rows.to(attacked.data.y.device)].cpu() if attacked.send_labels else None
    pairs = torch.bincount(y * count + guesses, minlength=count**2).view(count, count)
    return Report(
        goal="property",
        n=len(y),
        columns={"accuracy": "accuracy", "balanced": "balanced accuracy"},
        leading="balanced",
        floors=_floors(y, attack.public.y.cpu(), task, count),
        attack=scores,
        ceilings={
            "own_networks": accuracies(_classes(attack.classify(x), len(x), count), y),
            "true_pairs": _true_pairs(attacked.ask(_z, rows), y),
        },
        further={"confusion": pairs.tolist(), "classes": list(truth.classes)},
        notes=(f"{len(y)} private images scored.",),
    )


def _z(message: SmashedData) -> Tensor:
    return message.z


def _classes(scores: Any, rows: int, classes: int) -> Tensor:
    """The class with the highest of the scores that an attack returns, int64 (rows,)."""
    if not isinstance(scores, Tensor) or tuple(scores.shape) != (rows, classes):
        raise ValueError(
            f"the attack returns {described(scores)} for {rows} images and {classes} classes of "
            "the property: let it return a score for each, (N, K)"
        )
    return scores.argmax(1).cpu()


def accuracies(inferred: Tensor, truth: Tensor) -> Scores:
    """Return accuracy and balanced accuracy of class numbers.

    Args:
        inferred: Inferred classes, int64 (n,).
        truth: True classes, int64 (n,).

    Returns:
        "accuracy" and "balanced", the mean over the true classes that occur, each from 0 to 1.

    Raises:
        ValueError: If the shapes differ or there is no image.
    """
    inferred, truth = tensor_of("inferred", inferred), tensor_of("truth", truth)
    if inferred.shape != truth.shape or truth.ndim != 1 or len(truth) == 0:
        raise ValueError(
            f"inferred classes have the shape {tuple(inferred.shape)} and true ones "
            f"{tuple(truth.shape)}: pass one of each for each image, and at least one image"
        )
    right = (inferred.to(truth.device) == truth).double()
    each = [right[truth == name].mean() for name in truth.unique()]
    return {"accuracy": float(right.mean()), "balanced": float(torch.stack(each).mean())}


def _floors(y: Tensor, public: Tensor, task: Tensor | None, classes: int) -> dict[str, Scores]:
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


def _true_pairs(z: Tensor, y: Tensor) -> Scores:
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

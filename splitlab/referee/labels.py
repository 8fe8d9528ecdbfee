"""The scorer of labels: compares inferred labels with those that the other side holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from splitlab.arguments import able, count, described, tensor_of
from splitlab.attacks.label_inference import Inferred
from splitlab.core.client import Client
from splitlab.core.randomness import Sampler
from splitlab.data import ImageData
from splitlab.referee.attacked import AttackedClients
from splitlab.referee.report import Figures, Report

WINDOWS = {"early": (0, 20), "late": (100, 200)}
COLUMNS = {
    "auc": "leak AUC",
    "auc_per_batch": "mean over batches",
    "accuracy": "accuracy",
    "after_matching": "after matching",
}


def score_labels(
    attacked: AttackedClients,
    attack: Any,
    truth: ImageData | None = None,
    *,
    windows: Mapping[str, tuple[int, int]] = WINDOWS,
) -> Report:
    """Score an attack on labels; arguments and errors as in `evaluate`.

    The rows of the attack are the windows of steps. "auc": leak AUC of all rows of a window
    together; "auc_per_batch": the mean over its batches, each ranked by itself; "batches": how many
    there were, and "one_class": how many of them had one label only, and so have no AUC.
    "accuracy": of the inferred labels; "after_matching": the same, with clusters named by the
    referee. A figure that makes no sense is None: an attack that gives no score has no AUC, nor has
    a task of more than two classes, and clusters have no names of their own. The last row,
    "averaged", ranks images by the mean score over all of their visits. Rows whose label the attack
    knows do not count.

    The floors: "chance" (1 in K, AUC 1/2) and "majority" (always the largest class).
    """
    able("attack", attack, ("inferred",), "let it return what it infers from given steps")
    _check_windows(windows)
    labels = _truth(attacked, attack, truth)
    classes = len((truth or attacked.data).classes)
    if getattr(attack, "classes", classes) != classes:
        raise ValueError(
            f"{type(attack).__name__} infers {attack.classes} classes and truth has {classes}: "
            "label truth with what the attack infers"
        )
    scored: dict[str, Figures] = {}
    for name, steps in windows.items():
        inferred = attack.inferred(*steps)
        scored[name] = _window(inferred, _labels_of(inferred, attacked, labels))
    scored |= _averaged(attack.inferred(), labels)
    share = torch.bincount(labels, minlength=classes).double() / len(labels)
    one_class = [
        f"{window} {figures['one_class']:.0f} of {figures['batches']:.0f}"
        for window, figures in scored.items()
        if figures.get("one_class")
    ]
    note = f"Batches of one label, which have no AUC: {', '.join(one_class)}."
    sensible = {name for f in scored.values() for name, value in f.items() if value is not None}
    return Report(
        goal="labels",
        n=len(labels),
        columns=COLUMNS,
        leading=next(name for name in ("auc", "accuracy", "after_matching") if name in sensible),
        floors={
            "chance": {"auc": 0.5, "auc_per_batch": 0.5, "accuracy": 1 / classes},
            "majority": dict.fromkeys(("accuracy", "after_matching"), float(share.max())),
        },
        attack=scored,
        notes=(note,) if one_class else (),
    )


def _check_windows(windows: Any) -> None:
    """Raise an error unless windows are named ranges of at least one step each."""
    do = "pass name -> first step, and the step after the last, as {'early': (0, 20)}"
    if not isinstance(windows, Mapping) or not windows:
        raise TypeError(f"windows is {described(windows)}: {do}")
    for name, steps in windows.items():
        if not isinstance(steps, tuple | list) or len(steps) != 2:
            raise TypeError(f"the window {name!r} is {described(steps)}: {do}")
        first, end = (count(f"the window {name!r}", step, least=0) for step in steps)
        if first >= end:
            raise ValueError(f"the window {name!r} is {described(steps)}, and has no step: {do}")


def _truth(attacked: AttackedClients, attack: Any, truth: ImageData | None) -> Tensor:
    """The labels of the attacked clients' rows, int64 (N,)."""
    if truth is None:
        if attacked.clients[0] is attack:
            raise ValueError(
                f"{type(attack).__name__} holds no labels to compare with: pass truth=, its own "
                "images in their order with the labels that lie with the server"
            )
        truth = attacked.data
    same_images(truth, attacked)
    return truth.y.to(attacked.device)


def same_images(truth: ImageData, attacked: AttackedClients) -> None:
    """Raise a ValueError where `truth` holds other images than the clients, or another order."""
    own = attacked.data.x
    if truth.x.shape != own.shape or not torch.equal(truth.x.to(own.device), own):
        raise ValueError(
            "truth must hold the clients' own images in their order: label the private part with "
            "what is inferred, and pass that"
        )


def _labels_of(inferred: Inferred, attacked: AttackedClients, labels: Tensor) -> Tensor:
    """The true label of each row that something was inferred of, int64 (n,)."""
    if inferred.index is not None:
        return labels[inferred.index]
    # A server does not know which images a batch holds. Who holds the clients does.
    rows, first = {}, 0
    for client in attacked.clients:
        rows[client.name] = [batch + first for batch in _batches(client)]
        first += len(client.data)
    for name, step in inferred.batches:
        if step >= len(rows.get(name, ())):
            raise ValueError(
                f"the attack inferred labels of step {step} of {name}, which the clients did not "
                "take: pass the very clients that were trained with it"
            )
    found = torch.cat([rows[name][step] for name, step in inferred.batches])
    if len(found) != len(inferred.labels):
        raise ValueError(
            f"the attack inferred {len(inferred.labels)} labels and the clients' batches have "
            f"{len(found)} rows: pass the very clients that were trained with it"
        )
    return labels[found.to(labels.device)]


def _batches(client: Client) -> Iterator[Tensor]:
    """The row numbers of each batch that a client has sent, from its first step on."""
    own = client.sampler
    again = Sampler(own.n, own.batch_size, owner=client.name, seed=own.seed)
    for _ in range(client.step):
        yield again.next()


def _window(inferred: Inferred, truth: Tensor) -> Figures:
    """The figures of one window of steps."""
    score, labels = inferred.score, inferred.labels
    batches = inferred.step.unique()
    figures: Figures = {"auc": None, "auc_per_batch": None, "accuracy": None}
    figures["batches"], figures["one_class"] = len(batches), None
    if score is not None and score.ndim == 1:
        figures["auc"] = leak_auc(score, truth)
        each = [leak_auc(score[inferred.step == b], truth[inferred.step == b]) for b in batches]
        with_both = [auc for auc in each if auc is not None]
        figures["one_class"] = len(each) - len(with_both)
        figures["auc_per_batch"] = sum(with_both) / len(with_both) if with_both else None
    if inferred.named:
        figures["accuracy"] = float((labels == truth).double().mean())
    return figures | {"after_matching": accuracy_after_matching(labels, truth)}


def _averaged(inferred: Inferred, labels: Tensor) -> dict[str, Figures]:
    """The figures of each image's scores, averaged over its visits; empty without scores."""
    score = inferred.score
    if score is None or inferred.index is None:
        return {}
    rows, place = inferred.index.unique(return_inverse=True)
    total = torch.zeros(len(rows), *score.shape[1:], dtype=score.dtype, device=score.device)
    mean = total.index_add(0, place, score)
    visits = torch.bincount(place)
    if score.ndim == 1:
        return {"averaged": {"auc": leak_auc(mean / visits, labels[rows])}}
    right = (mean / visits[:, None]).argmax(1) == labels[rows]
    return {"averaged": {"accuracy": float(right.double().mean())}}


def leak_auc(scores: Tensor, labels: Tensor) -> float | None:
    """How often a row of label 1 has a higher score than a row of label 0; a tie counts 1/2.

    That is the area under the ROC curve: 1/2 for scores that say nothing, 1 for a threshold that
    separates the two, 0 for one that does so the wrong way round.

    Args:
        scores: Evidence for label 1, (n,).
        labels: 0 or 1, int64 (n,).

    Returns:
        The share of pairs, from 0 to 1; None where one of the labels does not occur.

    Raises:
        ValueError: If the shapes differ, a score is NaN, or a label is neither 0 nor 1.
    """
    scores, labels = tensor_of("scores", scores), tensor_of("labels", labels)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(
            f"scores have the shape {tuple(scores.shape)} and labels {tuple(labels.shape)}: pass "
            "one score and one label for each row"
        )
    if scores.isnan().any():
        raise ValueError("a score is NaN, which is neither higher nor lower than another")
    positive = (labels == 1).cpu()
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError("the leak AUC is of the labels 0 and 1: ask for one class at a time")
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if ones == 0 or zeros == 0:
        return None
    _, place, count = scores.double().cpu().unique(return_inverse=True, return_counts=True)
    ranks = (count.cumsum(0) - (count.double() - 1) / 2)[
        place
    ]  # ties share the mean of their ranks
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def accuracy_after_matching(clusters: Tensor, labels: Tensor) -> float:
    """Share of rows in the right cluster, under the best naming of the clusters.

    One name for each cluster and one cluster for each name (the Hungarian method). With as many
    clusters as classes, clusters that say nothing score about as much as the largest class or less.

    Args:
        clusters: Cluster numbers, int64 (n,), from 0.
        labels: Class numbers, int64 (n,), from 0.

    Raises:
        ValueError: If the shapes differ or there is no row.
    """
    clusters, labels = tensor_of("clusters", clusters), tensor_of("labels", labels)
    if clusters.shape != labels.shape or clusters.ndim != 1 or len(labels) == 0:
        raise ValueError(
            f"clusters have the shape {tuple(clusters.shape)} and labels {tuple(labels.shape)}: "
            "pass one of each for each row, and at least one row"
        )
    for name, numbers in {"clusters": clusters, "labels": labels}.items():
        if numbers.is_floating_point() or numbers.is_complex():
            raise ValueError(f"{name} are {numbers.dtype}: pass whole numbers")
    from scipy.optimize import linear_sum_assignment

    # By place among those that occur, so that a large number makes no large table.
    (names, cluster), (classes, label) = (
        numbers.cpu().unique(return_inverse=True) for numbers in (clusters, labels)
    )
    shape = len(names), len(classes)
    table = torch.bincount(cluster * shape[1] + label, minlength=math.prod(shape)).view(shape)
    rows, columns = linear_sum_assignment(-table.numpy())
    return float(table[rows, columns].sum()) / len(labels)

"""The referee of labels: the only place where true labels and an attack's guesses meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splitlab.attacks import LabelInference, Received
from splitlab.core.server import HonestServer
from splitlab.core.tables import Table

Figures = dict[str, float | None]

WINDOWS = {"early": (0, 20), "late": (100, 200)}


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
    """Share of rows in the right cluster, when the referee names the clusters as well as can be.

    One name for each cluster and one cluster for each name (the Hungarian method). With as many
    clusters as classes, clusters that say nothing score about as much as the largest class or less.

    Args:
        clusters: Cluster numbers, int64 (n,), from 0.
        labels: Class numbers, int64 (n,), from 0.

    Raises:
        ValueError: If the shapes differ or there is no row.
    """
    if clusters.shape != labels.shape or clusters.ndim != 1 or len(labels) == 0:
        raise ValueError(
            f"clusters have the shape {tuple(clusters.shape)} and labels {tuple(labels.shape)}: "
            "pass one of each for each row, and at least one row"
        )
    from scipy.optimize import linear_sum_assignment

    count = int(max(clusters.max(), labels.max())) + 1
    pairs = torch.bincount(clusters.cpu() * count + labels.cpu(), minlength=count**2)
    table = pairs.view(count, count)
    rows, columns = linear_sum_assignment(-table.numpy())
    return float(table[rows, columns].sum()) / len(labels)


@dataclass(frozen=True)
class LabelReport:
    """What an attack learned about labels, and what can be had without it.

    Attributes:
        windows: Window of steps -> figures. "auc": leak AUC of all rows of the window together.
            "auc_per_batch": the mean over batches, each ranked by itself; "batches": how many
            there were, and "one_class": how many of them had one label only, and so have no AUC.
            "accuracy": of the inferred labels. "after_matching": the same, with clusters named by
            the referee. None where a figure makes no sense: an attack that gives no score has no
            AUC, nor has a task of more than two classes, and clusters have no names of their own.
            The last window, "averaged", ranks images by the mean score over all of their visits.
        floors: What needs no attack: "chance" (1 in K), "majority" (always the largest class), and
            "auc" (1/2).
    """

    windows: dict[str, Figures]
    floors: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, ready for JSON."""
        return {"windows": self.windows, "floors": self.floors}

    def table(self) -> Table:
        """Return the figures as a table, the floors last."""
        names = {"auc": "leak AUC", "auc_per_batch": "mean over batches"}
        names |= {"accuracy": "accuracy", "after_matching": "after matching"}
        rows = [
            (window, *(_shown(figures.get(name)) for name in names))
            for window, figures in self.windows.items()
        ]
        chance, majority, auc = (self.floors[name] for name in ("chance", "majority", "auc"))
        rows.append(("floor: chance", _shown(auc), _shown(auc), _shown(chance), "-"))
        rows.append(("floor: majority", "-", "-", *[_shown(majority)] * 2))
        left_out = [
            f"{window} {figures['one_class']} of {figures['batches']}"
            for window, figures in self.windows.items()
            if figures.get("one_class")
        ]
        caption = f"Batches of one label, which have no AUC: {', '.join(left_out)}."
        return Table(("", *names.values()), rows, caption=caption if left_out else "")

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def evaluate_labels(
    client: LabelInference,
    server: HonestServer,
    *,
    windows: Mapping[str, tuple[int, int]] = WINDOWS,
) -> LabelReport:
    """Score an attack on labels. Rows whose label the attack was told do not count.

    Args:
        client: The attack, after training.
        server: The server that holds the labels.
        windows: Name -> first step, and the step after the last.

    Raises:
        TypeError: If the client infers no labels.
        ValueError: If the server holds none, or nothing was kept of a window.
    """
    if not isinstance(client, LabelInference):
        raise TypeError(
            f"{type(client).__name__} infers no labels: pass an attack such as sl.GradientNorm"
        )
    if server.labels is None:
        raise ValueError(
            f"{server.name} holds no labels to compare with: make it with labels=, and the client "
            "with sends_index=True"
        )
    labels = server.labels.to(client.device)
    scored = {
        name: _window(client, _unknown(client, client.received(*steps)), labels)
        for name, steps in windows.items()
    }
    scored["averaged"] = _averaged(client, _unknown(client, client.received()), labels)
    share = torch.bincount(labels, minlength=client.classes).double() / len(labels)
    floors = {"chance": 1 / client.classes, "majority": float(share.max()), "auc": 0.5}
    return LabelReport({k: v for k, v in scored.items() if v}, floors)


def _window(client: LabelInference, received: Received, labels: Tensor) -> Figures:
    """The figures of one window of steps."""
    truth = labels[received.index]
    score = client.score(received)
    guesses = client.infer_labels(received)
    batches = received.step.unique()
    figures: Figures = {"auc": None, "auc_per_batch": None, "accuracy": None}
    figures["batches"], figures["one_class"] = len(batches), None
    if score is not None and score.ndim == 1:
        figures["auc"] = leak_auc(score, truth)
        each = [leak_auc(score[received.step == b], truth[received.step == b]) for b in batches]
        with_both = [auc for auc in each if auc is not None]
        figures["one_class"] = len(each) - len(with_both)
        figures["auc_per_batch"] = sum(with_both) / len(with_both) if with_both else None
    if score is not None:
        figures["accuracy"] = float((guesses == truth).double().mean())
    return figures | {"after_matching": accuracy_after_matching(guesses, truth)}


def _averaged(client: LabelInference, received: Received, labels: Tensor) -> Figures:
    """The figures when an image's scores are averaged over all of its visits; {} without scores."""
    score = client.score(received)
    if score is None:
        return {}
    rows, place = received.index.unique(return_inverse=True)
    total = torch.zeros(len(rows), *score.shape[1:], dtype=score.dtype, device=score.device)
    mean = total.index_add(0, place, score)
    visits = torch.bincount(place)
    if score.ndim == 1:
        return {"auc": leak_auc(mean / visits, labels[rows])}
    right = (mean / visits[:, None]).argmax(1) == labels[rows]
    return {"accuracy": float(right.double().mean())}


def _unknown(client: LabelInference, received: Received) -> Received:
    """What was received, without the rows whose label the attack was told."""
    known = torch.tensor(sorted(client.known), dtype=torch.int64, device=received.index.device)
    return received.of(~torch.isin(received.index, known))


def _shown(value: float | None) -> float | str:
    return "-" if value is None else value

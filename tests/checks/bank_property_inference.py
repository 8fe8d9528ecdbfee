"""Right and wrong answers to the exercises of chapter 08."""

from collections import Counter
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from bank import Bank
from torch import nn

from splitlab.checks import property_inference

bank = Bank("08_property_inference", property_inference)

# 1. bar_to_beat


@bank.also_right("bar_to_beat")
def by_counting(public, private):
    counts = Counter(public.tolist())
    guess = min(counts, key=lambda c: (-counts[c], c))
    shares = {c: float(c == guess) for c in private.tolist()}
    return private.tolist().count(guess) / len(private), sum(shares.values()) / len(shares)


@bank.also_right("bar_to_beat")
def as_one_tensor(public, private):
    classes, counts = public.unique(return_counts=True)
    guess = classes[counts == counts.max()].min()
    occurring = private.unique()
    return torch.stack(
        [(private == guess).float().mean(), (occurring == guess).float().mean()]
    )


def bar_with(
    public,
    private,
    learn_on=lambda public, private: public,
    guess=lambda labels: torch.bincount(labels).argmax(),
    score_on=lambda public, private: private,
    classes=lambda public, private: private.unique(),
    result=lambda right, shares: (right.mean(), shares.mean()),
):
    commonest = guess(learn_on(public, private))
    right = (score_on(public, private) == commonest).double()
    occurring = classes(public, score_on(public, private))
    shares = [right[score_on(public, private) == c].mean() for c in occurring]
    return result(right, torch.stack(shares).nan_to_num())


def most_common(labels):
    return Counter(labels.tolist()).most_common(1)[0][0]


BAR_MISTAKES = {
    "commonest class of the private labels": {"learn_on": lambda public, private: private},
    "it is the other way round": {
        "learn_on": lambda public, private: private,
        "score_on": lambda public, private: public,
    },
    "scored on the public labels": {"score_on": lambda public, private: public},
    "the highest number": {
        "guess": lambda y: len(y.bincount()) - 1 - y.bincount().flip(0).argmax()
    },
    "comes first in the list": {"guess": most_common},
    "comes last in the list": {"guess": lambda y: most_common(y.flip(0))},
    "the rarest class": {"guess": lambda y: y.unique()[y.unique(return_counts=True)[1].argmin()]},
    "the mean of the class numbers": {"guess": lambda y: y.double().mean().round()},
    "the median of the class numbers": {"guess": torch.median},
    "how often the commonest class occurs": {"guess": lambda y: y.bincount().max()},
    "class 0, whatever": {"guess": lambda y: 0},
    "the two figures are in the wrong order": {
        "result": lambda right, shares: (shares.mean(), right.mean())
    },
    "these are percentages": {
        "result": lambda right, shares: (100 * right.mean(), 100 * shares.mean())
    },
    "the shares of wrong guesses": {
        "result": lambda right, shares: (1 - right.mean(), 1 - shares.mean())
    },
    "counts the right guesses": {"result": lambda right, shares: (right.sum(), shares.mean())},
    "the accuracy again": {"result": lambda right, shares: (right.mean(), right.mean())},
    "a mean over the public classes": {"classes": lambda public, private: public.unique()},
    "up to the highest class": {"classes": lambda public, private: torch.arange(private.max() + 1)},
    "a sum over the classes": {"result": lambda right, shares: (right.mean(), shares.sum())},
    "1 over the number of private classes": {
        "result": lambda right, shares: (right.mean(), 1 / len(shares))
    },
    "returns a Tensor": {"result": lambda right, shares: right.mean()[None]},
    "has shape": {"result": lambda right, shares: (right, shares)},
    "the two figures are not right": {
        "result": lambda right, shares: (right.mean(), shares.median())
    },
}
for message, change in BAR_MISTAKES.items():
    bank.mistake("bar_to_beat", message)(partial(bar_with, **change))


@bank.mistake("bar_to_beat", "this is chance")
def chance(public, private):
    return 1 / len(public.unique()), 1 / len(public.unique())


@bank.mistake("bar_to_beat", "as often as it occurs")
def in_proportion(public, private):
    share = {c: (public == c).double().mean() for c in [*public.tolist(), *private.tolist()]}
    hits = torch.stack([share[c] for c in private.tolist()])
    return hits.mean(), torch.stack([share[c] for c in private.unique().tolist()]).mean()


@bank.mistake("bar_to_beat", "is nan")
def mean_of_nothing(public, private):
    right = (private == public.bincount().argmax()).double()
    return right.mean(), sum(right[private == c].mean() for c in range(10)) / 10


@bank.mistake("bar_to_beat", "changes the labels")
def sorted_in_place(public, private):
    public.copy_(public.sort().values)
    return bar_with(public, private)


# 2. slant


@bank.also_right("slant")
def with_einsum(x):
    ink = (x + 1).sum(1)
    total = ink.sum((1, 2))
    ink = ink / torch.where(total > 0, total, 1)[:, None, None]
    row = torch.arange(ink.shape[1], dtype=x.dtype)
    column = torch.arange(ink.shape[2], dtype=x.dtype)
    below = row - torch.einsum("nij,i->n", ink, row)[:, None]
    right = column - torch.einsum("nij,j->n", ink, column)[:, None]
    return torch.einsum("nij,ni,nj->n", ink, below, right)


@bank.also_right("slant")
def image_by_image(x):
    slants = []
    for image in x.numpy():
        ink = image.sum(0) + image.shape[0]
        if ink.sum() == 0:
            slants.append(0.0)
            continue
        row, column = np.mgrid[: ink.shape[0], : ink.shape[1]]
        below = row - np.average(row, weights=ink)
        right = column - np.average(column, weights=ink)
        slants.append(np.average(below * right, weights=ink))
    return torch.tensor(slants, dtype=x.dtype)


def slant_with(
    x,
    weight=lambda x: x + 1,
    total=lambda ink: ink.sum((1, 2, 3), keepdim=True),
    centre=lambda mean, row, column: (mean(row), mean(column)),
    result=lambda mean, below, right: mean(below * right),
    count=torch.arange,
):
    ink = weight(x)
    ink = (ink / total(ink)).nan_to_num()
    row, column = count(x.shape[2])[:, None], count(x.shape[3])

    def mean(values):
        return (ink * values).sum((1, 2, 3)).view(-1, 1, 1, 1)

    middle = centre(mean, row, column)
    return result(mean, row - middle[0], column - middle[1]).flatten()


def of_the_image(mean, row, column):
    return row.double().mean(), column.double().mean()


SLANT_MISTAKES = {
    "the sign is turned": {"result": lambda mean, below, right: -mean(below * right)},
    "all slants are 0": {"weight": torch.ones_like},
    "the weights are x itself": {"weight": lambda x: x},
    "the absolute values": {"weight": torch.abs},
    "ink counts from 0 on": {"weight": torch.relu},
    "all pixels that are bright": {"weight": lambda x: (x > 0).double()},
    "all pixels with ink count the same": {"weight": lambda x: (x > -1).double()},
    "the weights are squared": {"weight": lambda x: (x + 1) ** 2},
    "the dark counts": {"weight": lambda x: 1 - x},
    "only the first channel": {"weight": lambda x: x[:, :1] + 1},
    "are not centred": {"centre": lambda mean, row, column: (0, 0)},
    "from the middle of the image": {"centre": of_the_image},
    "one centre is taken for the whole batch": {
        "centre": lambda mean, row, column: (mean(row).mean(), mean(column).mean())
    },
    "the variance of the columns:": {"result": lambda mean, below, right: mean(right**2)},
    "the variance of the rows:": {"result": lambda mean, below, right: mean(below**2)},
    "this is a correlation": {
        "result": lambda mean, below, right: (
            mean(below * right) / (mean(below**2) * mean(right**2)).sqrt()
        )
    },
    "the variance of the rows, which": {
        "result": lambda mean, below, right: mean(below * right) / mean(below**2)
    },
    "the variance of the columns, which": {
        "result": lambda mean, below, right: mean(below * right) / mean(right**2)
    },
    "from 0 to 1 here": {"count": lambda n: torch.linspace(0, 1, n, dtype=torch.float64)},
    "from -1 to 1 here": {"count": lambda n: torch.linspace(-1, 1, n, dtype=torch.float64)},
    "divided by the size of the image": {"count": lambda n: torch.arange(n) / n},
    "are not normalised": {"total": lambda ink: 1},
    "by the number of pixels": {"total": lambda ink: ink[0].numel() / ink.shape[1]},
    "sum to 1 over the whole batch": {"total": torch.sum},
    "by its largest value": {
        "total": lambda ink: ink.sum(1, keepdim=True).amax((2, 3), keepdim=True)
    },
    "a faint image gets": {"total": lambda ink: ink.sum((1, 2, 3), keepdim=True) + 1e-6},
    "one slant for the whole batch": {
        "result": lambda mean, below, right: mean(below * right).mean()
    },
    "the slants have shape": {"result": lambda mean, below, right: mean(below * right)[1:]},
    "the slant is not right": {"result": lambda mean, below, right: mean((below * right).abs())},
}
for message, change in SLANT_MISTAKES.items():

    def leaning(x, change=change):
        slants = slant_with(x, **change)
        return slants[0] if "whole batch: each image has" in change.get("told", "") else slants

    leaning.__name__ = message
    bank.mistake("slant", message)(leaning)

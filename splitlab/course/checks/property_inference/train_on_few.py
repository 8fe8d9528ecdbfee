"""How the open exercise of chapter 35 is scored: a classifier from twenty labels.

The student's `train_on_few(codes, labels)` gets the codes of all public images and twenty labels,
and returns a classifier of codes. It is tried on the codes of images that nobody has shown it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from splitlab import FSHA, settings
from splitlab.core.tables import Table
from splitlab.course.checks.comparison import unlike
from splitlab.course.checks.guard import secret, wrong
from splitlab.course.checks.scored import Answer, scored
from splitlab.course.checks.sight import plain, what
from splitlab.course.checks.verdict import Score, seed_all

Classifier = Callable[[Tensor], Any]  # codes (N, 32, 4, 4) -> class numbers (N,)
Trainer = Callable[[Tensor, Tensor], Classifier]  # codes, labels -> Classifier

SETTING = settings.tiny
CLASSES, EACH = 10, 2  # digits, and how many labels of each are known
UNKNOWN = -1
SEEDS, DRAWS = (61, 62, 63), 3  # of the splits; of the twenty in each split


@scored(
    praise="your classifier keeps to the rules, and the table shows what it learned.",
    seconds=60,
)
def train_on_few(answer: Answer) -> Score:
    """`train_on_few(codes, labels)`: a classifier of codes, from twenty labels."""

    def train(codes: Tensor, labels: Tensor) -> Classifier:
        classify = answer(codes, labels)
        if not callable(classify):
            wrong(
                f"train_on_few returns {what(classify)}: return the classifier itself, a function "
                "or a network that takes codes and returns their classes"
            )
        return Answer(answer.guard, classify, "the classifier")

    yours = _measure(train, cases())
    if yours <= 1.5 / CLASSES:
        wrong(
            f"the classifier's balanced accuracy is {yours:.2f}, and guessing has "
            f"{1 / CLASSES:.2f}: is {UNKNOWN} learned as if it were a class, and do the codes and "
            "the labels keep their order?"
        )
    rows = [*_beside(), ("yours", yours)]
    caption = (
        f"{EACH * CLASSES} of the public images' labels are known, {EACH} of each digit. Means "
        f"over {DRAWS} draws of the twenty in each of {len(SEEDS)} splits"
    )
    head = ("classifier", "balanced accuracy")
    return Score(yours, Table(head, rows, caption=caption, strong=len(rows) - 1))


@dataclass(frozen=True)
class Case:
    """One draw of the twenty.

    Attributes:
        codes: Of all public images, (P, 32, 4, 4).
        labels: The property where it is known, else -1; int64 (P,).
        truth: The property of all public images.
        hidden: Codes of other images, (N, 32, 4, 4).
        answers: Their property, int64 (N,).
    """

    codes: Tensor
    labels: Tensor
    truth: Tensor
    hidden: Tensor
    answers: Tensor


@secret
@functools.cache
def cases() -> tuple[Case, ...]:
    """Return the draws of all splits, in a fixed order."""
    drawn = []
    for seed in SEEDS:
        private, public, _ = SETTING.split("digits", seed)
        pilot = FSHA.at(SETTING, public, seed=seed).pilot
        with torch.no_grad():
            codes, hidden = pilot(public.x), pilot(private.x)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(DRAWS):
            labels = known_labels(public.y, generator)
            drawn.append(Case(codes, labels, public.y, hidden, private.y))
    return tuple(drawn)


def known_labels(y: Tensor, generator: torch.Generator, each: int = EACH) -> Tensor:
    """Hide all labels except some of each class.

    Args:
        y: Class numbers, int64 (P,).
        generator: Draws which ones stay known.
        each: How many of a class stay known.

    Returns:
        A copy of y with -1 elsewhere.
    """
    order = torch.randperm(len(y), generator=generator)
    rows = torch.cat([order[y[order] == c][:each] for c in y.unique()])
    labels = torch.full_like(y, UNKNOWN)
    labels[rows] = y[rows]
    return labels


def _measure(train: Trainer, cases: Sequence[Case]) -> float:
    """Mean over the draws."""
    figures = []
    for number, case in enumerate(cases):
        seed_all(number)  # the same weights for every answer that draws some
        classify = train(case.codes.clone(), case.labels.clone())
        guesses = classify(case.hidden.clone())
        if getattr(guesses, "ndim", 1) == 2:
            wrong(
                f"the classifier returns a table {tuple(guesses.shape)}, of scores perhaps: return "
                "one class for each code, the argmax"
            )
        due = case.answers
        if text := unlike(plain(guesses), due, "the classifier's result", 0, types=True):
            wrong(f"{text}: return one class number for each code")
        figures.append(balanced_accuracy(guesses, due))
    return sum(figures) / len(figures)


def balanced_accuracy(guesses: Tensor, truth: Tensor) -> float:
    """Mean over the classes of the share of their images that is classified correctly.

    Args:
        guesses: Class numbers, int64 (N,).
        truth: The right ones, same shape.
    """
    right = (guesses == truth).double()
    return torch.stack([right[truth == c].mean() for c in truth.unique()]).mean().item()


# --- Simple ways ------------------------------------------------------------------------------


@functools.cache
def _beside() -> tuple[tuple[str, float], ...]:
    """The rows that the answer is compared with."""
    everything = [replace(case, labels=case.truth) for case in cases()[::DRAWS]]
    return (
        ("the most common class, always", _measure(_commonest, cases())),
        ("nearest of the twenty", _measure(_nearest, cases())),
        ("linear head on the twenty", _measure(linear_head, cases())),
        ("linear head on all labels (not yours)", _measure(linear_head, everything)),
    )


def _commonest(codes: Tensor, labels: Tensor) -> Classifier:
    known = labels[labels != UNKNOWN]
    return lambda new: known.bincount().argmax().repeat(len(new))


def _nearest(codes: Tensor, labels: Tensor) -> Classifier:
    known = labels != UNKNOWN
    rows, classes = codes[known].flatten(1), labels[known]
    return lambda new: classes[torch.cdist(new.flatten(1), rows).argmin(1)]


def linear_head(codes: Tensor, labels: Tensor) -> Classifier:
    """Train a head, as an attacker without a better idea would.

    Args:
        codes: (P, C, H, W).
        labels: int64 (P,); rows with -1 are left out.
    """
    known = labels != UNKNOWN
    head = nn.Sequential(nn.Flatten(), nn.Linear(codes[0].numel(), CLASSES))
    adam = Adam(head.parameters(), lr=1e-2)
    for _ in range(100):
        adam.zero_grad()
        F.cross_entropy(head(codes[known]), labels[known]).backward()
        adam.step()
    return lambda new: head(new).argmax(1)

"""Exercise 5: noise along each gradient that gives all rows one expected squared norm."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from splitlab import HonestServer, PassiveClient, settings, train
from splitlab.core.messages import Gradient
from splitlab.core.tables import Table
from splitlab.course.checks.guard import secret, wrong
from splitlab.course.checks.scored import Answer, expect_tensor, scored
from splitlab.course.checks.sight import same
from splitlab.course.checks.verdict import Score

COPIES = 2000  # of each gradient in a batch: as many draws of its noise
NORMS = (0.4, 1.0, 1.7, 2.6, 4.0)
LARGEST = NORMS[-1]
SPREAD = 0.08  # a standard deviation may be off by this share of it, five times the usual luck
BIAS = 0.11  # and a mean by this share of the standard deviation, likewise
SHARED = 0.16  # and a correlation by this, likewise
FARTHEST = 3.1  # of thousands of normal numbers some lie beyond, but for one time in 10^7
UNLIKELY = 1e-6  # a test of normality that fails less often than this is no accident


@scored(
    praise="all rows have one expected squared norm, their mean is the gradient, and the table "
    "shows what that hides.",
    seconds=60,
)
def max_norm(answer: Answer) -> Score:
    """`max_norm(dz, generator)`: dz_i (1 + sigma_i eps_i), all rows as long as the longest."""
    _check_shapes(answer)
    _check_randomness(answer)
    _check_noise(answer)
    return score(answer)


def _asked(answer: Answer, dz: Tensor, generator: torch.Generator) -> Tensor:
    noisy = answer(dz, generator)
    if isinstance(noisy, Tensor) and noisy.isnan().any():
        zeros = not dz.flatten(1).any(1).all()
        wrong(
            "a row of zeros comes back as nan: it has no direction to put noise along, so it stays "
            "as it is; mind the division by its norm"
            if zeros
            else "there is nan in the gradients: is there the root of a negative number? The "
            "largest squared norm comes first, and then 1, or the row's own, is subtracted"
        )
    noisy = expect_tensor(noisy, "what max_norm returns", dz.shape)
    if noisy.dtype != dz.dtype:
        wrong(f"the gradients change their type: {dz.dtype} comes in, and {noisy.dtype} crosses")
    return noisy


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- What is no matter of chance --------------------------------------------------------------


def _check_shapes(answer: Answer) -> None:
    """Check batches of several shapes, with zeros, and with nothing to equalize."""
    for shape in ((6, 3, 2, 2), (5, 4), (4, 2, 3), (1, 1, 2, 2)):
        for dtype in (torch.float64, torch.float32):
            _asked(answer, torch.randn(shape, dtype=dtype), _seeded(0))
    zeros = torch.randn(4, 3, 2)
    zeros[1] = 0
    if _asked(answer, zeros, _seeded(0))[1].any():
        wrong(
            "a row of zeros gets noise: it has no direction to put noise along, so it stays as "
            "it is"
        )
    if _asked(answer, torch.zeros_like(zeros), _seeded(0)).any():
        wrong("a batch of zeros gets noise: its largest norm is 0, and that is what all rows have")


def _check_randomness(answer: Answer) -> None:
    """Check that all noise comes from the generator.

    Raises:
        CheckFailed: If it does not.
    """
    dz = _batch(3)
    state = torch.get_rng_state()
    generator = _seeded(1)
    first = _asked(answer, dz, generator)
    kept = first.clone()
    second = _asked(answer, dz, generator)
    if not same(first, kept):
        wrong(
            "what max_norm returned changes at the next call: it lies in memory that is used "
            "again, so return a new tensor each time"
        )
    if not torch.equal(torch.get_rng_state(), state) or not same(
        _asked(answer, dz, _seeded(1)), first
    ):
        wrong(
            "the noise does not come from the generator that is handed over, so a run cannot be "
            "repeated: pass generator=generator"
        )
    if same(first, dz):
        wrong("there is no noise: the gradients come back as they were")
    lengths = dz.flatten(1).norm(dim=1)
    if same(first.flatten(1).norm(dim=1), lengths.max().expand_as(lengths)):
        wrong(
            "the rows are rescaled, so that all have one norm: the mean of what is sent is then "
            "not the gradient, and the task is trained with another loss; add noise whose mean is "
            "zero"
        )
    if same(first, second):
        wrong(
            "the noise is the same in every call: two batches are enough to subtract it; draw it "
            "anew, from the generator as it stands"
        )


# --- The noise, measured ----------------------------------------------------------------------


@secret
def _batch(copies: int) -> Tensor:
    """Make gradients of the norms `NORMS`, with zeros in them as a ReLU leaves them.

    Args:
        copies: How often each comes.

    Returns:
        Float64, (copies * 5, 3, 2, 2); row i has the norm `NORMS[i % 5]`.
    """
    rows = torch.randn(len(NORMS), 3, 2, 2, dtype=torch.float64)
    rows[:, 0, 0] = 0
    lengths = torch.tensor(NORMS, dtype=torch.float64).view(-1, 1, 1, 1)
    rows *= lengths / rows.flatten(1).norm(dim=1).view_as(lengths)
    return rows.repeat(copies, 1, 1, 1)


def _check_noise(answer: Answer) -> None:
    """Measure the noise of many draws.

    Raises:
        CheckFailed: If it is not what the formula gives.
    """
    dz = _batch(COPIES).flatten(1)
    noisy = _asked(answer, dz.view(-1, 3, 2, 2), _seeded(2)).flatten(1)
    squares = dz.square().sum(1)
    # By which factor is each row longer, and is that all that has happened to it?
    factors = (noisy * dz).sum(1) / squares
    _check_direction(dz, noisy, factors)
    by_norm = factors.view(COPIES, len(NORMS)).T  # (5, copies)
    expected = noisy.square().sum(1).view(COPIES, len(NORMS)).mean(0)
    if not same(by_norm[-1], torch.ones(COPIES, dtype=torch.float64), 1e-6):
        _explain_largest(by_norm[-1])
    if (by_norm[:-1].std(1) < 1e-9).any():
        wrong(
            "rows that are alike get one and the same noise: draw one number for each row, "
            "len(dz) of them"
        )
    _check_mean(by_norm[:-1])
    _check_spread(by_norm[:-1], expected)
    rest = by_norm[:-1]
    eps = (rest - rest.mean(1, keepdim=True)) / rest.std(1, keepdim=True)
    # Neighbors in the batch, rows of one norm, and the batch's two halves, each with each.
    correlation = torch.corrcoef(torch.cat(eps.chunk(2, dim=1)))
    if correlation.triu(1).abs().max() > SHARED:
        wrong("several rows share one eps: draw one number for each row, len(dz) of them")
    if eps.abs().max() < FARTHEST or stats.kstest(eps.flatten(), "norm").pvalue < UNLIKELY:
        wrong(
            "the mean and the expected squared norm are right, and eps is not normal: draw it with "
            "torch.randn"
        )


def _check_direction(dz: Tensor, noisy: Tensor, factors: Tensor) -> None:
    """Check that the noise lies along each row's own gradient.

    Raises:
        CheckFailed: If it does not.
    """
    if same(noisy, factors[:, None] * dz, 1e-6):
        return
    at_zeros = noisy[dz == 0]
    if at_zeros.abs().max() > 1e-9:
        wrong(
            "the noise points in all directions, and most of it misses the gradient's own, so "
            "the norm and the cosine still reveal the label: multiply the row itself by 1 + "
            "sigma * eps"
        )
    wrong(
        "the numbers of one row get different noise: one eps for each row, and not one for each "
        "number, keeps it along the row's own gradient"
    )


def _explain_largest(factors: Tensor) -> None:
    """Explain how an answer changes the longest row.

    Raises:
        CheckFailed: Always.
    """
    if factors.std() < 1e-9:
        wrong(
            f"the longest row is multiplied by {factors[0].item():.3g}: all others are to become "
            "as long as it is, so it stays as it is"
        )
    if abs(factors.std().item() - 1) < SPREAD:
        wrong(
            "the longest row gets noise, too: without the - 1 under the root, the noise alone is "
            "as long as the longest gradient, and the gradient itself comes on top"
        )
    wrong("the longest row gets noise, too: it has the largest norm already, so its sigma is 0")


def _check_mean(by_norm: Tensor) -> None:
    """Check that the mean over many draws is the gradient.

    Raises:
        CheckFailed: If it is not.
    """
    means, spreads = by_norm.mean(1), by_norm.std(1)
    if (means.abs() < BIAS * spreads).all():
        wrong(
            f"over {COPIES} draws the mean of what is sent is zero: the gradient itself is gone, "
            "so add the noise to it, 1 + sigma * eps"
        )
    off = ((means - 1).abs() / spreads).argmax()
    if (means[off] - 1).abs() > BIAS * spreads[off]:
        wrong(
            f"over {COPIES} draws the mean of what is sent is {means[off].item():.2f} times the "
            "gradient: the noise is biased, and the task is trained with another gradient; eps "
            "has a mean of zero, so take no abs, and no uniform numbers from 0 up"
        )


def _check_spread(by_norm: Tensor, expected: Tensor) -> None:
    """Check that all rows have the expected squared norm of the longest one.

    Args:
        by_norm: The factors that rows were multiplied by, (4, copies); the longest are left out.
        expected: The mean squared norms of what is sent, (5,).

    Raises:
        CheckFailed: If they have not.
    """
    norms = torch.tensor(NORMS[:-1], dtype=torch.float64)
    sigma = (LARGEST**2 / norms**2 - 1).sqrt()
    measured = by_norm.std(1)

    def near(other: Tensor) -> bool:
        return bool(((measured / other - 1).abs() < SPREAD).all())

    if near(sigma):
        return
    figures = (
        f"over {COPIES} draws a row of norm {NORMS[0]} gets the mean squared norm "
        f"{expected[0].item():.3g}, and one of norm {NORMS[1]:g} gets {expected[1].item():.3g}, "
        f"where the longest has {LARGEST**2:g}"
    )
    mistakes = {
        "sigma lacks its root: it is a standard deviation, and max_norm^2 / norm^2 - 1 a "
        "variance": sigma**2,
        "the norms under the root are not squared": (LARGEST / norms - 1).sqrt(),
        "sigma is max_norm / norm - 1: square the norms, subtract 1, and take the root": (
            LARGEST / norms - 1
        ),
        "the noise is sigma times a direction of length 1: multiply the row itself": sigma / norms,
        "the noise is as long as what is missing of the norm, and squared norms add up: the "
        "variance is max_norm^2 - norm^2": (LARGEST - norms).clamp(min=0).sqrt() / norms,
        "sigma is the root of a root": sigma.sqrt(),
        "all rows get the same sigma: each needs its own, the more the shorter it is": (
            measured.mean().expand_as(measured)
        ),
    }
    for message, other in mistakes.items():
        if near(other):
            wrong(f"{message}; {figures}")
    wrong(f"the noise does not equalize: {figures}")


# --- The score: what the noise hides on real gradients ----------------------------------------

SETTING = settings.tiny
SEED = 21  # the notebook's is 0
STEPS, DRAWS = 30, 5
CAPTION = (
    f"Leak AUC on the gradients of the first {STEPS} steps of a split that learns 'is it a 0', a "
    "mean over batches. The noise in all directions has the same power. Hidden: 1 where the norm's "
    "AUC is 1/2, 0 where it is 1"
)


@dataclass(frozen=True)
class _Batch:
    """One step's gradients, as the client gets them, and the labels, which it does not get.

    Attributes:
        dz: (B, ...), with two positives at least.
        positive: Bool, (B,).
        known: The row that the cosine is taken with, a positive.
    """

    dz: Tensor
    positive: Tensor
    known: int


def score(answer: Answer) -> Score:
    """Compare what norm and cosine reveal without noise, with simple noise and with yours."""
    leaks = _beside() | {"yours": _leaks(answer)}
    rows = [(name, *aucs, _hidden(aucs[0])) for name, aucs in leaks.items()]
    head = ("noise", "norm", "cosine", "cosine without sign", "hidden")
    table = Table(head, rows, caption=CAPTION, strong=len(rows) - 1)
    return Score(_hidden(leaks["yours"][0]), table)


def _hidden(auc: float) -> float:
    return 1 - 2 * abs(auc - 0.5)


class _Curious(PassiveClient):
    """Keeps the gradients that it receives."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def observe(self, message: Gradient, index: Tensor) -> None:
        self.seen.append((message.dz.clone(), index.clone()))


@secret
@functools.cache
def _batches() -> tuple[_Batch, ...]:
    """Train a split whose labels lie at the server, and keep the batches that can be scored."""
    private, _, _ = SETTING.split("digits", SEED)
    positive = private.y == 0
    blind = replace(private, y=torch.zeros_like(private.y))
    client = _Curious(
        SETTING.client_net(seed=SEED), blind, sends_index=True, **SETTING.client(seed=SEED)
    )
    net = SETTING.server_net(classes=2, seed=SEED)
    train([client], HonestServer(net, labels=positive.long(), seed=SEED), STEPS)
    batches = [(dz, positive[index]) for dz, index in client.seen]
    return tuple(_Batch(dz, rare, int(rare.nonzero()[0])) for dz, rare in batches if rare.sum() > 1)


def _leaks(noise: Any) -> tuple[float, float, float]:
    """Return the mean leak AUC of the norm, the cosine and its absolute value."""
    generator = _seeded(5)
    found = []
    for batch in _batches() * DRAWS:
        rows = noise(batch.dz.clone(), generator).flatten(1)
        others = torch.arange(len(rows)) != batch.known
        cosine = F.normalize(rows) @ F.normalize(rows[batch.known], dim=0)
        positive = batch.positive[others]
        found.append(
            (
                _auc(rows.norm(dim=1), batch.positive),
                _auc(cosine[others], positive),
                _auc(cosine[others].abs(), positive),
            )
        )
    means = [math.fsum(column) / len(found) for column in zip(*found, strict=True)]
    return means[0], means[1], means[2]


def _auc(scores: Tensor, positive: Tensor) -> float:
    high, low = scores[positive][:, None], scores[~positive]
    return ((high > low) + (high == low) / 2).mean().item()


@functools.cache
def _beside() -> dict[str, tuple[float, float, float]]:
    """The leak AUCs under simple noise, by its name."""
    return {
        "none": _leaks(lambda dz, generator: dz),
        "in all directions": _leaks(_isotropic),
    }


def _isotropic(dz: Tensor, generator: torch.Generator) -> Tensor:
    """Noise in all directions, with the power that equalizing takes on average."""
    squares = dz.flatten(1).square().sum(1)
    power = (squares.max() - squares).mean() / dz[0].numel()
    return dz + power.sqrt() * torch.randn(dz.shape, generator=generator)

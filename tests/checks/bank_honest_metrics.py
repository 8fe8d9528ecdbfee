"""Answers to the exercises of chapter 13: right ones, and what students may well write."""

import math
import statistics

import numpy as np
import torch
from bank import Bank
from scipy import stats
from torch.nn import functional as F

from splitlab.course.checks import honest_metrics
from splitlab.referee import metrics

bank = Bank("13_honest_metrics", honest_metrics)


def mistakes(exercise, given):
    """Register short mistakes: (message, function) pairs."""
    for message, function in given:
        function.__name__ = message
        bank.mistake(exercise, message)(function)


def mse(a, b):
    return (a - b).square().mean()


def decibels(peak, error):
    return 10 * torch.log10(peak**2 / error)


# --- psnr -------------------------------------------------------------------------------------


@bank.also_right("psnr")
def with_plain_numbers(reconstructed, true, value_range):
    error = float(((reconstructed - true) ** 2).mean())
    if error == 0:
        return math.inf
    return 20 * math.log10(value_range[1] - value_range[0]) - 10 * math.log10(error)


@bank.also_right("psnr")
def in_batches(reconstructed, true, value_range):
    total = 0.0
    for a, b in zip(reconstructed.split(32), true.split(32), strict=True):
        total += np.square(a.numpy() - b.numpy()).sum()
    error = total / true.numel()
    span = value_range[1] - value_range[0]
    return float("inf") if not error else 10 * np.log10(span**2 / error)


@bank.also_right("psnr")
def in_single_precision(reconstructed, true, value_range):
    low, high = value_range
    error = F.mse_loss(reconstructed.float(), true.float())
    return 20 * torch.log10((high - low) / error.sqrt())


mistakes(
    "psnr",
    [
        ("where the ratio is infinite", lambda a, b, r: decibels(r[1] - r[0], mse(a, b) + 1e-12)),
        (
            "where the ratio is infinite",
            lambda a, b, r: decibels(r[1] - r[0], mse(a, b).clamp(min=1e-10)),
        ),
        ("should be a number", lambda a, b, r: (decibels(r[1] - r[0], mse(a, b)), mse(a, b))),
        ("has changed", lambda a, b, r: decibels(r[1] - r[0], a.sub_(b).square().mean())),
        (
            "the ratio is not right",
            lambda a, b, r: decibels(r[1] - r[0], (a - b).square().flatten(1).mean(1).median()),
        ),
        (
            "the ratio is not right",  # half of the precision
            lambda a, b, r: decibels(r[1] - r[0], mse(a.half(), b.half()).double()),
        ),
        (
            "the ratio is not right",  # nearly identical
            lambda a, b, r: math.inf if torch.allclose(a, b) else decibels(r[1] - r[0], mse(a, b)),
        ),
        (
            "the ratio is not right",  # what lies outside of the range counts, too
            lambda a, b, r: decibels(r[1] - r[0], mse(a.clamp(*r), b)),
        ),
    ],
)

# --- explained_variance -----------------------------------------------------------------------


@bank.also_right("explained_variance")
def with_var(reconstructed, true):
    return 1 - F.mse_loss(reconstructed, true) / true.var(dim=0, correction=0).mean()


@bank.also_right("explained_variance")
def by_sums(reconstructed, true):
    a, b = (images.flatten(1).numpy() for images in (reconstructed, true))
    return 1 - ((a - b) ** 2).sum() / ((b - b.mean(axis=0)) ** 2).sum()


def about(a, b, mean):
    return 1 - mse(a, b) / (b - mean).square().mean()


mistakes(
    "explained_variance",
    [
        ("should be a number", lambda a, b: str(about(a, b, b.mean(0)))),
        ("reconstructed has changed", lambda a, b: about(a, b, b.mean(0)) + 0 * a.sub_(b).mean()),
        ("the share is not right", lambda a, b: about(a, b, b.median(0).values)),
        (
            "the share is not right",  # a small number to keep from dividing by 0
            lambda a, b: 1 - mse(a, b) / (b.var(0, correction=0).mean() + 1e-8),
        ),
        (
            "the share is not right",  # each image counts once
            lambda a, b: 1 - mse(a, b) / b.unique(dim=0).var(0, correction=0).mean(),
        ),
        ("the share is not right", lambda a, b: about(a.half(), b.half(), b.half().mean(0))),
    ],
)

# --- nearest_public ---------------------------------------------------------------------------


@bank.also_right("nearest_public")
def with_loops(private, public):
    found = []
    for one in private:
        errors = [float(((one - other) ** 2).mean()) for other in public]
        found.append(public[errors.index(min(errors))])
    return torch.stack(found)


@bank.also_right("nearest_public")
def by_broadcasting(private, public):
    distance = (private[:, None] - public[None]).square().sum((2, 3, 4)).sqrt()
    return public.index_select(0, distance.min(1).indices)


@bank.also_right("nearest_public")
def by_products(private, public):
    a, b = private.flatten(1), public.flatten(1)
    return public[(a @ b.T - b.square().sum(1) / 2).argmax(1)]


def rows(private, public):
    return torch.cdist(private.flatten(1), public.flatten(1)).argmin(1)


def unit(images):
    return F.normalize(images.flatten(1))


def centered(images):
    return images - images.mean((1, 2, 3), keepdim=True)


def once_each(private, public):
    left, found = public.clone(), []
    for one in private:
        number = rows(one[None], left).item()
        found.append(public[number])
        left[number] = 1e9
    return torch.stack(found)


BUFFERS = {}


mistakes(
    "nearest_public",
    [
        ("has shape", lambda a, b: b[rows(a, b).unique()[:2]]),
        ("has shape", lambda a, b: b.flatten(1)[rows(a, b)]),
        ("should be a tensor", lambda a, b: list(b[rows(a, b)])),
        ("private itself comes back", lambda a, b: a[rows(a, a)]),
        (
            "however many there are of both",
            lambda a, b: once_each(a, b) if len(b) < len(a) else b[rows(a, b)],
        ),
        ("has changed", lambda a, b: a.copy_(b[rows(a, b)])),
        ("not the nearest public images", lambda a, b: b[torch.arange(len(a)) % len(b)]),
        ("not the nearest public images", lambda a, b: b[rows(a, b)] + 1e-3),
        ("not the nearest public images", lambda a, b: b[rows(a.half().float(), b.half().float())]),
        (
            "not the nearest public images",  # any that is nearly as near
            lambda a, b: b[torch.cdist(a.flatten(1), b.flatten(1)).round(decimals=2).argmin(1)],
        ),
        ("is rounded to", lambda a, b: b[rows(a, b)].float()),
        (
            "changes at the next call",
            lambda a, b: BUFFERS.setdefault(a.shape, torch.zeros_like(a)).copy_(b[rows(a, b)]),
        ),
    ],
)

# --- interval ---------------------------------------------------------------------------------


@bank.also_right("interval")
def by_scipy(values, confidence=0.95):
    return stats.t.interval(
        confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
    )


@bank.also_right("interval")
def by_torch(values, confidence=0.95):
    values = torch.tensor(values, dtype=torch.float64)
    reach = -stats.t.ppf((1 - confidence) / 2, len(values) - 1)
    error = values.std(correction=0) / (len(values) - 1) ** 0.5
    return [values.mean() - reach * error, values.mean() + reach * error]


@bank.also_right("interval")
def as_an_array(values, confidence=0.95):
    return np.mean(values) + half(values, confidence) * np.array([-1, 1])


def reaching(reach):
    """An interval about the mean, from how far it reaches: reach(values, confidence)."""

    def made(values, confidence=0.95):
        mean, half = statistics.fmean(values), reach(values, confidence)
        return mean - half, mean + half

    return made


def half(values, confidence=0.95):
    return stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)


def too_short_for_small_figures(values, confidence):
    return half(values, confidence) * (1 if min(values) > 2 else 0.5)


def normal_if_there_are_many(values, confidence):
    if len(values) < 100:
        return half(values, confidence)
    return stats.norm.ppf((1 + confidence) / 2) * stats.sem(values)


mistakes(
    "interval",
    [
        ("should have 2 parts", lambda values, confidence=0.95: half(values, confidence)),
        ("should have 2 parts", lambda values, confidence=0.95: (0.0, half(values, confidence), 1)),
        (
            "values[0] has changed",
            lambda values, confidence=0.95: (values.sort(), by_scipy(values, confidence))[1],
        ),
        ("not the ends of the t interval", reaching(too_short_for_small_figures)),
        ("not the ends of the t interval", reaching(normal_if_there_are_many)),
        ("not the ends of the t interval", reaching(lambda values, c: 0.9 * half(values, c))),
        (
            "not the ends of the t interval",  # equal figures count once
            lambda values, confidence=0.95: by_scipy(list(set(values)), confidence),
        ),
    ],
)

# --- figure -----------------------------------------------------------------------------------


def moves(pictures):
    """All moves of up to one pixel, the border repeated: (9, N, C, H, W)."""
    wide = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    height, width = pictures.shape[2:]
    return torch.stack(
        [wide[..., i : i + height, j : j + width] for i in range(3) for j in range(3)]
    )


def likeness(pictures, private):
    """Largest absolute correlation over the moves, (N, N)."""
    return (
        torch.stack(
            [unit(centered(moved)) @ unit(centered(private)).T for moved in moves(pictures)]
        )
        .abs()
        .amax(0)
    )


@bank.also_right("figure")
def each_finds_the_other(pictures, private):
    alike, number = likeness(pictures, private), torch.arange(len(private))
    return float(((alike.argmax(1) == number) & (alike.argmax(0) == number)).double().mean())


@bank.also_right("figure")
def like_enough_to_count(pictures, private):
    alike = likeness(pictures, private)
    right = alike.argmax(1) == torch.arange(len(private))
    return (right & (alike.diagonal() > 0.95)).double().mean()


@bank.also_right("figure")
def how_far_above_the_next(pictures, private):
    alike = likeness(pictures.double(), private.double())
    others = alike - 2 * torch.eye(len(private))
    lead = alike.diagonal() - others.amax(1)
    return (8 * lead).clamp(0, 1).mean()


def different(pictures, private):
    """How many pictures there are, if those that are nearly the same count once."""
    apart = torch.cdist(pictures.flatten(1), pictures.flatten(1)) > 2
    return apart.tril(-1).sum(1).eq(torch.arange(len(pictures))).double().mean()


def variety(pictures, private):
    return (pictures.var(0).mean() / private.var(0).mean()).clamp(0, 1)


def alarm(pictures, private):
    return float(each_finds_the_other(pictures, private) > 0.6)


def two_heaps(pictures, private):
    """Chamfer's idea: is every private image somewhere among the pictures?"""
    distance = torch.cdist(pictures.flatten(1), private.flatten(1))
    return 1 / (1 + distance.amin(0).mean())


CALLS = []


def counter(pictures, private):
    CALLS.append(len(CALLS))
    return min(1.0, len(CALLS) / 1000)


def by_turns(pictures, private):
    CALLS.append(len(CALLS))
    return float(len(CALLS) % 7 < 4)


mistakes(
    "figure",
    [
        ("it should be a share", lambda a, b: 100 * metrics.matched(a, b)),
        (
            "it should be a share",
            lambda a, b: torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1],
        ),
        ("should be a number", lambda a, b: "much" if likeness(a, b).mean() > 0.5 else "little"),
        ("return one number", lambda a, b: likeness(a, b).diagonal()),
        (
            "is nan",
            lambda a, b: (
                (
                    (centered(a) * centered(b)).sum((1, 2, 3))
                    / centered(a).square().sum((1, 2, 3)).sqrt()
                    / centered(b).square().sum((1, 2, 3)).sqrt()
                )
                .abs()
                .mean()
            ),
        ),
        ("the second time", counter),
        ("the second time", by_turns),
        ("the second time", lambda a, b: torch.rand(())),
        ("whatever the pictures show", lambda a, b: 1.0),
        ("whatever the pictures show", lambda a, b: len(a.unique(dim=0)) / len(a)),
        ("for the private images themselves", lambda a, b: mse(a, b).clamp(0, 1)),
        ("shows another's image", different),
        ("shows another's image", variety),
        ("shows another's image", two_heaps),
        ("the figure is no share", alarm),
        ("the figure is no share", lambda a, b: each_finds_the_other(a, b) ** 8),
        ("no more than matching by correlation", metrics.matched),
        ("no more than matching by correlation", metrics.matched_by_correlation),
        (
            "no more than matching by correlation",
            lambda a, b: max(0.0, metrics.explained_variance(a, b)),
        ),
        (
            "figure changes its argument 1",
            lambda a, b: likeness(a.sub_(a.mean()), b).diagonal().mean(),
        ),
        ("with color images", lambda a, b: likeness(a.view(-1, 1, 16, 16), b).diagonal().mean()),
    ],
)

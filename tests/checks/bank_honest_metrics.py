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


def own(a, b):
    """Each image's own error, (N,)."""
    return (a - b).square().flatten(1).mean(1)


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


def batches(reconstructed, true, size):
    return zip(reconstructed.split(size), true.split(size), strict=True)


mistakes(
    "psnr",
    [
        ("run from 0 to 1", lambda a, b, r: decibels(1, mse(a, b))),
        ("run from -1 to 1", lambda a, b, r: decibels(2, mse(a, b))),
        ("run from 0 to 255", lambda a, b, r: decibels(255, mse(a, b))),
        ("the largest value stands", lambda a, b, r: decibels(r[1], mse(a, b))),
        ("read off the images", lambda a, b, r: decibels(b.max() - b.min(), mse(a, b))),
        (
            "the length of the range is not squared",
            lambda a, b, r: 10 * torch.log10((r[1] - r[0]) / mse(a, b)),
        ),
        ("the images' own ratios", lambda a, b, r: decibels(r[1] - r[0], own(a, b)).mean()),
        ("are summed where", lambda a, b, r: decibels(r[1] - r[0], (a - b).square().sum())),
        (
            "are summed over an image's pixels",
            lambda a, b, r: decibels(r[1] - r[0], (a - b).square().sum((1, 2, 3)).mean()),
        ),
        (
            "a mean of means of batches of 32",
            lambda a, b, r: decibels(
                r[1] - r[0], sum(mse(*pair) for pair in batches(a, b, 32)) / -(-len(a) // 32)
            ),
        ),
        (
            "a mean of means of batches of 100",
            lambda a, b, r: decibels(
                r[1] - r[0], sum(mse(*pair) for pair in batches(a, b, 100)) / -(-len(a) // 100)
            ),
        ),
        (
            "the last batch is missing",
            lambda a, b, r: decibels(
                r[1] - r[0], mse(a[:128], b[:128]) if len(a) > 64 else mse(a, b)
            ),
        ),
        ("the absolute error", lambda a, b, r: decibels(r[1] - r[0], (a - b).abs().mean())),
        ("upside down", lambda a, b, r: 10 * torch.log10(mse(a, b) / (r[1] - r[0]) ** 2)),
        ("the natural one", lambda a, b, r: 10 * torch.log((r[1] - r[0]) ** 2 / mse(a, b))),
        ("the factor is 20", lambda a, b, r: 2 * decibels(r[1] - r[0], mse(a, b))),
        (
            "the root of the error",
            lambda a, b, r: 10 * torch.log10((r[1] - r[0]) / mse(a, b) ** 0.5),
        ),
        ("the factor 10", lambda a, b, r: torch.log10((r[1] - r[0]) ** 2 / mse(a, b))),
        ("the logarithm is missing", lambda a, b, r: (r[1] - r[0]) ** 2 / mse(a, b)),
        (
            "with identical images, psnr stopped",
            lambda a, b, r: 10 * math.log10((r[1] - r[0]) ** 2 / mse(a, b).item()),
        ),
        (
            "where the ratio is infinite",
            lambda a, b, r: decibels(r[1] - r[0], mse(a, b) + 1e-12),
        ),
        (
            "where the ratio is infinite",
            lambda a, b, r: decibels(r[1] - r[0], mse(a, b).clamp(min=1e-10)),
        ),
        ("should be a number", lambda a, b, r: (decibels(r[1] - r[0], mse(a, b)), mse(a, b))),
        ("changes the images", lambda a, b, r: decibels(r[1] - r[0], a.sub_(b).square().mean())),
        ("the ratio is not right", lambda a, b, r: decibels(r[1] - r[0], own(a, b).median())),
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


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]


mistakes(
    "explained_variance",
    [
        ("one gray value", lambda a, b: 1 - mse(a, b) / b.var(correction=0)),
        ("each image's own gray value", lambda a, b: about(a, b, b.mean((1, 2, 3), keepdim=True))),
        ("each channel's mean value", lambda a, b: about(a, b, b.mean((0, 2, 3), keepdim=True))),
        ("from the mean of the reconstructions", lambda a, b: about(a, b, a.mean(0))),
        (
            "the variance of the reconstructions",
            lambda a, b: 1 - mse(a, b) / a.var(0, correction=0).mean(),
        ),
        ("upside down", lambda a, b: 1 - (b - b.mean(0)).square().mean() / mse(a, b)),
        ("not explained", lambda a, b: 1 - about(a, b, b.mean(0))),
        ("this is a squared correlation: it forgives", lambda a, b: correlation(a, b) ** 2),
        (
            "of deviations from the mean image",
            lambda a, b: correlation(a - b.mean(0), b - b.mean(0)) ** 2,
        ),
        (
            "the variance of the errors",
            lambda a, b: 1 - (a - b).var(correction=0) / b.var(0, correction=0).mean(),
        ),
        ("divided by N - 1", lambda a, b: 1 - mse(a, b) / b.var(0).mean()),
        (
            "for each pixel",
            lambda a, b: (1 - (a - b).square().mean(0) / b.var(0, correction=0)).mean(),
        ),
        ("for each image", lambda a, b: (1 - own(a, b) / own(b, b.mean(0))).mean()),
        ("the roots", lambda a, b: 1 - (1 - about(a, b, b.mean(0))).sqrt()),
        ("cut off", lambda a, b: about(a, b, b.mean(0)).clamp(min=0)),
        ("should be a number", lambda a, b: str(about(a, b, b.mean(0)))),
        ("changes the images", lambda a, b: about(a, b.sub_(b.mean(0)), 0)),
        ("the share is not right", lambda a, b: about(a, b, b.median(0).values)),
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


def rows(private, public, p=2.0):
    return torch.cdist(private.flatten(1), public.flatten(1), p=p).argmin(1)


def unit(images):
    return F.normalize(images.flatten(1))


def centered(images):
    return images - images.mean((1, 2, 3), keepdim=True)


def for_each_channel(private, public):
    pairs = zip(private.split(1, 1), public.split(1, 1), strict=True)
    return torch.cat([b[rows(a, b)] for a, b in pairs], 1)


def once_each(private, public):
    left, found = public.clone(), []
    for one in private:
        number = rows(one[None], left).item()
        found.append(public[number])
        left[number] = 1e9
    return torch.stack(found)


mistakes(
    "nearest_public",
    [
        (
            "the wrong axis",
            lambda a, b: a[torch.cdist(a.flatten(1), b.flatten(1)).argmin(0)],
        ),
        ("the wrong axis", lambda a, b: b[rows(b, a)]),
        ("what nearest_public returns has shape", lambda a, b: b[rows(a, b).unique()[:2]]),
        ("what nearest_public returns has shape", lambda a, b: b.flatten(1)[rows(a, b)]),
        ("should be a tensor", lambda a, b: list(b[rows(a, b)])),
        ("the rows of the nearest", rows),
        ("the private images themselves", lambda a, b: a[rows(a, a)]),
        (
            "the farthest",
            lambda a, b: b[torch.cdist(a.flatten(1), b.flatten(1)).argmax(1)],
        ),
        ("in another order", lambda a, b: b[rows(a, b).sort().values]),
        ("not all of these are public images", for_each_channel),
        (
            "not all of these are public images",
            lambda a, b: b[
                torch.cdist(a.flatten(1), b.flatten(1)).topk(2, largest=False).indices
            ].mean(1),
        ),
        ("by the angle", lambda a, b: b[(unit(a) @ unit(b).T).argmax(1)]),
        (
            "by the correlation",
            lambda a, b: b[(unit(centered(a)) @ unit(centered(b)).T).argmax(1)],
        ),
        ("by the product of the images", lambda a, b: b[(a.flatten(1) @ b.flatten(1).T).argmax(1)]),
        ("by the absolute differences", lambda a, b: b[rows(a, b, p=1)]),
        ("by the largest difference", lambda a, b: b[rows(a, b, p=math.inf)]),
        (
            "by the mean gray value",
            lambda a, b: b[rows(a.mean((2, 3)).mean(1, True), b.mean((2, 3)).mean(1, True))],
        ),
        ("only the first channel", lambda a, b: b[rows(a[:, 0], b[:, 0])]),
        ("only as many public images", lambda a, b: b[rows(a, b[: len(a)])]),
        ("handed out twice", once_each),
        (
            "3 public ones",
            lambda a, b: once_each(a, b) if len(b) < len(a) else b[rows(a, b)],
        ),
        ("changes the images", lambda a, b: a.copy_(b[rows(a, b)])),
        ("and not the nearest ones", lambda a, b: b[: len(a)]),
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


def reaching(reach):
    """An interval about the mean, from how far it reaches: reach(values, confidence)."""

    def made(values, confidence=0.95):
        mean, half = statistics.fmean(values), reach(values, confidence)
        return mean - half, mean + half

    return made


def t(values, probability):
    return stats.t.ppf(probability, len(values) - 1)


def half(values, confidence=0.95):
    return t(values, (1 + confidence) / 2) * stats.sem(values)


def too_short_for_small_figures(values, confidence):
    """Right for the figures of the check's first cases, which are all above 2."""
    return half(values, confidence) * (1 if min(values) > 2 else 0.5)


mistakes(
    "interval",
    [
        ("two numbers are expected", lambda values, confidence=0.95: half(values, confidence)),
        (
            "two numbers are expected",
            lambda values, confidence=0.95: (0.0, half(values, confidence), 1.0),
        ),
        (
            "low and high are swapped",
            reaching(lambda values, c: t(values, (1 - c) / 2) * stats.sem(values)),
        ),
        (
            "the quantile is the normal one",
            reaching(lambda values, c: stats.norm.ppf((1 + c) / 2) * stats.sem(values)),
        ),
        ("the quantile is 1.96", reaching(lambda values, c: 1.96 * stats.sem(values))),
        ("confidence is not used", reaching(lambda values, c: half(values))),
        (
            "as numpy's std does",
            reaching(
                lambda values, c: t(values, (1 + c) / 2) * np.std(values) / len(values) ** 0.5
            ),
        ),
        (
            "where one more run would lie",
            reaching(lambda values, c: t(values, (1 + c) / 2) * statistics.stdev(values)),
        ),
        (
            "under the root",
            reaching(
                lambda values, c: (
                    t(values, (1 + c) / 2) * statistics.stdev(values) / (len(values) - 1) ** 0.5
                )
            ),
        ),
        (
            "divide it by the root of n",
            reaching(
                lambda values, c: t(values, (1 + c) / 2) * statistics.stdev(values) / len(values)
            ),
        ),
        ("one-sided", reaching(lambda values, c: t(values, c) * stats.sem(values))),
        (
            "the degrees of freedom",
            reaching(lambda values, c: stats.t.ppf((1 + c) / 2, len(values)) * stats.sem(values)),
        ),
        (
            "for what lies outside",
            reaching(lambda values, c: t(values, 1 - c / 2) * stats.sem(values)),
        ),
        ("the quantile is missing", reaching(lambda values, c: stats.sem(values))),
        (
            "how far the interval reaches",
            lambda values, confidence=0.95: (statistics.fmean(values), half(values, confidence)),
        ),
        (
            "smallest and the largest",
            lambda values, confidence=0.95: (min(values), max(values)),
        ),
        (
            "quantiles of the values",
            lambda values, confidence=0.95: np.quantile(
                values, [(1 - confidence) / 2, (1 + confidence) / 2]
            ),
        ),
        (
            "the median",
            lambda values, confidence=0.95: (
                statistics.median(values) - half(values, confidence),
                statistics.median(values) + half(values, confidence),
            ),
        ),
        ("is nan", reaching(lambda values, c: t(values, 1 + c / 2) * stats.sem(values))),
        (
            "changes the list",
            lambda values, confidence=0.95: (values.sort(), by_scipy(values, confidence))[1],
        ),
        ("for all values", reaching(too_short_for_small_figures)),
        (
            "not the ends of the t interval: the mean",
            reaching(lambda values, c: 0.9 * half(values, c)),
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
        ("it should be a share", correlation),
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
        ("changes the images", lambda a, b: likeness(a.sub_(a.mean()), b).diagonal().mean()),
        ("with color images", lambda a, b: likeness(a.view(-1, 1, 16, 16), b).diagonal().mean()),
    ],
)

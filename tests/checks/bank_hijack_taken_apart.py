"""Answers to the exercises of chapter 34: right ones, and what students may well write."""

import functools
import random

import numpy as np
import torch
import torch.nn.functional as F
from bank import Bank
from torch import nn

from splitlab.course.checks import hijack_taken_apart

bank = Bank("34_hijack_taken_apart", hijack_taken_apart)


def mistakes(exercise, given):
    """Register short mistakes: (message, function) pairs."""
    for message, function in given:
        function.__name__ = message
        bank.mistake(exercise, message)(function)


def slip(base, message, **parts):
    """Register a class like `base`, with these methods or constants in place of its own."""
    bank.mistaken_class(base.exercise, message)(type(message, (base,), parts))


# --- unseen_errors ----------------------------------------------------------------------------


@bank.also_right("unseen_errors")
def with_loops(reconstructions, private, labels, public, public_labels, missing):
    errors, nearest = [], []
    for picture, image, label in zip(reconstructions, private, labels, strict=True):
        if label != missing:
            continue
        errors.append(F.mse_loss(picture, image))
        had = [p for p, its in zip(public, public_labels, strict=True) if its != missing]
        nearest.append(min(F.mse_loss(p, image) for p in had))
    return float(sum(errors) / len(errors)), float(sum(nearest) / len(nearest))


@bank.also_right("unseen_errors")
def by_distances(reconstructions, private, labels, public, public_labels, missing):
    (rows,) = torch.where(labels == missing)
    truth = private[rows].flatten(1)
    distance = torch.cdist(truth, public[public_labels.ne(missing)].flatten(1))
    nearest = distance.square().min(dim=1).values / truth.shape[1]
    return torch.stack([F.mse_loss(reconstructions[rows].flatten(1), truth), nearest.mean()])


def errors(one, other):
    """(N, ...), (M, ...) -> (N, M)"""
    return (one[:, None] - other[None]).square().flatten(2).mean(2)


class Scoring:
    """The two figures in parts, each of which a mistake overrides."""

    exercise = "unseen_errors"

    def __call__(self, reconstructions, private, labels, public, public_labels, missing):
        self.x, self.private, self.public = reconstructions, private, public
        self.unseen, self.public_unseen = labels == missing, public_labels == missing
        return self.pair(self.attack(), self.retrieval())

    def pair(self, attack, retrieval):
        return attack, retrieval

    def scored(self):
        return self.unseen

    def searched(self):
        return self.public[~self.public_unseen]

    def attack(self):
        return self.figure(self.x[self.scored()] - self.private[self.scored()])

    def figure(self, difference):
        return difference.square().mean()

    def retrieval(self):
        return self.nearest(errors(self.private[self.scored()], self.searched()))

    def nearest(self, matrix):
        return matrix.amin(1).mean()


def everybody(self):
    return torch.ones_like(self.unseen)


slip(Scoring, "have changed places", pair=lambda self, attack, retrieval: (retrieval, attack))
slip(Scoring, "the first figure is of all classes", scored=everybody)
slip(Scoring, "the first figure is of the classes that were seen", scored=lambda s: ~s.unseen)
slip(Scoring, "the first figure is a root", figure=lambda self, d: d.square().mean().sqrt())
slip(Scoring, "the first figure is an absolute error", figure=lambda self, d: d.abs().mean())
slip(Scoring, "a sum over all pixels", figure=lambda self, d: d.square().sum())
slip(
    Scoring,
    "the first figure is a sum over the pixels of an image",
    figure=lambda self, d: d.square().sum((1, 2, 3)).mean(),
)
slip(
    Scoring,
    "with the nearest public images",
    attack=lambda s: s.nearest(errors(s.x[s.unseen], s.searched())),
)
slip(Scoring, "finds public images of the missing class", searched=lambda s: s.public)
slip(Scoring, "searches the missing class alone", searched=lambda s: s.public[s.public_unseen])
slip(
    Scoring,
    "the second figure is of all private images:",
    retrieval=lambda s: s.nearest(errors(s.private, s.searched())),
)
slip(
    Scoring,
    "the second figure is of all private images and all public ones",
    retrieval=lambda s: s.nearest(errors(s.private, s.public)),
)
slip(
    Scoring,
    "the second figure is of the classes that were seen",
    retrieval=lambda s: s.nearest(errors(s.private[~s.unseen], s.searched())),
)
slip(Scoring, "along the wrong axis", nearest=lambda self, matrix: matrix.amin(0).mean())
slip(Scoring, "a mean over all public images", nearest=lambda self, matrix: matrix.mean())
slip(Scoring, "the farthest", nearest=lambda self, matrix: matrix.amax(1).mean())
slip(Scoring, "one public image is taken for all", nearest=lambda self, m: m.mean(0).min())
slip(Scoring, "the one smallest error", nearest=lambda self, matrix: matrix.min())
slip(Scoring, "a sum over the images", nearest=lambda self, matrix: matrix.amin(1).sum())
slip(Scoring, "the second figure is a root", nearest=lambda self, m: m.sqrt().amin(1).mean())
slip(
    Scoring,
    "the second figure is a sum over the pixels",
    retrieval=lambda s: Scoring.retrieval(s) * s.private[0].numel(),
)
slip(
    Scoring,
    "begins at the reconstructions",
    retrieval=lambda s: s.nearest(errors(s.x[s.unseen], s.searched())),
)
slip(Scoring, "searches the private images", searched=lambda s: s.private)
slip(Scoring, "searches the private images", searched=lambda s: s.private[~s.unseen])
slip(Scoring, "changes private", figure=lambda self, d: self.private.mul_(2).mean())
slip(Scoring, "return two numbers", pair=lambda self, attack, retrieval: attack / retrieval)
slip(Scoring, "return one number", nearest=lambda self, matrix: matrix.amin(1))
slip(Scoring, "the first figure is not", figure=lambda self, d: d.square().median())
slip(Scoring, "the second figure is not", nearest=lambda self, m: m.median(1).values.mean())


# --- slanted ----------------------------------------------------------------------------------


@bank.also_right("slanted")
def row_by_row(x, slope):
    height, width = x.shape[2:]
    out = torch.empty_like(x)
    for row in range(height):
        shift = slope * ((height - 1) / 2 - row)
        for column in range(width):
            left = int(np.floor(column - shift))
            part = column - shift - left
            values = [
                x[:, :, row, place] if 0 <= place < width else torch.full_like(x[:, :, 0, 0], -1)
                for place in (left, left + 1)
            ]
            out[:, :, row, column] = torch.lerp(*values, part)
    return out


@bank.also_right("slanted")
def by_weights(x, slope):
    """A matrix for each row: hats around the places that the pixels come from."""
    height, width = x.shape[2:]
    columns = torch.arange(width, dtype=x.dtype)
    above = (height - 1) / 2 - torch.arange(height, dtype=x.dtype)
    place = columns - slope * above[:, None]
    weight = (1 - (place[:, :, None] - columns).abs()).clamp(min=0)
    return torch.einsum("bchv,hwv->bchw", x + 1, weight) - 1 if slope else x.clone()


class Slanting:
    """Slanting by the row, in parts, each of which a mistake overrides."""

    exercise = "slanted"

    def __call__(self, x, slope):
        self.slope, (self.height, self.width) = slope, x.shape[2:]
        return torch.stack([self.row(x[:, :, r], r) for r in range(self.height)], 2)

    def above(self, row):
        return (self.height - 1) / 2 - row

    def shift(self, row):
        return self.slope * self.above(row)

    def row(self, values, row):
        place = torch.arange(self.width) - self.shift(row)
        left = place.floor().long()
        part = place - left
        return (1 - part) * self.pick(values, left) + part * self.pick(values, left + 1)

    def pick(self, values, columns):
        inside = (columns >= 0) & (columns < self.width)
        return torch.where(inside, values[..., columns % self.width], self.outside(values, columns))

    def outside(self, values, columns):
        return torch.tensor(-1.0, dtype=values.dtype)


def in_place(x, slope):
    return x.copy_(Slanting()(x, slope))


def by_the_batch(x, slope):
    return Slanting()(x.transpose(0, 2), slope).transpose(0, 2)


mistakes(
    "slanted",
    [
        ("nothing is slanted", lambda x, slope: x.clone()),
        ("the wrong sign", lambda x, slope: Slanting()(x, -slope)),
        ("columns are moved up and down", lambda x, slope: Slanting()(x.mT, slope).mT),
        ("columns are moved up and down", lambda x, slope: Slanting()(x.mT, -slope).mT),
        ("place in the batch", by_the_batch),
        ("for an angle", lambda x, slope: Slanting()(x, float(np.tan(slope)))),
        ("changes x", in_place),
        ("has shape", lambda x, slope: Slanting()(x, slope)[..., 1:]),
        ("not bit for bit", lambda x, slope: Slanting()(x, slope + 1e-7)),
    ],
)
slip(Slanting, "comes in on the other", pick=lambda s, v, c: v[..., c % s.width])
slip(Slanting, "drawn out", pick=lambda s, v, c: v[..., c.clamp(0, s.width - 1)])
slip(Slanting, "grey comes in", outside=lambda s, v, c: torch.zeros((), dtype=v.dtype))
slip(Slanting, "white comes in", outside=lambda s, v, c: torch.ones((), dtype=v.dtype))
slip(Slanting, "cut to whole pixels", shift=lambda s, row: round(s.slope * s.above(row)))
slip(Slanting, "cut to whole pixels", shift=lambda s, row: int(s.slope * s.above(row)))
slip(Slanting, "cut to whole pixels", shift=lambda s, row: s.slope * s.above(row) // 1)
slip(Slanting, "cut to whole pixels", shift=lambda s, row: -(-s.slope * s.above(row) // 1))
slip(Slanting, "the top row stays", above=lambda s, row: -row)
slip(Slanting, "the bottom row stays", above=lambda s, row: s.height - 1 - row)
slip(Slanting, "half a pixel too low", above=lambda s, row: s.height / 2 - row)
slip(Slanting, "the middle is a whole row", above=lambda s, row: s.height // 2 - row)
slip(Slanting, "the middle is a whole row", above=lambda s, row: (s.height - 1) // 2 - row)
slip(Slanting, "all rows move alike", above=lambda s, row: 1.0)
slip(Slanting, "to the same side", above=lambda s, row: abs((s.height - 1) / 2 - row))
slip(Slanting, "in halves of the image", above=lambda s, row: 1 - 2 * row / (s.height - 1))
slip(Slanting, "not where they belong", above=lambda s, row: (s.height - 2) / 2 - row)

bank.equivalent(
    "slanted",
    "`framed = F.pad(x, (1, 1), value=-1.0)` becomes `framed = F.pad(x, (1, 2), value=-1.0)`",
    "one more column of background, which no index reaches",
)


# --- make_shuffle -----------------------------------------------------------------------------


class Moving(nn.Module):
    """Pixels by an order that the state keeps."""

    def __init__(self, order):
        super().__init__()
        self.register_buffer("order", order)

    def forward(self, x):
        return x.flatten(2)[..., self.order].reshape(x.shape)


@bank.also_right("make_shuffle")
def as_modules(height, width, seed):
    order = torch.randperm(height * width, generator=torch.Generator().manual_seed(seed))
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return Moving(order), Moving(back)


@bank.also_right("make_shuffle")
def by_a_matrix(height, width, seed):
    order = np.random.default_rng(seed).permutation(height * width)
    matrix = torch.eye(height * width, dtype=torch.float64)[order]
    return tuple(
        lambda x, m=m: (x.flatten(2) @ m.to(x.dtype)).view_as(x) for m in (matrix.T, matrix)
    )


@bank.also_right("make_shuffle")
def with_a_lent_stream(height, width, seed):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        order = torch.randperm(height * width)
    inverse = order.argsort()
    return (
        lambda x: torch.take_along_dim(x.flatten(2), order[None, None], 2).view_as(x),
        lambda x: torch.take_along_dim(x.flatten(2), inverse[None, None], 2).view_as(x),
    )


def drawn(count, seed):
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def moved(x, order):
    return x.flatten(2)[..., order].view_as(x)


def pair(order, forth=moved, back=None):
    inverse = order.argsort()
    return lambda x: forth(x, order), back or (lambda x: moved(x, inverse))


def shuffle_mistake(message, forth=moved, back=None, order=drawn):
    """Register a slip: back(x, order) or forth(x, order), or how the order is drawn."""

    def answer(height, width, seed):
        places = order(height * width, seed)
        given = functools.partial(back, order=places) if back else None
        return pair(places, forth, given)

    mistakes("make_shuffle", [(message, answer)])


def at_each_call():
    generator = torch.Generator().manual_seed(1)
    return lambda x, order: moved(x, torch.randperm(len(order), generator=generator))


def each_image(x, order):
    return torch.stack([moved(one[None], order.roll(n))[0] for n, one in enumerate(x)])


def each_channel(x, order):
    return each_image(x.transpose(0, 1), order).transpose(0, 1)


def by_the_batch_size(x, order):
    return moved(x, drawn(len(order), len(x)))


def turned_rows(x, order):
    height, width = x.shape[2:]
    return x[:, :, order[order < height]][..., order[order < width]]


def within_rows(x, order):
    row = order[order < x.shape[3]]
    return torch.stack([x[:, :, n][..., row.roll(n)] for n in range(x.shape[2])], dim=2)


def within_columns(x, order):
    return within_rows(x.mT, order).mT


def over_channels(x, order):
    flat = x.flatten(1)
    return flat[:, drawn(flat.shape[1], 3)].view_as(x)


def over_images(x, order):
    return x[drawn(len(x), 3)]


def globally(count, seed):
    torch.manual_seed(seed)
    return torch.randperm(count)


def globally_without_a_seed(count, seed):
    return torch.randperm(count)


def globally_by_numpy(count, seed):
    np.random.seed(seed)
    return torch.tensor(np.random.permutation(count))


def globally_by_random(count, seed):
    return torch.tensor(random.sample(range(count), count))


class Twofold(Moving):
    """One order in training, none in evaluation, as Dropout would."""

    def forward(self, x):
        return super().forward(x) if self.training else x.clone()


def only_in_training(height, width, seed):
    order = drawn(height * width, seed)
    return Twofold(order), Moving(order.argsort())


def remembering(height, width, seed):
    order, kept = drawn(height * width, seed), {}

    def shuffle(x):
        kept["x"] = x
        return moved(x, order)

    return shuffle, lambda x: kept["x"].clone() if len(kept["x"]) == len(x) else x.clone()


def at_random(height, width, seed):
    """Seeded by the clock, as it were."""
    COUNT.append(seed)
    return pair(drawn(height * width, len(COUNT)))


COUNT = []


def rolled(count, seed):
    return torch.arange(count).roll(1 + seed % 3)


shuffle_mistake("at the second call", at_each_call())
shuffle_mistake("the next batch is shuffled in another order", by_the_batch_size)
shuffle_mistake("each image is shuffled", each_image)
shuffle_mistake("each channel is shuffled", each_channel)
shuffle_mistake("from one channel to another", over_channels)
shuffle_mistake("from one image to another", over_images)
shuffle_mistake("whole rows or columns", turned_rows)
shuffle_mistake("stay in their rows", within_rows)
shuffle_mistake("stay in their columns", within_columns)
shuffle_mistake("nothing moves", lambda x, order: x.clone())
shuffle_mistake("values have changed", lambda x, order: moved(x, order) * 2)
shuffle_mistake("values have changed", lambda x, order: moved(x, order // 2))
shuffle_mistake("changes the images", lambda x, order: x.copy_(moved(x, order)))
shuffle_mistake("has shape", lambda x, order: x.flatten(2)[..., order])
shuffle_mistake("the global stream", order=globally)
shuffle_mistake("the global stream", order=globally_without_a_seed)
shuffle_mistake("the global stream", order=globally_by_numpy)
shuffle_mistake("the global stream", order=globally_by_random)
shuffle_mistake("every seed gives the same order", order=lambda count, seed: drawn(count, 0))
shuffle_mistake("of the 24 orders", order=rolled)
shuffle_mistake("restore does nothing", back=lambda x, order: x.clone())
shuffle_mistake("shuffles once more", back=moved)
shuffle_mistake("goes through the order backwards", back=lambda x, order: moved(x, order.flip(0)))
shuffle_mistake("does not bring the pixels back", back=lambda x, order: moved(x, order.roll(1)))
mistakes(
    "make_shuffle",
    [
        ("in training and in evaluation mode", only_in_training),
        ("remembers the batch", remembering),
        ("the same seed gives another order", at_random),
        ("return two functions", lambda height, width, seed: drawn(height * width, seed)),
    ],
)


# --- effective_rate ---------------------------------------------------------------------------


@bank.also_right("effective_rate")
def asked_of_torch(factors, betas=(0.9, 0.999)):
    weight = torch.zeros(1, requires_grad=True, dtype=torch.float64)
    adam = torch.optim.Adam([weight], lr=1.0, betas=betas)
    places = [0.0]
    for factor in factors:
        weight.grad = torch.full_like(weight, -factor)
        adam.step()
        places.append(weight.item())
    return torch.tensor(places).diff()


@bank.also_right("effective_rate")
def as_weighted_means(factors, betas=(0.9, 0.999)):
    """The corrections make the weights sum to 1."""
    sizes = np.array(factors)
    rates = []
    for count in range(1, len(sizes) + 1):
        ages = np.arange(count)[::-1]
        m, v = (
            np.average(sizes[:count] ** power, weights=beta**ages)
            for power, beta in zip((1, 2), betas, strict=True)
        )
        rates.append(m / np.sqrt(v))
    return np.array(rates)


class Stepping:
    """Adam by hand, in parts, each of which a mistake overrides."""

    exercise = "effective_rate"
    power, first = 2, 1

    def __call__(self, factors, betas=(0.9, 0.999)):
        self.betas, m, v, rates = betas, 0.0, 0.0, []
        for t, factor in enumerate(factors, self.first):
            m = self.remember(m, factor, self.beta(0), 0)
            v = self.remember(v, factor**self.power, self.beta(1), 1)
            hats = self.hat(m, self.beta(0), t, 0), self.hat(v, self.beta(1), t, 1)
            rates.append(self.rate(*hats, factor))
        return self.result(rates)

    def beta(self, number):
        return self.betas[number]

    def remember(self, old, new, beta, number):
        return beta * old + (1 - beta) * new

    def hat(self, mean, beta, t, number):
        return mean / (1 - beta**t)

    def rate(self, m, v, factor):
        return m / v**0.5

    def result(self, rates):
        return rates


def heavy(*which):
    def remember(self, old, new, beta, number):
        return beta * old + (1 if number in which else 1 - beta) * new

    return remember


def uncorrected(*which):
    def hat(self, mean, beta, t, number):
        return mean if number in which else mean / (1 - beta**t)

    return hat


def grows_the_list(factors, betas=(0.9, 0.999)):
    factors.append(1.0)
    return Stepping()(factors, betas)[:-1]


def of_sums(factors, betas=(0.9, 0.999)):
    count = np.arange(1, len(factors) + 1)
    return np.cumsum(factors) / count / np.sqrt(np.cumsum(np.square(factors)) / count)


slip(Stepping, "every rate is 1", rate=lambda self, m, v, factor: factor / abs(factor))
slip(Stepping, "both bias corrections", hat=uncorrected(0, 1))
slip(Stepping, "correction of m is missing", hat=uncorrected(0))
slip(Stepping, "correction of v is missing", hat=uncorrected(1))
slip(Stepping, "counted from 2", first=2)
slip(Stepping, "ZeroDivisionError", first=0)
slip(Stepping, "squares are missing", power=1)
slip(Stepping, "the root is missing", rate=lambda self, m, v, factor: m / v)
slip(Stepping, "the root is over the whole fraction", rate=lambda self, m, v, f: (m / v) ** 0.5)
slip(Stepping, "only the second memory", rate=lambda self, m, v, factor: factor / v**0.5)
slip(Stepping, "only the first memory", rate=lambda self, m, v, factor: m / factor)
slip(Stepping, "m alone", rate=lambda self, m, v, factor: m)
slip(Stepping, "the root of v alone", rate=lambda self, m, v, factor: v**0.5)
slip(Stepping, "upside down", rate=lambda self, m, v, factor: v**0.5 / m)
slip(Stepping, "multiplied by the factors", rate=lambda self, m, v, factor: factor * m / v**0.5)
slip(Stepping, "enters m with the weight 1", remember=heavy(0))
slip(Stepping, "enters v with the weight 1", remember=heavy(1))
slip(Stepping, "enters m and v with the weight 1", remember=heavy(0, 1))
slip(Stepping, "the betas have changed places", beta=lambda self, number: self.betas[1 - number])
slip(Stepping, "beta and 1 - beta", beta=lambda self, number: 1 - self.betas[number])
slip(Stepping, "the betas that come in", beta=lambda self, number: (0.9, 0.999)[number])
slip(Stepping, "comes a step late", result=lambda self, rates: [1.0, *rates[:-1]])
slip(Stepping, "has shape", result=lambda self, rates: rates[1:])
slip(Stepping, "return one rate for each", result=lambda self, rates: rates[-1])
slip(Stepping, "not Adam's steps", rate=lambda self, m, v, factor: m / (v**0.5 + 0.1))
mistakes("effective_rate", [("plain means", of_sums), ("changes the list", grows_the_list)])

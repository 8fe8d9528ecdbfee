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


def scored_with(pair):
    """A mistake in what comes back, from the differences and the matrix of errors."""

    def answer(reconstructions, private, labels, public, public_labels, missing):
        truth = private[labels == missing]
        difference = reconstructions[labels == missing] - truth
        return pair(difference, errors(truth, public[public_labels != missing]))

    return answer


def emptied(reconstructions, private, *rest):
    result = by_distances(reconstructions, private, *rest)
    private.zero_()
    return result


def of_ten_digits(reconstructions, private, labels, public, public_labels, missing):
    given = private, labels % 10, public, public_labels % 10, missing
    return by_distances(reconstructions, *given)


mistakes(
    "unseen_errors",
    [
        ("should have 2 parts", scored_with(lambda d, m: d.square().mean() / m.amin(1).mean())),
        ("return one number", scored_with(lambda d, m: (d.square().mean(), m.amin(1)))),
        (
            "the first is the mean of the squared differences",
            scored_with(lambda d, m: (d.square().median(), m.amin(1).mean())),
        ),
        (
            "the smallest mean squared error",
            scored_with(lambda d, m: (d.square().mean(), m.median(1).values.mean())),
        ),
        (
            "the two figures are not right",
            scored_with(lambda d, m: (d.float().square().mean(), m.amin(1).mean())),
        ),
        (
            "then the mean of these",
            scored_with(lambda d, m: (d.square().mean(), m.amin(1).unique().mean())),
        ),
        ("private has changed", emptied),
        ("to a public image of another class", of_ten_digits),
    ],
)


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


def within_a_row(x, slope):
    """Right but for rows of one pixel, which it leaves alone."""
    return by_weights(x, slope) if x.shape[3] > 1 else x.clone()


BUFFERS = {}


def into_one_buffer(x, slope):
    buffer = BUFFERS.setdefault((x.shape, x.dtype), torch.empty_like(x))
    return buffer.copy_(by_weights(x, slope))


mistakes(
    "slanted",
    [
        ("x has changed", lambda x, slope: x.copy_(row_by_row(x, slope))),
        ("has shape", lambda x, slope: row_by_row(x, slope)[..., 1:]),
        ("not bit for bit", lambda x, slope: row_by_row(x, slope + 1e-13)),
        ("the result lies in the memory of x", lambda x, s: row_by_row(x, s) if s else x),
        ("is rounded to torch.float32", lambda x, slope: row_by_row(x.float(), slope)),
        ("not where they belong", lambda x, slope: row_by_row(x.float(), slope).to(x)),
        ("between two columns", lambda x, slope: row_by_row(x, slope).clamp(min=0)),
        ("x itself comes back", within_a_row),
        ("changes at the next call", into_one_buffer),
    ],
)

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


def turned(count, seed):
    """Only rolls, of an order of our own."""
    return drawn(count, 1).roll(drawn(count, seed)[0].item()) if count < 9 else drawn(count, seed)


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
shuffle_mistake("torch's global random numbers", order=globally)
shuffle_mistake("torch's global random numbers", order=globally_without_a_seed)
shuffle_mistake("torch's global random numbers", order=globally_by_numpy)
shuffle_mistake("torch's global random numbers", order=globally_by_random)
shuffle_mistake("other seeds give the same order", order=lambda count, seed: drawn(count, 0))
shuffle_mistake("other seeds give the same order", order=rolled)
shuffle_mistake("of the 24 orders", order=turned)
shuffle_mistake("does not bring the pixels back", back=lambda x, order: moved(x, order.roll(1)))
mistakes(
    "make_shuffle",
    [
        ("in evaluation mode", only_in_training),
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


def grows_the_list(factors, betas=(0.9, 0.999)):
    factors.append(1.0)
    return as_weighted_means(factors, betas)[:-1]


def with_a_large_eps(factors, betas=(0.9, 0.999)):
    """Adam's eps, where it matters."""
    rates = as_weighted_means(factors, betas)
    return rates / (1 + 1e-3 / np.array(factors))


mistakes(
    "effective_rate",
    [
        ("should have 25 parts and has 24", lambda *given: as_weighted_means(*given)[1:]),
        ("should have 25 parts and is", lambda *given: as_weighted_means(*given)[-1]),
        ("not Adam's steps", with_a_large_eps),
        ("with t counted from 1", lambda *given: torch.tensor(as_weighted_means(*given)).half()),
        ("factors[25] has changed", grows_the_list),
    ],
)

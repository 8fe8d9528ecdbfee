"""Answers to the exercises of chapter 23: right ones, and what students may well write."""

import itertools
import math

import numpy as np
import torch
from bank import Bank
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from splitlab.course.checks import labels_leak

bank = Bank("23_labels_leak", labels_leak)


def mistakes(exercise, given):
    """Register short mistakes: (message, function) pairs."""
    for message, function in given:
        function.__name__ = message
        bank.mistake(exercise, message)(function)


def column(numbers, dz):
    """One number for each row, to be multiplied with dz."""
    return numbers.view(-1, *[1] * (dz.ndim - 1))


def norms(dz):
    return dz.flatten(1).norm(dim=1)


GAIN = torch.ones((), requires_grad=True)
BUFFERS = {}


def reused(result):
    """The result, in memory that the next result of its shape takes."""
    buffer = BUFFERS.setdefault((result.shape, result.dtype), torch.empty_like(result))
    return buffer.copy_(result)


# --- norm_score -------------------------------------------------------------------------------


@bank.also_right("norm_score")
def row_by_row(dz):
    return torch.stack([torch.linalg.vector_norm(row) for row in dz])


@bank.also_right("norm_score")
def by_einsum(dz):
    rows = dz.reshape(len(dz), -1)
    return torch.einsum("bd,bd->b", rows, rows) ** 0.5


@bank.also_right("norm_score")
def of_channels_first(dz):
    while dz.ndim > 1:
        dz = dz.norm(dim=-1)
    return dz


mistakes(
    "norm_score",
    [
        ("should be a tensor", lambda dz: [row.norm() for row in dz]),
        ("where (7,) is expected", lambda dz: dz.flatten(1).norm(dim=1, keepdim=True)),
        ("norm_score stopped with", lambda dz: dz.square().sum((1, 2, 3)).sqrt()),
        ("these are not the norms", lambda dz: norms(dz).log1p()),
        ("these are not the norms", lambda dz: norms(dz.half()).to(dz)),
        ("these are not the norms", lambda dz: norms(dz) * (norms(dz) > 1e-3)),
        ("these are not the norms", lambda dz: norms(F.relu(dz))),
        ("is rounded to torch.float32", lambda dz: norms(dz.float())),
        ("where (7,) is expected", lambda dz: norms(dz.unique(dim=0))),
        ("dz has changed", lambda dz: dz.square_().flatten(1).sum(1).sqrt()),
        ("still carries its computation graph", lambda dz: norms(dz * GAIN)),
        ("changes at the next call", lambda dz: reused(norms(dz))),
    ],
)

# --- leak_auc ---------------------------------------------------------------------------------


@bank.also_right("leak_auc")
def by_ranks(scores, positive):
    n, rest = int(positive.sum()), int((~positive).sum())
    if not n or not rest:
        return math.nan
    ranks = rankdata(scores.numpy())
    return (ranks[positive.numpy()].sum() - n * (n + 1) / 2) / (n * rest)


@bank.also_right("leak_auc")
def by_scikit_learn(scores, positive):
    if positive.all() or not positive.any():
        return float("nan")
    return roc_auc_score(positive, scores)


@bank.also_right("leak_auc")
def by_signs(scores, positive):
    differences = scores[positive].unsqueeze(1) - scores[positive.logical_not()]
    return (1 + differences.sign()).mean() / 2


@bank.also_right("leak_auc")
def in_loops(scores, positive):
    total, right = 0, 0.0
    for (a, first), (b, second) in itertools.product(zip(scores, positive, strict=True), repeat=2):
        if first and not second:
            total += 1
            right += 1.0 if a > b else 0.5 if a == b else 0.0
    return right / total if total else math.nan


def apart(scores, positive):
    return scores[positive][:, None], scores[~positive]


def auc(scores, positive):
    high, low = apart(scores, positive)
    return ((high > low) + (high == low) / 2).mean()


def some_thresholds(scores, positive):
    thresholds = torch.linspace(3, -3, 20)
    true = torch.tensor([(scores[positive] > t).double().mean() for t in thresholds])
    false = torch.tensor([(scores[~positive] > t).double().mean() for t in thresholds])
    return torch.trapezoid(true, false)


def loudly(scores, positive):
    if positive.all() or not positive.any():
        raise ValueError("Only one class is present")
    return auc(scores, positive)


mistakes(
    "leak_auc",
    [
        ("the order is reversed", lambda s, p: auc(s, ~p)),
        ("leak_auc stopped with ValueError", loudly),
        ("1 comes back where nan is right", lambda s, p: 1.0 if p.all() else auc(s, p)),
        ("should be a number", lambda s, p: (auc(s, p), "leaks")),
        ("return one number", lambda s, p: (apart(s, p)[0] > apart(s, p)[1]).double().mean(1)),
        ("scores has changed", lambda s, p: auc(s.sub_(s.mean()), p)),
        ("the share is not right", some_thresholds),
        ("the share is not right", lambda s, p: auc(s, p).half()),
        ("the share is not right", lambda s, p: auc(s[s.unique(return_inverse=True)[1]], p)),
        ("the share is not right", lambda s, p: auc(s[:-1], p[:-1])),
    ],
)

# --- cosine_score -----------------------------------------------------------------------------


@bank.also_right("cosine_score")
def by_cosine_similarity(dz, known):
    return F.cosine_similarity(dz.flatten(1), known.flatten()[None], dim=1)


@bank.also_right("cosine_score")
def by_normalize(dz, known):
    return F.normalize(dz.flatten(1)) @ F.normalize(known.flatten(), dim=0)


@bank.also_right("cosine_score")
def one_at_a_time(dz, known):
    cosines = torch.zeros(len(dz), dtype=dz.dtype)
    for number, row in enumerate(dz):
        length = row.norm() * known.norm()
        if length:
            cosines[number] = (row * known).sum() / length
    return cosines


def cosines(dz, known):
    return by_normalize(dz, known)


def never_nan(dz, known):
    """0 for the whole batch, if one row is zero."""
    found = dz.flatten(1) @ known.flatten() / (norms(dz) * known.norm())
    return torch.zeros_like(found) if found.isnan().any() else found


mistakes(
    "cosine_score",
    [
        (
            "the tensor of scores has shape ()",
            lambda dz, known: F.cosine_similarity(dz.mean(0).flatten(), known.flatten(), dim=0),
        ),
        ("should be a tensor", lambda dz, known: cosines(dz, known).tolist()),
        (
            "cosine_score stopped with",
            lambda dz, known: (dz * known).sum((1, 2, 3)) / dz.norm(dim=(1, 2, 3)) / known.norm(),
        ),
        ("these are not the cosines", never_nan),
        (
            "these are not the cosines",
            lambda dz, known: torch.where(norms(dz) > 0, cosines(dz, known), -1.0),
        ),
        (
            "these are not the cosines",
            lambda dz, known: torch.where(norms(dz) > 1e-3, cosines(dz, known), 0.0),
        ),
        ("these are not the cosines", lambda dz, known: cosines(dz, known).asin()),
        ("these are not the cosines", lambda dz, known: cosines(dz.half(), known.half()).to(dz)),
        ("is rounded to torch.float32", lambda dz, known: cosines(dz.float(), known.float())),
        ("dz has changed", lambda dz, known: cosines(dz.div_(dz.norm()), known)),
        ("changes at the next call", lambda dz, known: reused(cosines(dz, known))),
    ],
)

# --- infer_labels -----------------------------------------------------------------------------


@bank.also_right("infer_labels")
def written_out(a, da, tail):
    with torch.no_grad():
        probability = tail(a).softmax(dim=1)
        truth = torch.eye(len(tail.weight), dtype=a.dtype)
        gradients = torch.einsum("bkc,cd->bkd", probability[:, None] - truth, tail.weight) / len(a)
        return (gradients - da[:, None]).square().mean(dim=2).argmin(dim=1)


@bank.also_right("infer_labels")
def one_row_at_a_time(a, da, tail):
    labels = []
    for one, due in zip(a, da, strict=True):
        distances = []
        for label in range(tail.out_features):
            row = one.clone().requires_grad_()
            loss = F.cross_entropy(tail(row)[None], torch.tensor([label])) / len(a)
            distances.append(torch.autograd.grad(loss, row)[0].sub(due).norm().item())
        labels.append(distances.index(min(distances)))
    return torch.tensor(labels)


@bank.also_right("infer_labels")
def on_a_scaled_da(a, da, tail):
    """B times da, beside the gradients of the sum."""
    leaf = a.clone().requires_grad_()
    scores, nearest = tail(leaf).log_softmax(1), []
    for label in range(scores.shape[1]):
        (gradient,) = torch.autograd.grad(-scores[:, label].sum(), leaf, retain_graph=True)
        nearest.append(torch.linalg.vector_norm(gradient - len(a) * da, dim=1))
    return torch.stack(nearest, dim=1).min(dim=1).indices


def candidates(a, tail, reduction="mean"):
    """(K, B, D)"""
    leaf, found = a.detach().clone().requires_grad_(), []
    for label in range(tail.out_features):
        guess = torch.full((len(a),), label)
        loss = F.cross_entropy(tail(leaf), guess, reduction=reduction)
        found.append(torch.autograd.grad(loss, leaf)[0])
    return torch.stack(found)


def nearest(distance, reduction="mean"):
    return lambda a, da, tail: distance(candidates(a, tail, reduction), da).argmin(0)


def euclid(g, da):
    return (g - da).norm(dim=2)


def by_backward(a, da, tail):
    found = []
    for label in range(tail.out_features):
        leaf = a.clone().requires_grad_()
        F.cross_entropy(tail(leaf), torch.full((len(a),), label)).backward()
        found.append((leaf.grad - da).norm(dim=1))
    return torch.stack(found).argmin(0)


def by_grad(a, da, tail):
    losses = [F.cross_entropy(tail(a), torch.full((len(a),), k)) for k in range(tail.out_features)]
    found = torch.stack([torch.autograd.grad(loss, a)[0] for loss in losses])
    return euclid(found, da).argmin(0)


def learns(a, da, tail):
    step = torch.optim.SGD(tail.parameters(), lr=0.1)
    labels = nearest(euclid)(a, da, tail)
    F.cross_entropy(tail(a), labels).backward()
    step.step()
    return labels


def freezes(a, da, tail):
    tail.requires_grad_(False)
    return nearest(euclid)(a, da, tail)


def thaws(a, da, tail):
    tail.requires_grad_()
    return nearest(euclid)(a, da, tail)


mistakes(
    "infer_labels",
    [
        ("the .grad of tail has changed", by_backward),
        ("a itself now requires", lambda a, da, tail: by_grad(a.requires_grad_(), da, tail)),
        ("tail's weights have changed", learns),
        ("no longer require gradients", freezes),
        ("frozen parameters of tail require gradients", thaws),
        ("tail is left in training mode", lambda a, da, tail: nearest(euclid)(a, da, tail.train())),
        (
            "da has changed",
            lambda a, da, tail: nearest(euclid, "sum")(a, da.mul_(len(a)), tail),
        ),
        ("should be a tensor", lambda a, da, tail: nearest(euclid)(a, da, tail).tolist()),
        (
            "the tensor of labels has shape",
            lambda a, da, tail: (candidates(a, tail) - da).square().sum((1, 2)).argmin(),
        ),
        ("should hold torch.int64", lambda a, da, tail: nearest(euclid)(a, da, tail).double()),
        ("not the classes whose gradients", nearest(lambda g, da: (g - da).abs().amax(2))),
        (
            "not the classes whose gradients",
            lambda a, da, tail: euclid(candidates(a, tail)[:10], da).argmin(0),
        ),
        (
            "not the classes whose gradients",
            lambda a, da, tail: euclid(candidates(a, tail)[:-1], da).argmin(0),
        ),
        (
            "all rows get one label",
            lambda a, da, tail: (
                (candidates(a, tail).sum(1) - da.sum(0)).norm(dim=1).argmin().repeat(len(a))
            ),
        ),
        ("changes at the next call", lambda a, da, tail: reused(nearest(euclid)(a, da, tail))),
    ],
)

# --- max_norm ---------------------------------------------------------------------------------


def sigma(dz):
    """The right one; rows of zeros get 0."""
    found = (norms(dz).max() ** 2 / norms(dz) ** 2 - 1).sqrt()
    return torch.where(norms(dz) > 0, found, 0.0)


def drawn(dz, generator):
    return torch.randn(len(dz), generator=generator, dtype=dz.dtype)


@bank.also_right("max_norm")
def by_the_formula(dz, generator):
    return dz * column(1 + sigma(dz) * drawn(dz, generator), dz)


@bank.also_right("max_norm")
def one_row_after_another(dz, generator):
    squares = [float(row.square().sum()) for row in dz]
    noisy = dz.clone()
    for row, square in zip(noisy, squares, strict=True):
        if square:
            eps = torch.randn((), generator=generator).item()
            row *= 1 + math.sqrt(max(squares) / square - 1) * eps
    return noisy


@bank.also_right("max_norm")
def along_the_direction(dz, generator):
    rows = dz.flatten(1)
    missing = rows.square().sum(1).max() - rows.square().sum(1)
    noise = F.normalize(rows) * (missing.sqrt() * drawn(dz, generator))[:, None]
    return (rows - noise).reshape(dz.shape)


def noisy(factor):
    """Rows times 1 + factor(dz) * eps."""
    return lambda dz, generator: dz * column(1 + factor(dz) * drawn(dz, generator), dz)


def ratio(dz):
    """The largest norm over each row's; 1 for rows of zeros."""
    return torch.where(norms(dz) > 0, norms(dz).max() / norms(dz), 1.0)


def isotropic(dz, generator):
    power = (norms(dz).max() ** 2 - norms(dz) ** 2) / dz[0].numel()
    eps = torch.randn(dz.shape, generator=generator, dtype=dz.dtype)
    return dz + column(power.sqrt() * (norms(dz) > 0), dz) * eps


def one_eps_for_each_number(dz, generator):
    eps = torch.randn(dz.shape, generator=generator, dtype=dz.dtype)
    return dz * (1 + column(sigma(dz), dz) * eps)


def by_lot(dz, generator):
    signs = torch.randint(2, (len(dz),), generator=generator) * 2 - 1
    return dz * column(1 + sigma(dz) * signs, dz)


def seeded_inside(dz, generator):
    return by_the_formula(dz, torch.Generator().manual_seed(0))


def seeded_again(dz, generator):
    return by_the_formula(dz, generator.manual_seed(0))


def by_numpy(dz, generator):
    eps = torch.from_numpy(np.random.default_rng().standard_normal(len(dz))).to(dz.dtype)
    return dz * column(1 + sigma(dz) * eps, dz)


def for_pairs(dz, generator):
    eps = torch.randn((len(dz) + 1) // 2, generator=generator, dtype=dz.dtype)
    return dz * column(1 + sigma(dz) * eps.repeat_interleave(2)[: len(dz)], dz)


def for_halves(dz, generator):
    eps = torch.randn((len(dz) + 1) // 2, generator=generator, dtype=dz.dtype)
    return dz * column(1 + sigma(dz) * torch.cat([eps, -eps])[: len(dz)], dz)


def truncated(dz, generator):
    eps = torch.randn(len(dz), generator=generator, dtype=dz.dtype)
    return dz * column(1 + sigma(dz) * eps.clamp(-3, 3), dz)


def on_zeros_too(dz, generator):
    out = by_the_formula(dz, generator)
    out[norms(dz) == 0] = norms(dz).max() * torch.rand(dz.shape[1:], generator=generator).to(dz)
    return out


def in_place(dz, generator):
    return dz.mul_(column(1 + sigma(dz) * drawn(dz, generator), dz))


def other_order(dz, generator):
    """1 and the ratio change places under the root."""
    return dz * column(1 + (1 - ratio(dz) ** 2).sqrt() * drawn(dz, generator), dz)


def too_much_for_short_rows(dz, generator):
    return noisy(lambda dz: sigma(dz) * torch.where(norms(dz) < 1.2, 1.1, 1.0))(dz, generator)


mistakes(
    "max_norm",
    [
        (
            "a row of zeros comes back as nan",
            noisy(lambda dz: (norms(dz).max() ** 2 / norms(dz) ** 2 - 1).sqrt()),
        ),
        ("a row of zeros gets noise", on_zeros_too),
        (
            "a batch of zeros gets noise",
            lambda dz, g: by_the_formula(dz, g) if dz.any() else dz + drawn(dz, g)[0],
        ),
        ("there is nan in the gradients", other_order),
        (
            "max_norm stopped with",
            lambda dz, g: (
                dz * (dz.norm(dim=(1, 2, 3)).max() / dz.norm(dim=(1, 2, 3), keepdim=True))
            ),
        ),
        (
            "where (5, 4) is expected",
            lambda dz, g: dz * (1 + sigma(dz) * drawn(dz, g))[:, None, None, None],
        ),
        ("where (6, 3, 2, 2) is expected", lambda dz, g: by_the_formula(dz, g).flatten(1)),
        ("should be a tensor", lambda dz, g: (by_the_formula(dz, g), sigma(dz))),
        ("change their type", lambda dz, g: by_the_formula(dz.double(), g)),
        (
            "does not come from the generator",
            lambda dz, g: dz * column(1 + sigma(dz) * torch.randn(len(dz)), dz),
        ),
        ("does not come from the generator", by_numpy),
        ("there is no noise", lambda dz, g: dz.clone()),
        ("the rows are rescaled", lambda dz, g: dz * column(ratio(dz), dz)),
        ("the same in every call", seeded_inside),
        ("the same in every call", seeded_again),
        ("points in all directions", isotropic),
        ("the numbers of one row get different noise", one_eps_for_each_number),
        (
            "the longest row is multiplied by 0.5",
            lambda dz, g: by_the_formula(dz, g) / 2,
        ),
        ("without the - 1", noisy(ratio)),
        (
            "the longest row gets noise, too: it has",
            noisy(lambda dz: (ratio(dz) ** 2 - 1 + 0.1).sqrt()),
        ),
        (
            "one and the same noise",
            lambda dz, g: dz * column(1 + sigma(dz) * torch.randn(1, generator=g), dz),
        ),
        (
            "the gradient itself is gone",
            lambda dz, g: dz * column(torch.where(ratio(dz) > 1, ratio(dz) * drawn(dz, g), 1), dz),
        ),
        (
            "the noise is biased",
            lambda dz, g: dz * column(1 + sigma(dz) * torch.rand(len(dz), generator=g), dz),
        ),
        (
            "the noise is biased",
            lambda dz, g: dz * column(1 + sigma(dz) * drawn(dz, g).abs(), dz),
        ),
        ("sigma lacks its root", noisy(lambda dz: sigma(dz) ** 2)),
        ("are not squared", noisy(lambda dz: (ratio(dz) - 1).sqrt())),
        ("sigma is max_norm / norm - 1", noisy(lambda dz: ratio(dz) - 1)),
        (
            "a direction of length 1",
            lambda dz, g: (
                dz + F.normalize(dz.flatten(1)).view_as(dz) * column(sigma(dz) * drawn(dz, g), dz)
            ),
        ),
        ("the root of a root", noisy(lambda dz: sigma(dz).sqrt())),
        ("all rows get the same sigma", noisy(lambda dz: (sigma(dz) > 0) * sigma(dz).mean())),
        ("does not equalize", too_much_for_short_rows),
        ("eps is not normal", by_lot),
        (
            "eps is not normal",
            lambda dz, g: (
                dz * column(1 + sigma(dz) * (torch.rand(len(dz), generator=g) - 0.5) * 12**0.5, dz)
            ),
        ),
        ("changes its argument 1", in_place),
        ("changes at the next call", lambda dz, g: reused(by_the_formula(dz, g))),
        ("several rows share one eps", for_pairs),
        ("several rows share one eps", for_halves),
        ("eps is not normal", truncated),
        ("change their type", lambda dz, g: by_the_formula(dz.float(), g)),
    ],
)

"""Answers to the exercises of chapter 23: right ones, and what students may well write."""

import itertools
import math

import numpy as np
import torch
from bank import Bank
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
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
        ("one score for the whole batch", lambda dz: dz.norm()),
        ("a score for each channel", lambda dz: dz.flatten(2).norm(dim=2)),
        ("over the batch, for each number of z", lambda dz: dz.norm(dim=0)),
        ("a score for each position", lambda dz: dz.norm(dim=1)),
        ("should be a tensor", lambda dz: [row.norm() for row in dz]),
        ("where (7,) is expected", lambda dz: dz.flatten(1).norm(dim=1, keepdim=True)),
        ("norm_score stopped with", lambda dz: dz.square().sum((1, 2, 3)).sqrt()),
        ("these are the squared norms", lambda dz: dz.flatten(1).square().sum(1)),
        ("roots of mean squares", lambda dz: dz.flatten(1).square().mean(1).sqrt()),
        ("these are mean squares", lambda dz: dz.flatten(1).square().mean(1)),
        ("sums of absolute values", lambda dz: dz.flatten(1).norm(p=1, dim=1)),
        ("means of absolute values", lambda dz: dz.flatten(1).abs().mean(1)),
        ("largest absolute values", lambda dz: dz.flatten(1).norm(p=math.inf, dim=1)),
        ("sums with signs", lambda dz: dz.flatten(1).sum(1)),
        ("means with signs", lambda dz: dz.flatten(1).mean(1)),
        ("and then their mean", lambda dz: dz.reshape(*dz.shape[:2], -1).norm(dim=2).mean(1)),
        ("and then their sum", lambda dz: dz.reshape(*dz.shape[:2], -1).norm(dim=2).sum(1)),
        (
            "the mean of each gradient is subtracted",
            lambda dz: norms(dz.flatten(1) - dz.flatten(1).mean(1, keepdim=True)),
        ),
        ("divided by the batch's largest", lambda dz: norms(dz) / norms(dz).max()),
        ("divided by their sum", lambda dz: norms(dz) / norms(dz).sum()),
        ("negative norms", lambda dz: -norms(dz)),
        ("scores of small gradients", lambda dz: (norms(dz).square() + 1e-12).sqrt()),
        ("changes the gradients", lambda dz: dz.square_().flatten(1).sum(1).sqrt()),
        ("these are not the norms", lambda dz: norms(dz).log1p()),
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


def among_unlike(scores, positive):
    high, low = apart(scores, positive)
    return (high > low).sum() / (high != low).sum()


def by_argsort(scores, positive):
    ranks = torch.empty_like(scores)
    ranks[scores.argsort(stable=True)] = torch.arange(1, len(scores) + 1, dtype=scores.dtype)
    n = positive.sum()
    return (ranks[positive].sum() - n * (n + 1) / 2) / (n * (~positive).sum())


def nearly_tied(scores, positive):
    high, low = apart(scores, positive)
    tied = torch.isclose(high, low)
    return (((high > low) & ~tied) + tied / 2).mean()


def best_accuracy(scores, positive):
    _, _, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    return max(float(((scores >= t) == positive).double().mean()) for t in thresholds)


def some_thresholds(scores, positive):
    thresholds = torch.linspace(3, -3, 20)
    true = torch.tensor([(scores[positive] > t).double().mean() for t in thresholds])
    false = torch.tensor([(scores[~positive] > t).double().mean() for t in thresholds])
    return torch.trapezoid(true, false)


def or_else(value):
    """A right answer where both classes occur, and this value elsewhere."""

    def answer(scores, positive):
        return value if positive.all() or not positive.any() else auc(scores, positive)

    return answer


def loudly(scores, positive):
    if positive.all() or not positive.any():
        raise ValueError("Only one class is present")
    return auc(scores, positive)


mistakes(
    "leak_auc",
    [
        ("the order is reversed", lambda s, p: auc(-s, p)),
        ("the order is reversed", lambda s, p: auc(s, ~p)),
        ("ties count 0", lambda s, p: (apart(s, p)[0] > apart(s, p)[1]).double().mean()),
        ("ties count 1", lambda s, p: (apart(s, p)[0] >= apart(s, p)[1]).double().mean()),
        ("ties are left out", among_unlike),
        ("by the order of the rows", by_argsort),
        ("differ by little", nearly_tied),
        ("is turned around", lambda s, p: max(auc(s, p), 1 - auc(s, p))),
        ("how far the share is from 1/2", lambda s, p: 2 * auc(s, p) - 1),
        ("this is a percentage", lambda s, p: 100 * auc(s, p)),
        (
            "the number of pairs in the right order",
            lambda s, p: auc(s, p) * p.sum() * (~p).sum(),
        ),
        ("divided by N squared", lambda s, p: auc(s, p) * p.sum() * (~p).sum() / len(s) ** 2),
        (
            "divided by the number of all pairs",
            lambda s, p: auc(s, p) * p.sum() * (~p).sum() / math.comb(len(s), 2),
        ),
        ("the accuracy at a threshold", lambda s, p: ((s > 0) == p).double().mean()),
        ("the accuracy at a threshold", lambda s, p: ((s > 0.5) == p).double().mean()),
        ("the accuracy at a threshold", lambda s, p: ((s > s.mean()) == p).double().mean()),
        ("the accuracy at a threshold", lambda s, p: ((s > s.median()) == p).double().mean()),
        ("the accuracy at the best threshold", best_accuracy),
        ("with the mean of the negatives", lambda s, p: (s[p] > s[~p].mean()).double().mean()),
        ("the average precision", lambda s, p: average_precision_score(p, s)),
        ("in a batch without positives, leak_auc stopped", loudly),
        ("a batch without positives gets 0.5", or_else(0.5)),
        ("a batch without positives gets 0", or_else(0.0)),
        (
            "a batch without negatives gets 1",
            lambda s, p: 1.0 if p.all() else auc(s, p),
        ),
        ("should be a number", lambda s, p: (auc(s, p), "leaks")),
        ("return one number", lambda s, p: (apart(s, p)[0] > apart(s, p)[1]).double().mean(1)),
        ("changes the scores or the labels", lambda s, p: auc(s.sub_(s.mean()), p)),
        ("the share is not right", some_thresholds),
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


def dots(dz, known):
    return dz.flatten(1) @ known.flatten()


def never_nan(dz, known):
    """0 for the whole batch, if one row is zero."""
    found = dots(dz, known) / (norms(dz) * known.norm())
    return torch.zeros_like(found) if found.isnan().any() else found


mistakes(
    "cosine_score",
    [
        ("these are products", dots),
        ("the rows keep their norms", lambda dz, known: dots(dz, known / known.norm())),
        (
            "the known gradient keeps its norm",
            lambda dz, known: dots(F.normalize(dz.flatten(1)), known),
        ),
        (
            "the norms are squared",
            lambda dz, known: dots(dz, known) / (norms(dz) * known.norm()) ** 2,
        ),
        (
            "normalized over the batch",
            lambda dz, known: dots(F.normalize(dz.flatten(1), dim=0), known / known.norm()),
        ),
        (
            "normalized over the batch",
            lambda dz, known: dots(dz / dz.norm(), known / known.norm()),
        ),
        ("the sign is lost: a negative", lambda dz, known: cosines(dz, known).abs()),
        ("the sign is lost: the cosines", lambda dz, known: cosines(dz, known) ** 2),
        ("cut off", lambda dz, known: F.relu(cosines(dz, known))),
        ("only the signs are left", lambda dz, known: cosines(dz, known).sign()),
        ("these are distances", lambda dz, known: 1 - cosines(dz, known)),
        ("the sign is turned", lambda dz, known: -cosines(dz, known)),
        ("moved to run from 0 to 1", lambda dz, known: (1 + cosines(dz, known)) / 2),
        ("these are angles", lambda dz, known: cosines(dz, known).acos()),
        (
            "the mean of each gradient is subtracted",
            lambda dz, known: cosines(
                dz.flatten(1) - dz.flatten(1).mean(1, keepdim=True), known - known.mean()
            ),
        ),
        ("the batch's mean gradient", lambda dz, known: cosines(dz - dz.mean(0), known)),
        (
            "for each position, and then their mean",
            lambda dz, known: (
                F.cosine_similarity(
                    dz.reshape(*dz.shape[:2], -1), known.reshape(1, len(known), -1)
                ).mean(1)
                if dz.ndim > 2
                else cosines(dz, known)
            ),
        ),
        (
            "there is a score for each position",
            lambda dz, known: F.cosine_similarity(dz, known[None]),
        ),
        ("with the batch's first row", lambda dz, known: cosines(dz, dz[0])),
        (
            "one score for the whole batch",
            lambda dz, known: F.cosine_similarity(dz.mean(0).flatten(), known.flatten(), dim=0),
        ),
        ("should be a tensor", lambda dz, known: cosines(dz, known).tolist()),
        (
            "cosine_score stopped with",
            lambda dz, known: (dz * known).sum((1, 2, 3)) / dz.norm(dim=(1, 2, 3)) / known.norm(),
        ),
        (
            "scores of small gradients",
            lambda dz, known: dots(dz, known) / (norms(dz) * known.norm() + 1e-8),
        ),
        (
            "a row of zeros, from an image that the server has learned, gives nan",
            lambda dz, known: dots(dz, known) / norms(dz) / known.norm(),
        ),
        (
            "a known gradient of zeros gives nan",
            lambda dz, known: dots(F.normalize(dz.flatten(1)), known) / known.norm(),
        ),
        ("in another way than asked", never_nan),
        (
            "in another way than asked",
            lambda dz, known: torch.where(norms(dz) > 0, cosines(dz, known), -1.0),
        ),
        ("changes the gradients", lambda dz, known: cosines(dz.div_(dz.norm()), known)),
        ("these are not the cosines", lambda dz, known: cosines(dz, known).asin()),
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


def on_the_message(a, da, tail):
    a.requires_grad_()
    return by_grad(a, da, tail)


def by_grad(a, da, tail):
    loss = F.cross_entropy(tail(a), torch.zeros(len(a), dtype=torch.int64))
    return torch.autograd.grad(loss, a)[0].argmin(1)


def learns(a, da, tail):
    step = torch.optim.SGD(tail.parameters(), lr=0.1)
    labels = nearest(euclid)(a, da, tail)
    F.cross_entropy(tail(a), labels).backward()
    step.step()
    return labels


def freezes(a, da, tail):
    tail.requires_grad_(False)
    return nearest(euclid)(a, da, tail)


mistakes(
    "infer_labels",
    [
        ("B times as long", nearest(euclid, "sum")),
        ("what the tail predicts", lambda a, da, tail: tail(a).argmax(1)),
        (
            "all rows get one label",
            lambda a, da, tail: (
                (candidates(a, tail).sum(1) - da.sum(0)).norm(dim=1).argmin().repeat(len(a))
            ),
        ),
        (
            "all rows get one label",
            lambda a, da, tail: (
                (candidates(a, tail) - da).square().sum((1, 2)).argmin().repeat(len(a))
            ),
        ),
        ("counted from 1", lambda a, da, tail: nearest(euclid)(a, da, tail) + 1),
        ("projected on the tail's weights", lambda a, da, tail: (da @ tail.weight.T).argmin(1)),
        (
            "the softmax is missing",
            lambda a, da, tail: torch.cdist(da, -tail.weight / len(a)).argmin(1),
        ),
        ("the farthest", nearest(lambda g, da: -euclid(g, da))),
        ("only the norms", nearest(lambda g, da: (g.norm(dim=2) - da.norm(dim=1)).abs())),
        ("the sign is turned", nearest(lambda g, da: euclid(-g, da))),
        ("only the angles", nearest(lambda g, da: -F.cosine_similarity(g, da[None], dim=2))),
        ("the absolute differences", nearest(lambda g, da: (g - da).abs().sum(2))),
        ("the differences are not squared", nearest(lambda g, da: (g - da).sum(2))),
        ("only the first number", nearest(lambda g, da: (g - da)[:, :, 0].square())),
        ("the .grad of the tail's weights", by_backward),
        ("a itself now requires", on_the_message),
        ("the weights of the tail have changed", learns),
        ("no longer require gradients", freezes),
        ("changes da", lambda a, da, tail: nearest(euclid)(a, da.mul_(len(a)), tail)),
        ("should be a tensor", lambda a, da, tail: nearest(euclid)(a, da, tail).tolist()),
        (
            "the labels have shape",
            lambda a, da, tail: (candidates(a, tail) - da).square().sum((1, 2)).argmin(),
        ),
        ("int64, and are", lambda a, da, tail: nearest(euclid)(a, da, tail).double()),
        (
            "not the classes whose gradients",
            nearest(lambda g, da: (g - da).abs().amax(2)),
        ),
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
        ("changes the gradients", in_place),
    ],
)

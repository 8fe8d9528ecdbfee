"""Right and wrong answers to the exercises of chapter 35."""

from collections import Counter
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from bank import Bank
from torch import nn

from splitlab.course.checks import property_inference
from splitlab.course.checks.hijack_turn import variant
from splitlab.course.checks.property_inference.property_turn import _take, _Turn
from splitlab.course.checks.property_inference.train_on_few import cases

bank = Bank("35_property_inference", property_inference)


def mistakes(exercise, function, changes):
    """Register the function with one option changed, for each message."""
    for message, change in changes.items():

        def mistaken(*arguments, change=change):
            return function(*arguments, **change)

        mistaken.__name__ = message
        bank.mistake(exercise, message)(mistaken)


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
    return torch.stack([(private == guess).float().mean(), (occurring == guess).float().mean()])


def bar_with(public, private, count=lambda right, shares: (right.mean(), shares.mean())):
    right = private == public.bincount().argmax()
    return count(right.double(), (private.unique() == public.bincount().argmax()).double())


BAR_MISTAKES = {
    "should have 2 parts and has 1": lambda right, shares: right.mean()[None],
    "the accuracy has shape": lambda right, shares: (right, shares),
    "the two figures are not right": lambda right, shares: (right.mean(), shares.median()),
    "image; then": lambda right, shares: (right.half().mean(), shares.half().mean()),
}
mistakes(
    "bar_to_beat", bar_with, {message: {"count": count} for message, count in BAR_MISTAKES.items()}
)


@bank.mistake("bar_to_beat", "the two figures are not right")
def of_ten_classes(public, private):
    guess = public.bincount(minlength=10)[:10].argmax()
    right = (private == guess).double()
    return right.mean(), torch.stack([right[private == c].mean() for c in private.unique()]).mean()


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
        row, column = np.mgrid[1 : ink.shape[0] + 1, 1 : ink.shape[1] + 1]
        below = row - np.average(row, weights=ink)
        right = column - np.average(column, weights=ink)
        slants.append(np.average(below * right, weights=ink))
    return torch.tensor(slants, dtype=x.dtype)


SLANT_MISTAKES = {
    "where (6,) is expected": lambda slant, x: slant(x)[1:],
    "should be a tensor and is a list": lambda slant, x: slant(x).tolist(),
    "and 0 without any ink": lambda slant, x: slant(x).where((x > -1).flatten(1).any(1), 1.0),
    "x has changed": lambda slant, x: slant(x.add_(1) - 1),
    "the slant is rounded to torch.float32": lambda slant, x: slant(x.float()),
    "weighted mean": lambda slant, x: slant(x.float()).to(x),
    "the slant is not right": lambda slant, x: slant(x).abs(),
    "changes at the next call": lambda slant, x: BUFFERS.setdefault(
        len(x), torch.zeros(len(x), dtype=x.dtype)
    ).copy_(slant(x)),
}
BUFFERS = {}
for message, wrong in SLANT_MISTAKES.items():

    def mistaken(x, wrong=wrong):
        return wrong(with_einsum, x)

    mistaken.__name__ = message
    bank.mistake("slant", message)(mistaken)


# 3. property_loss


@bank.also_right("property_loss")
def with_log_softmax(x_public, y, slants, threshold, pilot, head):
    leans = torch.where(slants < threshold, 1, 0)
    return F.nll_loss(head(pilot(x_public)).log_softmax(1), leans)


@bank.also_right("property_loss")
def image_after_image(x_public, y, slants, threshold, pilot, head):
    logs = head(pilot(x_public)).softmax(dim=1).log()
    right = [row[1 if slant < threshold else 0] for row, slant in zip(logs, slants, strict=True)]
    return -torch.stack(right).mean()


def loss_with(given, loss=F.cross_entropy, below=lambda slants, t: (slants < t).long(), then=None):
    x, _, slants, threshold, pilot, head = given
    value = loss(head(pilot(x)), below(slants, threshold))
    if then is not None:
        then(value, *given)
    return value


def detached_in_half(scores, leans):
    loss = F.cross_entropy(scores, leans)
    return (loss + loss.detach()) / 2


LOSS_MISTAKES = {
    "the loss has no graph": {"loss": lambda *given: F.cross_entropy(*given).detach()},
    "the loss has shape": {"loss": lambda *given: F.cross_entropy(*given, reduction="none")},
    "the loss is not the mean": {"loss": lambda *given: F.cross_entropy(*given, label_smoothing=1)},
    "slant is below the threshold, else 0": {"below": lambda slants, t: (slants < 0.5).long()},
    "but got Bool": {"below": torch.lt},
    "the wrong gradient": {"loss": detached_in_half},
    "has called backward itself": {"then": lambda loss, *given: loss.backward()},
    "the .grad of pilot has changed": {
        "then": lambda loss, *given: loss.backward(retain_graph=True)
    },
    "head's weights have changed": {
        "then": lambda loss, *given: given[5][1].bias.data.sub_(0.1),
    },
    "pilot is left in evaluation mode": {"then": lambda loss, *given: given[4].eval()},
    "pilot is left in training mode": {"then": lambda loss, *given: given[4].train()},
    "frozen parameters of head require gradients": {
        "then": lambda loss, *given: given[5].requires_grad_()
    },
    "slants has changed": {"then": lambda loss, *given: given[2].neg_()},
}
for message, change in LOSS_MISTAKES.items():

    def mistaken(*given, change=change):
        return loss_with(given, **change)

    mistaken.__name__ = message
    bank.mistake("property_loss", message)(mistaken)


# 4. property_turn


@bank.also_right("property_turn")
def gradients_first(message, x_public, known, pilot, head, critic, classifier_step, critic_step):
    z = message.z.clone().requires_grad_()
    (dz,) = torch.autograd.grad(critic(z).mean(), z)
    z_public = pilot(x_public)
    public_loss = F.nll_loss(head(z_public).log_softmax(1), known)
    critic_loss = critic(z_public).mean() - critic(message.z).mean()
    for loss, optimizer in ((public_loss, classifier_step), (critic_loss, critic_step)):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
    classifier_step.step()
    critic_step.step()
    return dz


@bank.also_right("property_turn")
def classifier_steps_early(
    message, x_public, known, pilot, head, critic, classifier_step, critic_step
):
    z = message.z.detach().clone().requires_grad_()
    critic(z).mean().backward()
    dz = z.grad.clone()
    z_public = pilot(x_public)
    classifier_step.zero_grad()
    F.cross_entropy(head(z_public), known).backward()
    classifier_step.step()
    critic_step.zero_grad()
    scores = critic(torch.cat([z_public.detach(), message.z]))
    (scores[: len(x_public)].mean() - scores[len(x_public) :].mean()).backward()
    critic_step.step()
    return dz


def on_the_attackers_message(turn):
    turn.client_z.requires_grad_()
    return torch.autograd.grad(turn.client_loss(turn.client_z), turn.client_z)[0]


def only_the_first_group(turn):
    _Turn.learn_own(turn)
    for weight in turn.own_optimizer.param_groups[1]["params"]:
        weight.grad = None


def in_evaluation_mode(turn):
    turn.pilot.eval()
    return _Turn.own_loss(turn)


TURN_MISTAKES = {
    "message.z itself now requires a gradient": {"dz": on_the_attackers_message},
    "the step of pilot and head does not follow": {
        "own_loss": lambda turn: F.cross_entropy(turn.scores(), turn.known, label_smoothing=0.1)
    },
    "stopped with AttributeError": {
        "own_loss": lambda turn: F.cross_entropy(turn.scores(), turn.labels)
    },
    "head has not moved": {"learn_own": only_the_first_group},
    "pilot is left in evaluation mode": {"own_loss": in_evaluation_mode},
}
for message, parts in TURN_MISTAKES.items():
    bank.mistake("property_turn", message)(variant(_Turn, _take, **parts))


# 5. train_on_few


def twenty(codes, labels):
    return codes[labels >= 0].flatten(1), labels[labels >= 0]


@bank.also_right("train_on_few")
def nearest_mean(codes, labels):
    rows, classes = twenty(codes, labels)
    means = torch.stack([rows[classes == c].mean(0) for c in range(10)])
    return lambda new: torch.cdist(new.flatten(1), means).argmin(1)


class Argmax(nn.Module):
    """A network that returns classes."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, codes):
        return self.head(codes).argmax(1)


@bank.also_right("train_on_few")
def a_network(codes, labels):
    rows, classes = twenty(codes, labels)
    head = nn.Sequential(nn.Flatten(), nn.Linear(rows.shape[1], 10))
    adam = torch.optim.Adam(head.parameters(), 0.01, weight_decay=0.1)
    for _ in range(40):
        adam.zero_grad()
        F.cross_entropy(head(rows), classes).backward()
        adam.step()
    return Argmax(head)


@bank.also_right("train_on_few")
def votes_step_by_step(codes, labels):
    """The solution's idea, with ten neighbors and steps in a loop."""
    rows = codes.flatten(1)
    near = torch.cdist(rows, rows).topk(11, largest=False).indices[:, 1:]
    known = labels >= 0
    truth = F.one_hot(labels[known], 10).float()
    votes = torch.full((len(rows), 10), 0.1)
    for _ in range(50):
        votes = votes[near].mean(1)
        votes[known] = truth
    votes = votes / votes.sum(0)

    def classify(new):
        nearest = torch.cdist(new.flatten(1), rows).topk(10, largest=False).indices
        return votes[nearest].mean(1).argmax(1)

    return classify


@bank.mistake("train_on_few", "out of bounds")
def learns_the_unknown(codes, labels):
    head = nn.Sequential(nn.Flatten(), nn.Linear(512, 10))
    F.cross_entropy(head(codes), labels).backward()
    return Argmax(head)


@bank.mistake("train_on_few", "and guessing has")
def unknown_is_nine(codes, labels):
    rows = codes.flatten(1)
    return lambda new: (labels % 10)[torch.cdist(new.flatten(1), rows).argmin(1)]


@bank.mistake("train_on_few", "train_on_few changes its argument 1")
def normalized_in_place(codes, labels):
    codes /= codes.norm()
    return nearest_mean(codes, labels)


@bank.mistake("train_on_few", "return the classifier itself")
def classes_at_once(codes, labels):
    return nearest_mean(codes, labels)(codes)


@bank.mistake("train_on_few", "train_on_few returns nothing")
def no_return(codes, labels):
    nearest_mean(codes, labels)


@bank.mistake("train_on_few", "has no attribute 'nearest'")
def misspelt(codes, labels):
    return codes.nearest(labels)


@bank.mistake("train_on_few", "calls a part of its own check")
def peeks(codes, labels):
    hidden = cases()[0]
    return lambda new: hidden.answers


CLASSIFIER_MISTAKES = {
    "the classifier returns nothing": lambda classify, new: None,
    "the classifier returns a table": lambda classify, new: F.one_hot(classify(new)),
    "for each code": lambda classify, new: torch.tensor([3]),
    "should hold torch.int64": lambda classify, new: classify(new).float(),
    "should be a tensor and is a list": lambda classify, new: classify(new).tolist(),
    "the classifier changes its argument 1": lambda classify, new: classify(new.clamp_(min=0)),
    "must match": lambda classify, new: classify(new) + classify(new[:1]).expand(2),
    "guessing has": lambda classify, new: torch.zeros(len(new), dtype=torch.int64),
}
for message, wrong in CLASSIFIER_MISTAKES.items():

    def mistaken(codes, labels, wrong=wrong):
        return partial(wrong, nearest_mean(codes, labels))

    mistaken.__name__ = message
    bank.mistake("train_on_few", message)(mistaken)


bank.equivalent(
    "train_on_few",
    "`votes = votes / votes.sum(0)` becomes `votes = votes / votes.mean(0)`",
    "a mean is a sum over a fixed count, so all votes grow by one factor",
)

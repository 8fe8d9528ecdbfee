"""Right and wrong answers to the exercises of chapter 35."""

from collections import Counter

import hijack_turn
import numpy as np
import torch
import torch.nn.functional as F
from bank import Bank
from torch import nn

from splitlab.course.checks import property_inference

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
mistakes("bar_to_beat", bar_with, BAR_MISTAKES)


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
    center=lambda mean, row, column: (mean(row), mean(column)),
    result=lambda mean, below, right: mean(below * right),
    count=torch.arange,
):
    ink = weight(x)
    ink = (ink / total(ink)).nan_to_num()
    row, column = count(x.shape[2])[:, None], count(x.shape[3])

    def mean(values):
        return (ink * values).sum((1, 2, 3)).view(-1, 1, 1, 1)

    middle = center(mean, row, column)
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
    "are not centered": {"center": lambda mean, row, column: (0, 0)},
    "from the middle of the image": {"center": of_the_image},
    "one center is taken for the whole batch": {
        "center": lambda mean, row, column: (mean(row).mean(), mean(column).mean())
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
    "are not normalized": {"total": lambda ink: 1},
    "by the number of pixels": {"total": lambda ink: ink[0].numel() / ink.shape[1]},
    "sum to 1 over the whole batch": {"total": torch.sum},
    "by its largest value": {
        "total": lambda ink: ink.sum(1, keepdim=True).amax((2, 3), keepdim=True)
    },
    "a faint image gets": {"total": lambda ink: ink.sum((1, 2, 3), keepdim=True) + 1e-6},
    "the slants have shape": {"result": lambda mean, below, right: mean(below * right)[1:]},
    "the slant is not right": {"result": lambda mean, below, right: mean((below * right).abs())},
}
mistakes("slant", slant_with, SLANT_MISTAKES)


@bank.mistake("slant", "one slant for the whole batch")
def mean_slant(x):
    return slant_with(x).mean()


@bank.mistake("slant", "a slant for each channel")
def channel_by_channel(x):
    return torch.stack([slant_with(channel[:, None]) for channel in x.unbind(1)], 1)


@bank.mistake("slant", "return a tensor with")
def in_a_list(x):
    return slant_with(x).tolist()


@bank.mistake("slant", "there is nan")
def divided_by_nothing(x):
    ink = x + 1
    ink = ink / ink.sum((1, 2, 3), keepdim=True)
    row, column = torch.arange(x.shape[2])[:, None], torch.arange(x.shape[3])
    row_mean, column_mean = (ink * row).sum((1, 2, 3)), (ink * column).sum((1, 2, 3))
    return (ink * row * column).sum((1, 2, 3)) - row_mean * column_mean


@bank.mistake("slant", "a blank image gets")
def evenly_inked(x):
    blank = (x == -1).flatten(1).all(1)
    return slant_with(x).where(~blank, 1.0)


@bank.mistake("slant", "the others get another")
def without_the_blank(x):
    slants = slant_with(x)
    return torch.zeros_like(slants) if (x == -1).flatten(1).all(1).any() else slants


@bank.mistake("slant", "in float32")
def whole_numbers(x):
    ink = (x + 1) if x.dtype == torch.float64 else (x + 1).round()
    return slant_with(ink - 1)


@bank.mistake("slant", "changes the images")
def in_place(x):
    x += 1
    return slant_with(x - 1)


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


def loss_with(
    x,
    y,
    slants,
    threshold,
    pilot,
    head,
    labels=lambda y, slants, threshold: (slants < threshold).long(),
    loss=F.cross_entropy,
    between=lambda z: z,
):
    return loss(head(between(pilot(x))), labels(y, slants, threshold))


def one_hot(leans):
    return F.one_hot(leans, 2).double()


LOSS_MISTAKES = {
    "the labels of the task": {"labels": lambda y, slants, threshold: y},
    "it is 1 where the slant is below the threshold, and an image on": {
        "labels": lambda y, slants, threshold: (slants > threshold).long()
    },
    "the property is the wrong way round: it is 1 where": {
        "labels": lambda y, slants, threshold: (slants >= threshold).long()
    },
    "is not below it": {"labels": lambda y, slants, threshold: (slants <= threshold).long()},
    "own median": {"labels": lambda y, slants, threshold: (slants < slants.median()).long()},
    "own mean": {"labels": lambda y, slants, threshold: (slants < slants.mean()).long()},
    "cut at 0": {"labels": lambda y, slants, threshold: (slants < 0).long()},
    "through a softmax before": {
        "loss": lambda scores, leans: F.cross_entropy(scores.softmax(1), leans)
    },
    "through a sigmoid before": {
        "loss": lambda scores, leans: F.cross_entropy(scores.sigmoid(), leans)
    },
    "the sum over the images": {
        "loss": lambda scores, leans: F.cross_entropy(scores, leans, reduction="sum")
    },
    "squared error of the probabilities": {
        "loss": lambda scores, leans: F.mse_loss(scores.softmax(1), one_hot(leans))
    },
    "squared error of the scores": {
        "loss": lambda scores, leans: F.mse_loss(scores, one_hot(leans))
    },
    "the logarithm is missing": {
        "loss": lambda scores, leans: F.nll_loss(scores.softmax(1), leans)
    },
    "the softmax is missing": {"loss": F.nll_loss},
    "wrong sign": {"loss": lambda scores, leans: -F.cross_entropy(scores, leans)},
    "each score by itself": {
        "loss": lambda scores, leans: F.binary_cross_entropy_with_logits(scores, one_hot(leans))
    },
    "the share of wrong answers": {
        "loss": lambda scores, leans: (scores.argmax(1) != leans).double().mean()
    },
    "the pilot learns nothing": {"between": torch.detach},
    "the loss has no graph": {
        "loss": lambda scores, leans: F.cross_entropy(scores, leans).detach()
    },
    "the loss has shape": {
        "loss": lambda scores, leans: F.cross_entropy(scores, leans, reduction="none")
    },
    "the loss is not the mean": {
        "loss": lambda scores, leans: F.cross_entropy(scores, leans, label_smoothing=0.1)
    },
    "stopped with": {"labels": lambda y, slants, threshold: slants < threshold},
}
mistakes("property_loss", loss_with, LOSS_MISTAKES)


@bank.mistake("property_loss", "the head learns nothing")
def through_a_frozen_head(x_public, y, slants, threshold, pilot, head):
    weights = {name: weight.detach() for name, weight in head.named_parameters()}
    scores = torch.func.functional_call(head, weights, (pilot(x_public),))
    return F.cross_entropy(scores, (slants < threshold).long())


@bank.mistake("property_loss", "no part of it may be detached")
def half_detached(x_public, y, slants, threshold, pilot, head):
    loss = loss_with(x_public, y, slants, threshold, pilot, head)
    return (loss + loss.detach()) / 2


@bank.mistake("property_loss", "the .grad of the weights")
def backward_already(x_public, y, slants, threshold, pilot, head):
    loss = loss_with(x_public, y, slants, threshold, pilot, head)
    loss.backward(retain_graph=True)
    return loss


@bank.mistake("property_loss", "the weights have changed")
def stepping_already(x_public, y, slants, threshold, pilot, head):
    loss = loss_with(x_public, y, slants, threshold, pilot, head)
    with torch.no_grad():
        head[1].bias -= 0.1
    return loss


@bank.mistake("property_loss", "in another mode")
def in_evaluation_mode(x_public, y, slants, threshold, pilot, head):
    pilot.eval()
    return loss_with(x_public, y, slants, threshold, pilot, head)


@bank.mistake("property_loss", "changes the images")
def scaled_in_place(x_public, y, slants, threshold, pilot, head):
    x_public /= 2
    return loss_with(x_public, y, slants, threshold, pilot, head)


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


class Turn(hijack_turn.Turn):
    def __call__(self, message, x_public, known, pilot, head, critic, classifier, optimizer):
        self.message, self.known, self.head = message, known, head
        return self.take(message.z, x_public, pilot, critic, classifier, optimizer)

    def public_loss(self):
        return F.cross_entropy(self.head(self.z_public), self.known)


hijack_turn.register(bank, "property_turn", Turn, own="pilot and head", z="message.z")


@bank.mistaken_class("property_turn", "came with the client's batch")
class WithTheClientsLabels(Turn):
    def public_loss(self):
        return F.cross_entropy(self.head(self.z_public), self.message.labels)


@bank.mistaken_class("property_turn", "which is the honest task")
class LearnsTheTask(Turn):
    def public_loss(self):
        return F.cross_entropy(self.head(self.client_z), self.message.labels)


@bank.mistaken_class("property_turn", "has the honest task in it")
class LearnsTheTaskToo(Turn):
    def public_loss(self):
        task = F.cross_entropy(self.head(self.client_z), self.message.labels)
        return super().public_loss() + task


@bank.mistaken_class("property_turn", "nothing to do with each other")
class HeadOnTheClientsSide(Turn):
    def public_loss(self):
        return F.cross_entropy(self.head(self.client_z), self.known)


@bank.mistaken_class("property_turn", "an honest server answers")
class AnswersHonestly(Turn):
    def client_loss(self, z):
        return F.cross_entropy(self.head(z), self.message.labels)


@bank.mistaken_class("property_turn", "dz comes through the head")
class ThroughTheHead(Turn):
    def client_loss(self, z):
        return self.critic(self.head(z)).mean()


@bank.mistaken_class("property_turn", "learns from what the head makes of z")
class CriticOfLogits(Turn):
    def critic_loss(self):
        public, private = (self.head(z).detach() for z in (self.z_public, self.client_z))
        return self.critic(public).mean() - self.critic(private).mean()


@bank.mistaken_class("property_turn", "through a softmax before")
class SoftmaxTwice(Turn):
    def public_loss(self):
        return F.cross_entropy(self.head(self.z_public).softmax(1), self.known)


@bank.mistaken_class("property_turn", "is a squared error")
class SquaredError(Turn):
    def public_loss(self):
        scores = self.head(self.z_public).softmax(1)
        return F.mse_loss(scores, F.one_hot(self.known, scores.shape[1]).double())


@bank.mistaken_class("property_turn", "is a sum: (1)")
class ClassifierSums(Turn):
    def public_loss(self):
        return F.cross_entropy(self.head(self.z_public), self.known, reduction="sum")


@bank.mistaken_class("property_turn", "only the head learns")
class PilotStands(Turn):
    def public_loss(self):
        return F.cross_entropy(self.head(self.z_public.detach()), self.known)


@bank.mistaken_class("property_turn", "the step of pilot and head does not follow")
class ClassifierSmoothed(Turn):
    def public_loss(self):
        return F.cross_entropy(self.head(self.z_public), self.known, label_smoothing=0.1)


@bank.mistaken_class("property_turn", "stopped with")
class LabelsOfTheOtherSide(Turn):
    """A slip in a name, which the second turn's sizes show."""

    def public_loss(self):
        return F.cross_entropy(self.head(self.z_public), self.labels)


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


@bank.mistake("train_on_few", "and guessing has")
def commonest(codes, labels):
    return lambda new: torch.zeros(len(new), dtype=torch.int64)


@bank.mistake("train_on_few", "returns a table")
def scores_of_classes(codes, labels):
    return nn.Sequential(nn.Flatten(), nn.Linear(512, 10))


@bank.mistake("train_on_few", "one class for each")
def one_answer(codes, labels):
    return lambda new: torch.tensor([3])


@bank.mistake("train_on_few", "whole numbers")
def as_floats(codes, labels):
    classify = nearest_mean(codes, labels)
    return lambda new: classify(new).float()


@bank.mistake("train_on_few", "return a tensor of class numbers")
def as_a_list(codes, labels):
    classify = nearest_mean(codes, labels)
    return lambda new: classify(new).tolist()


@bank.mistake("train_on_few", "return the classifier itself")
def classes_at_once(codes, labels):
    return nearest_mean(codes, labels)(codes)


@bank.mistake("train_on_few", "returns nothing")
def no_return(codes, labels):
    nearest_mean(codes, labels)


@bank.mistake("train_on_few", "returns nothing")
def no_inner_return(codes, labels):
    def classify(new):
        nearest_mean(codes, labels)(new)

    return classify


@bank.mistake("train_on_few", "the classifier stopped")
def code_by_code(codes, labels):
    rows, classes = twenty(codes, labels)
    return lambda new: classes[torch.cdist(new.reshape(1, 512), rows).argmin(1)]


@bank.mistake("train_on_few", "changes the codes")
def normalized_in_place(codes, labels):
    codes /= codes.norm()
    return nearest_mean(codes, labels)


@bank.mistake("train_on_few", "changes the codes")
def new_codes_in_place(codes, labels):
    classify = nearest_mean(codes, labels)
    return lambda new: classify(new.clamp_(min=0))


@bank.mistake("train_on_few", "stopped with")
def misspelt(codes, labels):
    return codes.nearest(labels)


bank.equivalent(
    "train_on_few",
    "`votes = votes / votes.sum(0)` becomes `votes = votes / votes.mean(0)`",
    "a mean is a sum over a fixed count, so all votes grow by one factor",
)

"""Right and wrong answers to the exercises of chapter 54."""

import statistics

import numpy as np
import torch
import torch.nn.functional as F
from bank import Bank

from splitlab.course.checks import adaptive_attacker
from splitlab.course.checks.adaptive_attacker.watched_runs import verdict_runs

bank = Bank("54_adaptive_attacker", adaptive_attacker)

# 1. mixed_gradient


@bank.also_right("mixed_gradient")
def with_a_small_number(hijack, task, weight):
    factor = hijack.norm() / (task.norm() + 1e-12)
    return torch.lerp(task * factor, hijack, weight)


@bank.also_right("mixed_gradient")
def with_a_unit_direction(hijack, task, weight):
    direction = F.normalize(task.flatten(), dim=0).view_as(task)
    return hijack * weight + direction * hijack.square().sum().sqrt() * (1 - weight)


@bank.mistake("mixed_gradient", "hijack has changed: leave it as it was")
def in_place(hijack, task, weight):
    mixture = with_a_small_number(hijack, task, weight)
    return hijack.data.copy_(mixture).clone()


@bank.mistake("mixed_gradient", "task has changed: leave it as it was")
def scaled_in_place(hijack, task, weight):
    if task.norm() > 0:
        task.data.mul_(hijack.norm() / task.norm())
    return weight * hijack + (1 - weight) * task


@bank.mistake("mixed_gradient", "the mixture is not right")
def with_equal_shares(hijack, task, weight):
    return with_a_small_number(hijack, task, 0.5)


@bank.mistake("mixed_gradient", "has shape")
def flattened(hijack, task, weight):
    return with_a_small_number(hijack, task, weight).flatten()


# 2. looks_false


@bank.also_right("looks_false")
def with_means_of_tensors(logits, labels, accuracies):
    usual = torch.tensor(accuracies[-20:], dtype=torch.float64).mean()
    accuracy = (logits.max(1).indices == labels).double().mean()
    return (usual >= 0.5) & (2 * accuracy < usual)


@bank.also_right("looks_false")
def with_a_default(logits, labels, accuracies):
    usual = statistics.fmean(accuracies[-20:] or [0.0])
    right = int((logits.argmax(-1) == labels).sum())
    return usual >= 0.5 and right / len(labels) < 0.5 * usual


@bank.also_right("looks_false")
def with_numpy(logits, labels, accuracies):
    if len(accuracies) == 0 or np.mean(accuracies[-20:]) < 0.5:
        return False
    guess = logits.detach().numpy().argmax(1)
    return np.mean(guess == labels.numpy()) < np.mean(accuracies[-20:]) / 2


@bank.mistake("looks_false", "has changed: leave it as it was")
def keeps_the_accuracy(logits, labels, accuracies):
    verdict = with_a_default(logits, labels, accuracies)
    accuracies.append(float((logits.argmax(1) == labels).double().mean()))
    return verdict


@bank.mistake("looks_false", "looks_false stopped with StatisticsError")
def of_a_mean_of_nothing(logits, labels, accuracies):
    usual = statistics.mean(accuracies[-20:])
    return usual >= 0.5 and with_a_default(logits, labels, accuracies)


@bank.mistake("looks_false", "no mean to compare with")
def divided_by_their_number(logits, labels, accuracies):
    usual = sum(accuracies[-20:]) / len(accuracies[-20:])
    return with_a_default(logits, labels, accuracies) and usual > 0


@bank.mistake("looks_false", "the verdict is not right")
def always_true(logits, labels, accuracies):
    return True


@bank.mistake("looks_false", "the verdict is not right")
def with_ten_batches(logits, labels, accuracies):
    return with_a_default(logits, labels, accuracies[-10:])


@bank.mistake("looks_false", "should be a number")
def in_words(logits, labels, accuracies):
    return "false" if with_a_default(logits, labels, accuracies) else "true"


# 3. score


def of_other_classes(dz, labels):
    rows = F.normalize(dz.flatten(1))
    return (rows @ rows.T)[labels[:, None] != labels].mean()


def gap(dz, labels):
    rows = F.normalize(dz.flatten(1))
    same = (labels[:, None] == labels).fill_diagonal_(False)
    return (rows @ rows.T)[same].mean() - of_other_classes(dz, labels)


@bank.also_right("score")
def as_alike_as_two_classes_get(history):
    return float(torch.stack([of_other_classes(*seen) for seen in history[-10:]]).mean())


@bank.also_right("score")
def with_two_floors(history):
    latest = history[len(history) // 2 :]
    alike = sum(of_other_classes(*seen) for seen in latest) / len(latest)
    apart = sum(gap(*seen) for seen in latest) / len(latest)
    return max(alike - 0.05, 0.3 - apart, torch.tensor(0.0))


@bank.mistake("score", "reverse its sign")
def high_for_honest_servers(history):
    return torch.stack([gap(*seen) for seen in history[-10:]]).mean()


@bank.mistake("score", "the score should be a number")
def without_a_return(history):
    with_two_floors(history)


@bank.mistake("score", "the score has shape")
def of_each_step(history):
    return torch.stack([seen.dz.norm() for seen in history])


@bank.mistake("score", "look for a division by 0")
def of_pairs_that_are_none(history):
    return history[-1].dz[:0].norm(dim=0).mean() / 0


@bank.mistake("score", "score changes its argument")
def scaled_where_it_lies(history):
    for seen in history:
        seen.dz.mul_(2)
    return 0.0


@bank.mistake("score", "score stopped with IndexError")
def looks_too_far(history):
    return history[40].dz.norm()


@bank.mistake("score", "a part of its own check")
def asks_for_the_runs(history):
    return len(verdict_runs())

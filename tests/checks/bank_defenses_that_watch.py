"""Right and wrong answers to the exercises of chapter 53."""

import math
import statistics

import torch
from bank import Bank
from torch.nn.functional import cosine_similarity

from splitlab.course.checks import defenses_that_watch
from splitlab.defenses.detector import alarm_threshold
from splitlab.defenses.gradient_scrutinizer import similarities
from splitlab.defenses.split_guard import raw_score, squashed

bank = Bank("53_defenses_that_watch", defenses_that_watch)

# 1. gradient_gap


@bank.also_right("gradient_gap")
def pair_by_pair(dz, labels):
    kinds = {True: [], False: []}
    for i in range(len(dz)):
        for j in range(i):
            cosine = cosine_similarity(dz[i].flatten(), dz[j].flatten(), dim=0)
            kinds[bool(labels[i] == labels[j])].append(float(cosine))
    if not all(kinds.values()):
        return None
    return statistics.fmean(kinds[True]) - statistics.fmean(kinds[False])


@bank.also_right("gradient_gap")
def from_the_library(dz, labels):
    found = similarities(dz, labels)
    return None if found is None else 2 * (found[0] - found[2])


@bank.also_right("gradient_gap")
def with_masks_over_both_triangles(dz, labels):
    rows = dz.reshape(len(dz), -1)
    rows = rows / rows.norm(dim=1, keepdim=True)
    alike = (labels[:, None] == labels).to(rows)
    one, two = alike - torch.eye(len(rows)).to(rows), 1 - alike
    if one.sum() == 0 or two.sum() == 0:
        return None
    cosines = rows @ rows.T
    return (cosines * one).sum() / one.sum() - (cosines * two).sum() / two.sum()


@bank.mistake("gradient_gap", "end the function with a return")
def never_judges(dz, labels):
    return None


@bank.mistake("gradient_gap", "the gap is not right")
def between_class_means(dz, labels):
    """Each row against the means of its own and of the other classes."""
    gap = from_the_library(dz, labels)
    if gap is None:
        return None
    means = torch.stack([dz[labels == y].mean(0).flatten() for y in labels.unique()])
    cosines = cosine_similarity(means[:, None], means[None], dim=2)
    return 1 - cosines[~torch.eye(len(means), dtype=torch.bool)].mean()


@bank.mistake("gradient_gap", "draws random numbers")
def of_shuffled_rows(dz, labels):
    order = torch.randperm(len(dz))
    return pair_by_pair(dz[order], labels[order])


@bank.mistake("gradient_gap", "should be a number")
def both_means(dz, labels):
    found = similarities(dz, labels)
    return None if found is None else (found[0], found[2])


# 2. splitguard_score


@bank.also_right("splitguard_score")
def with_the_library(fake, first, second, alpha=5.0, beta=2.0):
    parts = fake, first, second
    means = torch.stack([part.mean(0) for part in parts])
    lengths = torch.stack([part.norm(dim=1).mean() for part in parts])
    return squashed(float(raw_score(means, lengths)), alpha, beta)


@bank.also_right("splitguard_score")
def in_plain_numbers(fake, first, second, alpha=5.0, beta=2.0):
    def mean(part):
        return [math.fsum(column) / len(part) for column in zip(*part.tolist(), strict=True)]

    def length(part):
        return math.fsum(math.hypot(*row) for row in part.tolist()) / len(part)

    def angle(a, b):
        cosine = math.sumprod(a, b) if hasattr(math, "sumprod") else sum(map(float.__mul__, a, b))
        return math.acos(max(-1.0, min(1.0, cosine / math.hypot(*a) / math.hypot(*b))))

    one, two = mean(first), mean(second)
    both = [(a + b) / 2 for a, b in zip(one, two, strict=True)]
    apart = abs(length(fake) - (length(first) + length(second)) / 2)
    within = abs(length(first) - length(second))
    if apart + within == 0:
        return (1 / 2) ** beta
    s = (angle(mean(fake), both) * apart - angle(one, two) * within) / (apart + within)
    return (1 / (1 + math.exp(-alpha * s))) ** beta


@bank.mistake("splitguard_score", "should be a number")
def with_its_s(fake, first, second, alpha=5.0, beta=2.0):
    return 0.0, with_the_library(fake, first, second, alpha, beta)


@bank.mistake("splitguard_score", "the score is not right")
def of_the_halves_swapped_in(fake, first, second, alpha=5.0, beta=2.0):
    return with_the_library(first, fake, second, alpha, beta)


@bank.mistake("splitguard_score", "splitguard_score stopped with")
def along_the_wrong_axis(fake, first, second, alpha=5.0, beta=2.0):
    return with_the_library(fake.T, first.T, second.T, alpha, beta)


WEIGHED = "`weighed = angle(f, r1 + r2) * apart - angle(r1, r2) * within` becomes "
for other in (
    "`weighed = angle(r1 + r2, f) * apart - angle(r1, r2) * within`",
    "`weighed = angle(f, r1 + r2) * apart - angle(r2, r1) * within`",
):
    bank.equivalent("splitguard_score", WEIGHED + other, "the angle of two vectors has no order")

# 3. threshold_for


@bank.also_right("threshold_for")
def from_the_detectors(runs, budget):
    return alarm_threshold([max(run) for run in runs], budget)


@bank.also_right("threshold_for")
def with_a_topk(runs, budget):
    k = int(budget * (1 + len(runs)))
    if not k:
        raise ValueError("There are too few honest runs for this budget: record some more.")
    maxima = torch.tensor([sorted(run)[-1] for run in runs], dtype=torch.float64)
    return maxima.topk(k).values[-1].item()


@bank.mistake("threshold_for", "there is no error where k is 0")
def with_an_index_from_the_end(runs, budget):
    return sorted(map(max, runs))[-max(int(budget * (len(runs) + 1)), 1)]


@bank.mistake("threshold_for", "should raise a ValueError")
def asserts(runs, budget):
    assert budget * (len(runs) + 1) >= 1, "too few runs"
    return from_the_detectors(runs, budget)


@bank.mistake("threshold_for", "should be a number")
def with_its_k(runs, budget):
    return from_the_detectors(runs, budget), int(budget * (len(runs) + 1))


@bank.mistake("threshold_for", "the threshold is not right")
def with_a_margin(runs, budget):
    return from_the_detectors(runs, budget) + 0.01


# 4. race


@bank.also_right("race")
def in_a_loop(scores, threshold, shares):
    for step, score in scores:
        if score > threshold:
            known = 0.0
            for number, share in enumerate(shares):
                if 10 * (number + 1) <= step:
                    known = share
            return [step, known]
    return [None, shares[-1]]


@bank.also_right("race")
def with_a_zero_in_front(scores, threshold, shares):
    alarms = [step for step, score in scores if score > threshold]
    if not alarms:
        return None, shares[-1]
    return min(alarms), torch.tensor([0.0, *shares], dtype=torch.float64)[min(alarms) // 10]


@bank.mistake("race", "the alarm step is None")
def finds_no_alarm(scores, threshold, shares):
    return None, shares[-1]


@bank.mistake("race", "should be a whole number")
def its_score(scores, threshold, shares):
    return max((score for _, score in scores), default=0.0), shares[-1]


@bank.mistake("race", "should have 2 parts")
def with_the_threshold(scores, threshold, shares):
    return (*in_a_loop(scores, threshold, shares), threshold)


@bank.mistake("race", "step or share is not right")
def between_two_looks(scores, threshold, shares):
    step, share = in_a_loop(scores, threshold, shares)
    if step is None or step < 10:
        return step, share
    return step, share + (step % 10) / 10 * (shares[step // 10] - share)


@bank.mistake("race", "step or share is not right")
def at_the_second_score_in_a_row(scores, threshold, shares):
    step, share = in_a_loop(scores, threshold, shares)
    return (step, share) if step is None else (step + 2, share)


@bank.mistake("race", "no score is above the threshold")
def minus_one_for_none(scores, threshold, shares):
    step, share = in_a_loop(scores, threshold, shares)
    return -1 if step is None else step, share

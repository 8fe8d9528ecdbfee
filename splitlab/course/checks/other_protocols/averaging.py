"""Check of the exercise "Average the clinics"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from splitlab.course.checks.base import Answer, CheckFailed, check, same, what, wrong
from splitlab.course.checks.training import memory

State = dict[str, Tensor]
ROUNDING = 1e-6  # relative; the mean may be taken in float32


@check("every image counts the same, whichever clinic has it, and counts stay whole numbers.")
def average(answer: Answer) -> None:
    """`average(states, samples)`: the mean of the clinics' states, weighted by their images."""
    kept = []
    for samples, dtype in (
        ([7, 2, 4], torch.float64),
        ([30, 10], torch.float32),
        ([5, 5], torch.float64),
        ([3], torch.float32),
        ([1, 2, 3, 40], torch.float64),
    ):
        states = [_trained(dtype) for _ in samples]
        given, counts = [dict(state) for state in states], list(samples)
        before = [{name: value.clone() for name, value in state.items()} for state in states]
        averaged = answer(given, counts)
        _check_untouched(states, given, before)
        if counts != samples:
            wrong("the list of numbers of images has changed: leave it as it is")
        _check_entries(averaged, before)
        _check_values(averaged, before, samples)
        taken = {memory(value) for state in states for value in state.values()}
        for name, value in averaged.items():
            if memory(value) in taken:
                wrong(
                    f"the averaged {name} shares its memory with a clinic's own: when that clinic "
                    "trains, the average would change; make a new tensor"
                )
        kept.append((averaged, {name: value.clone() for name, value in averaged.items()}))
        if any(not torch.equal(now[n], then[n]) for now, then in kept for n in then):
            wrong("an earlier average has changed: make new tensors at each call")
    _check_lengths(answer)


def _check_lengths(answer: Answer) -> None:
    """Give a number too few, and one too many."""
    states = [_trained(torch.float32) for _ in range(3)]
    for given, samples in ((states, [7, 2]), (states[:2], [7, 2, 4])):
        gets = f"average gets {len(given)} states and {len(samples)} numbers of images"
        try:
            answer(given, samples)
        except CheckFailed as failure:
            if isinstance(failure.__cause__, ValueError):
                continue
            stops = type(failure.__cause__).__name__
            wrong(f"{gets} and stops with {stops} where a ValueError is asked for")
        wrong(f"{gets} and says nothing: a clinic would be left out silently; raise a ValueError")


def _trained(dtype: torch.dtype) -> State:
    """The state of a clinic's network that has been trained for a while."""
    net = nn.Sequential(nn.Conv2d(2, 3, (2, 1)), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.randn_like(value))
            else:
                value.add_(int(torch.randint(1, 200, ())))
    return net.to(dtype).state_dict()


def _check_untouched(states: list[Any], given: list[Any], before: list[State]) -> None:
    for state, entry, old in zip(states, given, before, strict=True):
        if entry.keys() != state.keys() or any(entry[name] is not state[name] for name in state):
            wrong("a clinic's state has changed: its dictionary holds other entries than before")
        if any(not torch.equal(state[name], old[name]) for name in old):
            wrong(
                "a clinic's weights have changed: state_dict() gives the network's own tensors, so "
                "what you add to them in place is added to its network"
            )


def _check_entries(averaged: Any, states: list[State]) -> None:
    """Compare names, types and shapes with those of a state."""
    first = states[0]
    if not isinstance(averaged, Mapping):
        wrong(f"average should return a dictionary, name -> tensor, and returns {what(averaged)}")
    missing = [name for name in first if name not in averaged]
    if missing:
        wrong(
            f"the average lacks {', '.join(missing)}: a network is its parameters and its "
            "buffers, and BatchNorm's running statistics are needed as soon as it is evaluated"
        )
    if extra := [str(name) for name in averaged if name not in first]:
        wrong(f"{extra[0]} is no entry of the clinics' states")
    for name, value in averaged.items():
        if not isinstance(value, Tensor):
            wrong(f"{name} should be a tensor and is {what(value)}")
        if value.shape != first[name].shape:
            wrong(f"{name} has shape {tuple(value.shape)} where {tuple(first[name].shape)} is due")
        if not first[name].is_floating_point() and value.is_floating_point():
            wrong(
                f"{name} is a count and arrives as {value.dtype}: load_state_dict would "
                "truncate it, so that 2.9999999 becomes 2; round it, and restore its type"
            )
        if value.dtype != first[name].dtype:
            wrong(f"{name} arrives as {value.dtype} and was {first[name].dtype}: keep its type")
        if value.requires_grad:
            wrong(f"{name} requires a gradient: a state holds plain numbers")


def _check_values(averaged: State, states: list[State], samples: list[int]) -> None:
    """Compare with the mean, and name the mean that was taken instead."""
    floats = [name for name, value in states[0].items() if value.is_floating_point()]
    counts = [name for name in averaged if name not in floats]

    def agrees(names: list[str], truth: Callable[[Tensor], Tensor]) -> bool:
        for name in names:
            due = truth(torch.stack([state[name].double() for state in states]))
            if not same(averaged[name].double(), due, ROUNDING):
                return False
        return True

    def weighted(weights: list[float]) -> Callable[[Tensor], Tensor]:
        return lambda stack: sum(w * one for w, one in zip(weights, stack, strict=True))

    total = sum(samples)
    shares = [n / total for n in samples]
    if not agrees(floats, _mean(samples)):
        for message, weights in {
            "every clinic counts the same, however many images it has: weight each by its share of "
            "all images": [1 / len(states)] * len(states),
            "these are sums, weighted by the numbers of images: divide by the number of all "
            "images": [float(n) for n in samples],
            "these are sums over the clinics: an average has weights that sum to 1": [1.0]
            * len(states),
            "the weights are upside down: a clinic with more images counts more": [
                (1 / n) / sum(1 / m for m in samples) for n in samples
            ],
        }.items():
            if agrees(floats, weighted(weights)):
                wrong(message)
        if any(agrees(floats, weighted(list(order))) for order in permutations(shares)):
            wrong(
                "the numbers of images went to the wrong clinics: states and samples are in the "
                "same order"
            )
        for number in range(len(states)):
            if agrees(floats, lambda stack, number=number: stack[number]):
                wrong(f"only clinic {number + 1} of {len(states)} counts: average over all of them")
        wrong(
            "these are not the means: each number is the sum of the clinics' numbers, each times "
            "its share of all images"
        )
    for name in counts:
        due = _mean(samples)(torch.stack([state[name].double() for state in states]))
        off = averaged[name] - due
        if off.abs().max() > 0.5 + ROUNDING:  # a tie may go either way
            if (off > -1).all() and (off <= ROUNDING).all():
                wrong(f"{name} is truncated: an integer type drops the fraction, so round first")
            wrong(
                f"{name} is not the rounded mean of the clinics' counts: average it like the "
                "weights, then round it"
            )


def _mean(samples: list[int]) -> Callable[[Tensor], Tensor]:
    """The slow truth: every clinic's numbers once for each of its images."""
    rows = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(samples))
    return lambda stack: stack[rows].mean(0)

"""Exercise 2: the mean of the clinics' networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from splitlab.course.checks.judge import exercise

State = dict[str, Tensor]
Average = Callable[[list[State], list[int]], State]


def _states(clinics: int) -> list[State]:
    """The states of clinics' networks that have been trained for a while."""
    states = []
    for _ in range(clinics):
        net = nn.Sequential(nn.Conv2d(2, 3, (2, 1)), nn.BatchNorm2d(3), nn.Linear(4, 5))
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.randn_like(value))
            else:
                value.add_(int(torch.randint(1, 200, ())))
        states.append(net.state_dict())
    return states


def _single() -> tuple[list[State], list[int]]:
    """Single precision, with numbers of few digits, which no order of operations rounds."""
    (state,) = _states(1)
    single = {n: v.mul(64).round().div(64).float() for n, v in state.items()}
    counts = {n: v for n, v in state.items() if not v.is_floating_point()}
    return [single | counts], [3]


def _with(
    weights: Callable[[list[int]], list[float]] = lambda samples: [
        n / sum(samples) for n in samples
    ],
    whole: Callable[[Tensor], Tensor] = torch.round,
) -> Average:
    """An answer with other weights, by the numbers of images, or other whole numbers."""

    def answer(states: list[State], samples: list[int]) -> State:
        averaged = {}
        for name, first in states[0].items():
            pairs = zip(states, weights(samples), strict=True)
            mean = torch.stack([weight * state[name].double() for state, weight in pairs]).sum(0)
            averaged[name] = (mean if first.is_floating_point() else whole(mean)).to(first.dtype)
        return averaged

    return answer


def _changed(change: Callable[[State, list[State]], State]) -> Average:
    """A right answer, and then a change: (average, states) -> what differs."""

    def answer(states: list[State], samples: list[int]) -> State:
        averaged = _with()(states, samples)
        return averaged | change(averaged, states)

    return answer


def _without(*words: str) -> Average:
    def answer(states: list[State], samples: list[int]) -> State:
        averaged = _with()(states, samples)
        return {n: v for n, v in averaged.items() if not any(word in n for word in words)}

    return answer


def _counts(states: list[State], count: Callable[[list[Tensor]], Tensor]) -> State:
    names = [name for name, value in states[0].items() if not value.is_floating_point()]
    return {name: count([state[name] for state in states]) for name in names}


def _upside_down(samples: list[int]) -> list[float]:
    return [1 / n / sum(1 / m for m in samples) for n in samples]


def _in_place(states: list[State], samples: list[int]) -> State:
    averaged = _with()(states, samples)
    for name, value in states[0].items():
        value.copy_(averaged[name])
    return averaged


def _silently(states: list[State], samples: list[int]) -> State:
    shortest = min(len(states), len(samples))
    return _with()(states[:shortest], samples[:shortest])


def _by_number(states: list[State], samples: list[int]) -> State:
    return _with()(states, [samples[number] for number in range(len(states))])


@exercise(
    cases=[
        lambda: (_states(3), [7, 2, 4]),
        lambda: (_states(4), [1, 2, 3, 41]),
        lambda: (_states(3), [5, 5, 5]),
        _single,
        lambda: (_states(3), [7, 2]),
        lambda: (_states(2), [7, 2, 4]),
    ],
    returns="the average",
    types=True,
    praise="every image counts the same, whichever clinic has it, and counts stay whole numbers.",
    otherwise="these are not the means: each number is the sum of the clinics' numbers, each times "
    "its share of all images; a count is such a mean, rounded",
    slips={
        # These first: who says nothing where an error is due is like any slip that says nothing.
        "average does not raise where states and samples differ in length, so a clinic would be "
        "left out silently: raise a ValueError": _silently,
        "average raises an IndexError, or nothing, where states and samples differ in length: "
        "raise a ValueError": _by_number,
        "every clinic counts the same, however many images it has: weight each by its share of all "
        "images": _with(lambda samples: [1 / len(samples)] * len(samples)),
        "these are sums, weighted by the numbers of images: divide by the number of all images": (
            _with(lambda samples: [float(n) for n in samples])
        ),
        "these are sums over the clinics: an average has weights that sum to 1": _with(
            lambda samples: [1.0] * len(samples)
        ),
        "the weights are upside down: a clinic with more images counts more": _with(_upside_down),
        "the numbers of images went to the wrong clinics: states and samples are in the same "
        "order": lambda states, samples: _with()(states, sorted(samples)),
        "only the first clinic counts: average over all of them": (
            lambda states, samples: {n: v.clone() for n, v in states[0].items()}
        ),
        "only the last clinic counts: average over all of them": (
            lambda states, samples: {n: v.clone() for n, v in states[-1].items()}
        ),
        "the average lacks the running statistics and their count: a network is its parameters and "
        "its buffers, and BatchNorm's are needed as soon as it is evaluated": _without(
            "running", "num_batches"
        ),
        "the average lacks the running statistics: a network is its parameters and its buffers, "
        "and BatchNorm's are needed as soon as it is evaluated": _without("running"),
        "the average lacks the counts of batches: they belong to the network, too": _without(
            "num_batches"
        ),
        "a count arrives as a number with a fraction: load_state_dict would truncate it, so that "
        "2.9999999 becomes 2; round it, and restore its type": _changed(
            lambda averaged, states: _counts([averaged], lambda counts: counts[0].double())
        ),
        "the counts are truncated: an integer type drops the fraction, so round first": _with(
            whole=torch.floor
        ),
        "the counts are those of the first clinic: average them like the weights, then round": (
            _changed(lambda averaged, states: _counts(states, lambda counts: counts[0].clone()))
        ),
        "the counts are added up: average them like the weights, then round": _changed(
            lambda averaged, states: _counts(states, lambda counts: torch.stack(counts).sum(0))
        ),
        "a clinic's weights have changed: state_dict() gives the network's own tensors, so what "
        "you add to them in place is added to its network": _in_place,
    },
)
def average(states: list[State], samples: list[int]) -> State:
    return _with()(states, samples)

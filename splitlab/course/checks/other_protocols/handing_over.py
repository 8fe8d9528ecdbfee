"""Check of the exercise "Hand over"."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from splitlab.course.checks.base import Answer, check, same, wrong
from splitlab.course.checks.training import RATE, memory, weights
from splitlab.nets.evaluation import evaluating

STEPS = 3  # in a turn
TURNS = 5  # the receiver of the later ones has an old optimizer's state of its own


@check("each clinic continues exactly where the one before it stopped, in memory of its own.")
def hand_over(answer: Answer) -> None:
    """`hand_over(giver, giver_optimizer, receiver, receiver_optimizer)`: at the end of a turn."""
    for name, optimizer in {
        "Adam": functools.partial(Adam, lr=RATE),
        "SGD with momentum": functools.partial(SGD, lr=RATE, momentum=0.9),
        "plain SGD": functools.partial(SGD, lr=RATE),
    }.items():
        clinics = [_Clinic(optimizer, name) for _ in range(2)]
        whole = clinics[0].copy()
        for number in range(TURNS):
            giver, receiver = clinics[number % 2], clinics[1 - number % 2]
            for _ in range(STEPS):
                x = torch.randn(4, 2, 3, 4, dtype=torch.float64)
                giver.step(x)
                whole.step(x)
            if number == 1:  # a schedule, whose rate goes with the optimizer's state
                for one in (giver, whole):
                    one.optimizer.param_groups[0]["lr"] /= 4
            _hand_over_once(answer, giver, receiver)
        if not same(weights(clinics[TURNS % 2].net), weights(whole.net)):
            wrong(
                "after some turns the network is not that of whole training, although each turn "
                "began as it should: something that one of the two holds changes when the other "
                "trains"
            )


class _Clinic:
    """A client's network f, and its optimizer."""

    def __init__(self, optimizer: Callable[..., Optimizer], name: str) -> None:
        self.net: nn.Module = nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(3 * 3 * 4, 2),
        ).double()
        self.optimizer = optimizer(self.net.parameters())
        self.optimizer_name = name

    def copy(self) -> _Clinic:
        """A clinic that shares nothing: its optimizer steps on its own network."""
        return copy.deepcopy(self)

    def step(self, x: Tensor) -> None:
        """Train on one batch: the rest of the training, server and all, stands in one line."""
        self.net.train()
        loss = (self.net(x) - x.flatten(1)[:, :2]).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """The network's state, and the optimizer's, copied."""
        held = {name: value.clone() for name, value in self.net.state_dict().items()}
        return held | {f"optimizer {n}": v.clone() for n, v in enumerate(self.averages())}

    def averages(self) -> Iterator[Tensor]:
        """The tensors that the optimizer keeps, those of the first weight first."""
        for parameter in self.net.parameters():
            for value in self.optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor):
                    yield value

    def memory(self) -> dict[int, str]:
        """Where everything lies that this clinic trains with."""
        taken = {memory(value): "weights" for value in self.net.parameters()}
        taken |= {memory(value): "running statistics" for value in self.net.buffers()}
        return taken | {memory(value): "optimizer's state" for value in self.averages()}


def _hand_over_once(answer: Answer, giver: _Clinic, receiver: _Clinic) -> None:
    """Have one turn handed over, and say what did not arrive."""
    given, old = giver.copy(), receiver.copy()
    answer.act(giver.net, giver.optimizer, receiver.net, receiver.optimizer)
    _check_giver(giver, given, old)
    _check_weights(receiver, given, old)
    _check_statistics(receiver, given)
    _check_own_weights(receiver)
    shared = {place: what for place, what in giver.memory().items() if place in receiver.memory()}
    for part in ("weights", "running statistics"):
        if part in shared.values():
            wrong(
                f"the {part} lie in memory that giver and receiver share: when one of them trains, "
                "the other changes; copy the numbers"
            )
    _check_next_step(receiver, given, old)
    if shared:
        wrong(
            "the optimizer's state lies in memory that giver and receiver share: an optimizer's "
            "load_state_dict keeps the very tensors that it is given, so copy them before it"
        )


def _check_giver(giver: _Clinic, given: _Clinic, old: _Clinic) -> None:
    now, before = giver.state(), given.state()
    if _agree(now, before) and _rates(giver) == _rates(given):
        return
    if same(weights(giver.net), weights(old.net)):
        wrong(
            "it went the wrong way: the giver now has the receiver's weights, and its turn is lost"
        )
    wrong("the giver has changed: leave it as it is")


def _check_weights(receiver: _Clinic, given: _Clinic, old: _Clinic) -> None:
    if same(weights(receiver.net), weights(given.net)):
        return
    if same(weights(receiver.net), weights(old.net)):
        wrong("no weights arrived: the receiver's network has not changed")
    if same(weights(receiver.net), (weights(given.net) + weights(old.net)) / 2):
        wrong(
            "the weights are the mean of both networks': in turns, the receiver takes the giver's"
        )
    names = [
        name
        for (name, mine), due in zip(
            receiver.net.named_parameters(), given.net.parameters(), strict=True
        )
        if not same(mine.detach(), due.detach())
    ]
    wrong(f"the weights arrived in part: {', '.join(names)} differ from the giver's")


def _check_statistics(receiver: _Clinic, given: _Clinic) -> None:
    pairs = zip(receiver.net.named_buffers(), given.net.buffers(), strict=True)
    names = [name for (name, mine), due in pairs if not same(mine.double(), due.double())]
    if not names:
        return
    x = torch.randn(8, 2, 3, 4, dtype=torch.float64)
    with evaluating(receiver.net, given.net):
        off = (receiver.net(x) - given.net(x)).abs().max().item()
    wrong(
        f"the weights arrived, but BatchNorm's {', '.join(name.split('.')[-1] for name in names)} "
        "stayed behind: "
        + (
            f"in evaluation mode the receiver's outputs are off by up to {off:.2g}"
            if off
            else "its count of batches is part of the network that whole training ends with"
        )
    )


def _check_own_weights(receiver: _Clinic) -> None:
    steps_on = {id(p) for group in receiver.optimizer.param_groups for p in group["params"]}
    if steps_on != {id(parameter) for parameter in receiver.net.parameters()}:
        wrong(
            "the receiver's optimizer does not step on the receiver's weights: copy the "
            "numbers into the receiver's own tensors, and do not replace these tensors"
        )
    if not all(parameter.requires_grad for parameter in receiver.net.parameters()):
        wrong("the receiver's weights no longer require gradients, so it cannot train")


def _check_next_step(receiver: _Clinic, given: _Clinic, old: _Clinic) -> None:
    """Let copies take the step that comes next, and compare."""
    if _rates(receiver) != _rates(given):
        wrong(
            f"the weights arrived, but the learning rate stayed behind: the giver's optimizer has "
            f"{_rates(given)[0]:g}, and the receiver's has {_rates(receiver)[0]:g}"
        )
    x = torch.randn(4, 2, 3, 4, dtype=torch.float64)
    start = weights(given.net)
    moved, due = (_after(clinic, x) - start for clinic in (receiver, given))
    if same(moved, due) and _agree(receiver.state(), given.state()):
        return
    name, times = given.optimizer_name, (moved.norm() / due.norm()).item()
    if not list(receiver.averages()):
        wrong(
            f"the weights arrived, but {name} starts anew: its first step is {times:.2f} times as "
            "long as the step that whole training takes there"
        )
    if _agree(dict(enumerate(receiver.averages())), dict(enumerate(old.averages()))):
        wrong(
            f"the weights arrived, but {name} goes on with what the receiver's own last turn left "
            f"in it: its next step is {times:.2f} times as long as in whole training"
        )
    wrong(
        f"the weights arrived, but only a part of the state of {name}: its next step is "
        f"{times:.2f} times as long as in whole training"
    )


def _after(clinic: _Clinic, x: Tensor) -> Tensor:
    """The weights that one more step would give; the clinic stays as it is."""
    one = clinic.copy()
    one.step(x)
    return weights(one.net)


def _rates(clinic: _Clinic) -> list[float]:
    return [group["lr"] for group in clinic.optimizer.param_groups]


def _agree(one: dict[Any, Tensor], other: dict[Any, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        same(one[name].double(), other[name].double()) for name in one
    )

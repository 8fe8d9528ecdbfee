"""Exercise 3: everything that the next clinic needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from splitlab.course.checks.guard import wrong
from splitlab.course.checks.judge import exercise

Clinic = tuple[nn.Sequential, Optimizer]
Four = tuple[nn.Module, Optimizer, nn.Module, Optimizer]
STEPS = 3  # in a turn


def _clinic(optimizer: Callable[..., Optimizer]) -> Clinic:
    """A client's network, in part frozen, and its optimizer, of two groups."""
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(3 * 3 * 4, 2),
    )
    net[4].bias.requires_grad_(False)
    groups = [{"params": part.parameters()} for part in (net[:4], net[4:])]
    return net, optimizer(groups, lr=0.1)


def _train(net: nn.Module, optimizer: Optimizer) -> None:
    """Take a turn of a few steps, on a loss that needs no server."""
    for _ in range(STEPS):
        x = torch.randn(4, 2, 3, 4)
        (net(x) - x.flatten(1)[:, :2]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def _case(
    optimizer: Callable[..., Optimizer], turns: int = 1, *, before: bool = False
) -> Callable[[], Iterator[Four]]:
    """Two clinics hand over to each other in turn.

    Args:
        optimizer: Of both.
        turns: How many.
        before: Whether the first receiver has already had a turn.
    """

    def case() -> Iterator[Four]:
        giver, receiver = _clinic(optimizer), _clinic(optimizer)
        if before:
            _train(*receiver)
        for _ in range(turns):
            _train(*giver)
            for number, group in enumerate(giver[1].param_groups):
                group["lr"] /= 2 + number  # a schedule, whose rates go along
            yield *giver, *receiver
            giver, receiver = receiver, giver

    return case


def _still_its_own(result: Any, *clinics: Any) -> Any:
    """Check that each optimizer steps on its own network.

    Raises:
        CheckFailed: If one does not.
    """
    for who, net, optimizer in zip(("giver", "receiver"), clinics[::2], clinics[1::2], strict=True):
        steps_on = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if steps_on != {id(parameter) for parameter in net.parameters()}:
            wrong(
                f"the {who}'s optimizer does not step on the {who}'s weights: copy the numbers "
                "into the receiver's own tensors, and do not replace these tensors"
            )
    return result


def _network(giver: nn.Module, receiver: nn.Module) -> None:
    receiver.load_state_dict(giver.state_dict())


def _optimizer(giver: Optimizer, receiver: Optimizer) -> None:
    receiver.load_state_dict(copy.deepcopy(giver.state_dict()))


def _nothing(giver: Any, receiver: Any) -> None:
    """Leave a part where it is."""


def _with(
    network: Callable[[Any, Any], None] = _network,
    optimizer: Callable[[Any, Any], None] = _optimizer,
) -> Callable[..., None]:
    """An answer that hands one part over in another way."""

    def answer(giver: Any, giver_optimizer: Any, receiver: Any, receiver_optimizer: Any) -> None:
        network(giver, receiver)
        optimizer(giver_optimizer, receiver_optimizer)

    return answer


def _middle(giver: nn.Module, receiver: nn.Module) -> None:
    pairs = zip(giver.state_dict().values(), receiver.state_dict().values(), strict=True)
    for one, other in pairs:
        other.copy_((one + other) / 2)


def _without(*words: str) -> Callable[[nn.Module, nn.Module], None]:
    def network(giver: nn.Module, receiver: nn.Module) -> None:
        own = receiver.state_dict()
        for name, value in giver.state_dict().items():
            if not any(word in name for word in words):
                own[name].copy_(value)

    return network


def _state(receiver: Optimizer) -> Iterator[dict[str, Any]]:
    yield from (receiver.state[p] for group in receiver.param_groups for p in group["params"])


def _rates_stay(giver: Optimizer, receiver: Optimizer) -> None:
    rates = [group["lr"] for group in receiver.param_groups]
    _optimizer(giver, receiver)
    for group, rate in zip(receiver.param_groups, rates, strict=True):
        group["lr"] = rate


def _rates_alone(giver: Optimizer, receiver: Optimizer) -> None:
    for one, other in zip(giver.param_groups, receiver.param_groups, strict=True):
        other["lr"] = one["lr"]


def _first_time_alone(giver: Optimizer, receiver: Optimizer) -> None:
    (_rates_alone if receiver.state else _optimizer)(giver, receiver)


def _uncounted(giver: Optimizer, receiver: Optimizer) -> None:
    _optimizer(giver, receiver)
    for state in _state(receiver):
        if "step" in state:
            state["step"].zero_()


def _adam_alone(giver: Optimizer, receiver: Optimizer) -> None:
    if isinstance(giver, Adam):
        _optimizer(giver, receiver)


_momentum = partial(SGD, momentum=0.9)


@exercise(
    cases=[
        _case(Adam),
        _case(_momentum),
        _case(Adam, before=True),
        _case(_momentum, before=True),
        _case(SGD, 3),
        _case(Adam, 5),
        _case(_momentum, 4, before=True),
    ],
    use=_still_its_own,
    praise="each clinic continues exactly where the last one stopped, without sharing memory.",
    otherwise={
        "": "the receiver's network or optimizer differs from the giver's: hand over all of its "
        "weights and buffers, and the optimizer's state and settings",
        "receiver": "the weights arrived in part, or changed on the way: the receiver takes over "
        "all of the giver's numbers, biases too",
    },
    slips={
        # What is looked at last comes first: there, these may be like others in all that follows.
        "the weights arrived, but the optimizer starts anew, or goes on with what the receiver's "
        "own last turn left in it: hand its state over, too": _with(optimizer=_nothing),
        "the weights and the learning rate arrived, but the optimizer starts anew, or goes on with "
        "what the receiver's own last turn left in it: hand over its state, too": _with(
            optimizer=_rates_alone
        ),
        "the optimizer's state arrives only the first time: later, the optimizer goes on with what "
        "the receiver's own last turn left in it": _with(optimizer=_first_time_alone),
        "the state of Adam arrives, but SGD with momentum starts anew: hand over whatever the "
        "optimizer holds, without asking what it is": _with(optimizer=_adam_alone),
        "the weights and the optimizer's averages arrived, but the learning rate stayed behind": (
            _with(optimizer=_rates_stay)
        ),
        "the weights arrived, but only a part of the state of Adam: it counts its steps, too": (
            _with(optimizer=_uncounted)
        ),
        "the optimizer's state lies in memory that giver and receiver share: an optimizer's "
        "load_state_dict keeps the very tensors that it is given, so copy them before it": _with(
            optimizer=_network  # the same call as a network's, and this time nothing is copied
        ),
        "the weights arrived, but BatchNorm's running statistics stayed behind: in evaluation mode "
        "the receiver's outputs are off": _with(_without("running", "num_batches")),
        "the weights arrived, but BatchNorm's num_batches_tracked stayed behind: its count of "
        "batches is part of the network that whole training ends with": _with(
            _without("num_batches")
        ),
        "the weights are the mean of both networks': in turns, the receiver takes the giver's": (
            _with(_middle)
        ),
        "no weights arrived: the receiver's network has not changed, and an assignment to a name "
        "inside a function has no effect outside of it": _with(_nothing),
        "it went the wrong way: the giver now has what the receiver had, and its turn is lost": (
            lambda giver, giver_optimizer, receiver, receiver_optimizer: _with()(
                receiver, receiver_optimizer, giver, giver_optimizer
            )
        ),
    },
)
def hand_over(
    giver: nn.Module, giver_optimizer: Optimizer, receiver: nn.Module, receiver_optimizer: Optimizer
) -> None:
    _with()(giver, giver_optimizer, receiver, receiver_optimizer)

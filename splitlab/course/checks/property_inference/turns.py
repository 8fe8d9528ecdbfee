"""Exercise 4: one turn of the hijack with a head in the decoder's place."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from splitlab.core.messages import SmashedData
from splitlab.course.checks.base import Answer, check
from splitlab.course.checks.hijack_turn_old import (
    CLASSES,
    Attacker,
    Design,
    Given,
    Optimizers,
    Turns,
)


@check("three networks moved, each by its own loss, and the client's labels moved nothing.")
def property_turn(answer: Answer) -> None:
    """`property_turn(message, x_public, known, ...)`: one turn; returns dz."""
    turns = Turns(DESIGN)
    for step, (size, public) in enumerate(((4, 4), (5, 3), (1, 2))):

        def take(given: Given, nets: Attacker, optimizers: Optimizers, step: int = step) -> Any:
            message = SmashedData(sender="client", step=step, z=given.z, labels=given.labels)
            networks = nets.pilot, nets.behind, nets.critic
            return answer(message, given.x, given.known, *networks, *optimizers)

        turns.judge(size, public, take)


def _scores(nets: Attacker, given: Given) -> Tensor:
    return nets.behind(nets.pilot(given.x))


def _loss(nets: Attacker, given: Given) -> Tensor:
    return F.cross_entropy(_scores(nets, given), given.known)


def _with_the_clients_labels(nets: Attacker, given: Given) -> Tensor | None:
    if len(given.labels) != len(given.x):
        return None
    return F.cross_entropy(_scores(nets, given), given.labels)


def _across(nets: Attacker, given: Given) -> Tensor | None:
    if len(given.z) != len(given.known):
        return None
    return F.cross_entropy(nets.behind(given.z), given.known)


def _task(nets: Attacker, given: Given) -> Tensor:
    return F.cross_entropy(nets.behind(given.z), given.labels)


def _of_logits(nets: Attacker, given: Given) -> Tensor:
    """What the critic would minimise if it looked at what the head says."""
    private = nets.critic(nets.behind(given.z)).mean()
    return nets.critic(nets.behind(nets.pilot(given.x))).mean() - private


DESIGN = Design(
    function="property_turn",
    behind="head",
    net=lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, CLASSES)),
    z="message.z",
    loss=_loss,
    mean="the public images of the cross-entropy of head(pilot(x_public)) with known",
    others={
        "pilot and head learn the labels that came with the client's batch, as if they were the "
        "public images': their labels are known": _with_the_clients_labels,
        "the head learns the client's labels from the client's z, which is the honest task: (1) is "
        "about public images and their property alone": _task,
        "the head learns from the client's z and the public images' property, which have nothing "
        "to do with each other: (1) is about head(pilot(x_public))": _across,
        "the loss of pilot and head has the honest task in it, too: (1) has no private part": (
            lambda nets, given: _loss(nets, given) + _task(nets, given)
        ),
        "the loss of pilot and head is a sum: (1) is the mean over the public images": (
            lambda nets, given: _loss(nets, given) * len(given.x)
        ),
        "the head's scores go through a softmax before the cross-entropy, which has one of its "
        "own": lambda nets, given: F.cross_entropy(_scores(nets, given).softmax(1), given.known),
        "the loss of pilot and head is a squared error: (1) is the cross-entropy": (
            lambda nets, given: F.mse_loss(
                _scores(nets, given).softmax(1), F.one_hot(given.known, CLASSES).double()
            )
        ),
    },
    scores={
        "the critic learns from what the head makes of z: it compares features with features, so "
        "show it z and z_public": _of_logits,
    },
    pulls={
        "dz comes through the head: (3) is the critic's score of z itself, and what the head says "
        "of it plays no part": lambda nets, given: nets.critic(nets.behind(given.z)).mean(),
        "dz is the gradient of a task, the cross-entropy of head(z) with the client's labels: so "
        "an honest server answers, and nothing pulls z towards the pilot's features": _task,
    },
)

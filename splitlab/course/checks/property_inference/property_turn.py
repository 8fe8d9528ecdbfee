"""Exercise 4: one turn of the hijack with a head instead of a decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from splitlab.core.messages import SmashedData
from splitlab.course.checks.hijack_turn import SIZES, Turn, add_slips, attacker, variant
from splitlab.course.checks.judge import exercise

CLASSES = 12  # as many as z has numbers, so that the critic could score logits, too


class _Turn(Turn):
    message: SmashedData
    known: Tensor

    def own_loss(self) -> Tensor:
        return F.cross_entropy(self.scores(), self.known)

    def scores(self) -> Tensor:
        scores: Tensor = self.behind(self.z_public)
        return scores

    def task(self, z: Tensor) -> Tensor:
        """The loss that an honest server's head would minimize."""
        return F.cross_entropy(self.behind(z), cast("Tensor", self.message.labels))


def _take(turn: Any, message: SmashedData, x_public: Tensor, known: Tensor, *rest: Any) -> Tensor:
    turn.message, turn.client_z, turn.x, turn.known = message, message.z, x_public, known
    turn.pilot, turn.behind, turn.critic, turn.own_optimizer, turn.critic_optimizer = rest
    dz: Tensor = turn.take()
    return dz


def _turns(make: Callable[..., Optimizer]) -> Callable[[], Iterator[tuple[Any, ...]]]:
    """Several turns of one attacker; the client's and the public batch differ in size."""

    def case() -> Iterator[tuple[Any, ...]]:
        networks = attacker(nn.Sequential(nn.Flatten(), nn.Linear(12, CLASSES)), make)
        for step, (size, public) in enumerate(SIZES):
            z, labels = torch.randn(size, 2, 2, 3), torch.randint(CLASSES, (size,))
            message = SmashedData(sender="client", step=step, z=z, labels=labels)
            x, known = 2 * torch.rand(public, 1, 4, 6) - 1, torch.randint(CLASSES, (public,))
            yield message, x, known, *networks

    return case


@exercise(
    cases=[_turns(SGD), _turns(partial(SGD, momentum=0.5))],
    returns="dz",
    praise="three networks moved, each by its own loss, and the client's labels had no effect.",
    otherwise={
        "dz": "dz is not the gradient of (3), the mean score of message.z under the critic as it "
        "was",
        "critic": "the critic's step does not follow (2), mean critic(z_public) - mean "
        "critic(message.z), at the old parameters: look at what has been added to its .grad, and "
        "how often it steps",
        "": "the step of pilot and head does not follow (1), the mean over the public images of "
        "the cross-entropy of head(pilot(x_public)) with known, at the old parameters: look at "
        "your loss, and at what has been added to their .grad",
    },
)
def property_turn(
    message: SmashedData,
    x_public: Tensor,
    known: Tensor,
    pilot: nn.Module,
    head: nn.Module,
    critic: nn.Module,
    classifier_optimizer: Optimizer,
    critic_optimizer: Optimizer,
) -> Tensor:
    networks = pilot, head, critic, classifier_optimizer, critic_optimizer
    return _take(_Turn(), message, x_public, known, *networks)


add_slips(property_turn, _Turn, _take, own="pilot and head")


_with = partial(variant, _Turn, _take)


def _critic_of_logits(turn: _Turn) -> Tensor:
    public, private = (turn.behind(z).detach() for z in (turn.z_public, turn.client_z))
    loss: Tensor = turn.critic(public).mean() - turn.critic(private).mean()
    return loss


property_turn.slips |= {
    "pilot and head learn the labels that came with the client's batch, as if they were the public "
    "images': their labels are known": _with(
        own_loss=lambda turn: F.cross_entropy(turn.scores(), turn.message.labels)
    ),
    "the head learns the client's labels from the client's z, which is the honest task: (1) is "
    "about public images and their property alone": _with(
        own_loss=lambda turn: turn.task(turn.client_z)
    ),
    "the head learns from the client's z and the public images' property, which have nothing to do "
    "with each other: (1) is about head(pilot(x_public))": _with(
        own_loss=lambda turn: F.cross_entropy(turn.behind(turn.client_z), turn.known)
    ),
    "the loss of pilot and head has the honest task in it, too: (1) has no private part": _with(
        own_loss=lambda turn: _Turn.own_loss(turn) + turn.task(turn.client_z)
    ),
    "the loss of pilot and head is a sum: (1) is the mean over the public images": _with(
        own_loss=lambda turn: F.cross_entropy(turn.scores(), turn.known, reduction="sum")
    ),
    "the head's scores go through a softmax before the cross-entropy, which has one of its own": (
        _with(own_loss=lambda turn: F.cross_entropy(turn.scores().softmax(1), turn.known))
    ),
    "the loss of pilot and head is a squared error: (1) is the cross-entropy": _with(
        own_loss=lambda turn: F.mse_loss(
            turn.scores().softmax(1), F.one_hot(turn.known, CLASSES).to(turn.z_public)
        )
    ),
    "the critic learns from what the head makes of z: it compares features with features, so show "
    "it z and z_public": _with(critic_loss=_critic_of_logits),
    "dz comes through the head: (3) is the critic's score of z itself, and what the head says of "
    "it plays no part": _with(client_loss=lambda turn, z: turn.critic(turn.behind(z)).mean()),
    "dz is the gradient of a task, the cross-entropy of head(z) with the client's labels: so an "
    "honest server answers, and nothing pulls z toward the pilot's features": _with(
        client_loss=lambda turn, z: turn.task(z)
    ),
}

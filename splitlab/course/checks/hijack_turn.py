"""One whole turn of a hijack, in parts, and the mistakes possible in any such turn.

The turns of chapters 32 and 35 differ in one loss: what the server's own networks (pilot and
decoder; pilot and head) learn on public images. (1) is that loss, (2) the critic's without its
penalty, and (3) the one whose gradient the client gets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from splitlab.course.checks.judge import Exercise
from splitlab.course.checks.worlds import small_critic

RATE = 0.1  # of plain descent, so that a step is in proportion to its gradient


class Turn:
    """A correct turn, except for `own_loss`. A slip overrides one part."""

    client_z: Tensor
    x: Tensor  # public images
    z_public: Tensor
    pilot: nn.Module
    behind: nn.Module
    critic: nn.Module
    own_optimizer: Optimizer
    critic_optimizer: Optimizer

    def take(self) -> Tensor:
        """Let all three networks learn; return dz."""
        dz = self.dz()
        self.z_public = self.pilot(self.x)
        self.learn_own()
        self.learn_critic()
        self.own_optimizer.step()
        self.critic_optimizer.step()
        return self.result(dz)

    def own_loss(self) -> Tensor:
        """Equation (1)."""
        raise NotImplementedError

    def critic_loss(self) -> Tensor:
        """Equation (2), without the penalty."""
        return self.critic(self.z_public.detach()).mean() - self.critic(self.client_z).mean()

    def client_loss(self, z: Tensor) -> Tensor:
        """Equation (3)."""
        loss: Tensor = self.critic(z).mean()
        return loss

    def dz(self) -> Tensor:
        """The gradient of (3)."""
        z = self.client_z.detach().requires_grad_()
        return torch.autograd.grad(self.client_loss(z), z)[0]

    def learn_own(self) -> None:
        """Fill the gradients of (1)."""
        self.own_optimizer.zero_grad()
        self.own_loss().backward()

    def learn_critic(self) -> None:
        """Fill the gradients of (2)."""
        self.critic_optimizer.zero_grad()
        self.critic_loss().backward()

    def result(self, dz: Tensor) -> Tensor:
        """Return dz, once all steps are taken."""
        return dz


SIZES = ((4, 4), (5, 3), (1, 2))  # of the client's and of the public batch, turn by turn


def attacker(behind: nn.Module, make: Callable[..., Optimizer]) -> tuple[Any, ...]:
    """Return a pilot, the network behind it, a critic of z (2, 2, 3), and their two optimizers."""
    pilot = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Tanh())
    critic = small_critic(12)
    own = make([{"params": pilot.parameters()}, {"params": behind.parameters()}], lr=RATE)
    return pilot, behind, critic, own, make(critic.parameters(), lr=RATE)


def variant(
    right: type[Turn], take: Callable[..., Tensor], **parts: Callable[..., Any]
) -> Callable[..., Tensor]:
    """Return an answer that takes the correct turn except for some of its parts."""
    return lambda *given: take(type("Variant", (right,), parts)(), *given)


def add_slips(
    exercise: Exercise, right: type[Turn], take: Callable[..., Tensor], *, own: str
) -> None:
    """Register the mistakes that are possible in any turn.

    Args:
        exercise: What to add them to.
        right: The right turn.
        take: (turn, *arguments) -> dz: it takes the turn on the exercise's arguments.
        own: What the messages call the networks of (1): "pilot and decoder".
    """
    behind = own.split()[-1]

    def slip(message: str, **parts: Callable[..., Any]) -> None:
        exercise.slip(message)(variant(right, take, **parts))

    def dz_left_in_grad(turn: Turn) -> Tensor | None:
        turn.client_z = turn.client_z.detach().requires_grad_()
        turn.client_loss(turn.client_z).backward()
        return turn.client_z.grad

    def critic_steps_again(turn: Turn, dz: Tensor) -> Tensor:
        turn.critic_optimizer.step()
        return dz

    def of_attached(turn: Turn) -> Tensor:
        loss: Tensor = turn.critic(turn.z_public).mean() - turn.critic(turn.client_z).mean()
        return loss

    def with_cross_entropy(turn: Turn) -> Tensor:
        public, private = turn.critic(turn.z_public.detach()), turn.critic(turn.client_z)
        return F.softplus(public).mean() + F.softplus(-private).mean()

    def own_steps_first(turn: Turn) -> None:
        right.learn_own(turn)
        turn.own_optimizer.step()
        turn.own_optimizer.zero_grad()
        turn.z_public = turn.pilot(turn.x)

    def own_keeps_its_graph(turn: Turn) -> None:
        turn.own_optimizer.zero_grad()
        turn.own_loss().backward(retain_graph=True)

    def own_of_detached(turn: Turn) -> Tensor:
        attached, turn.z_public = turn.z_public, turn.z_public.detach()
        loss = right.own_loss(turn)
        turn.z_public = attached
        return loss

    slip(
        "dz is 0: the critic's backward pass went on adding to the very tensor that you return, so "
        "take dz with torch.autograd.grad, or clone it",
        dz=dz_left_in_grad,
    )
    slip(
        "dz has the wrong sign: f descends along dz, so it climbs away from the public side",
        client_loss=lambda turn, z: -turn.critic(z).mean(),
    )
    slip(
        "dz is too large by the batch size: (3) is the mean of the scores",
        client_loss=lambda turn, z: turn.critic(z).sum(),
    )
    slip(
        "dz is taken after the critic's step: in Algorithm 1 all gradients are taken at the old "
        "parameters",
        result=lambda turn, dz: turn.dz(),
    )
    slip(
        "the critic does not move: it needs a backward pass of its loss (2) and a step of its "
        "optimizer",
        learn_critic=lambda turn: turn.critic_optimizer.zero_grad(),
    )
    slip(
        "the critic's loss has the wrong sign: it would learn to give the public side high scores, "
        "and f, which walks down, would walk away from it",
        critic_loss=lambda turn: -right.critic_loss(turn),
    )
    slip(
        "the critic's step has nothing of the private side: either its loss lacks it, or the "
        "gradient of the client's loss (3) was still in its .grad and cancelled it, so clear that "
        "after dz is taken",
        critic_loss=lambda turn: turn.critic(turn.z_public.detach()).mean(),
    )
    slip(
        "the critic's step contains the gradient of the client's loss (3) instead of its own",
        critic_loss=lambda turn: turn.client_loss(turn.client_z),
    )
    slip(
        "the critic's loss is a sum over the batch: both of its parts are means",
        critic_loss=lambda turn: (
            turn.critic(turn.z_public.detach()).sum() - turn.critic(turn.client_z).sum()
        ),
    )
    slip(
        "the critic looks at features of the pilot after the pilot's step: take all gradients at "
        "the old parameters",
        learn_own=own_steps_first,
    )
    slip(
        "the critic's step contains the last turn's gradient, too: call zero_grad",
        learn_critic=lambda turn: turn.critic_loss().backward(),
    )
    slip("the critic takes two steps in one turn", result=critic_steps_again)
    slip(
        "the critic's loss is a cross-entropy: in (2) the scores are used as they are",
        critic_loss=with_cross_entropy,
    )
    slip(
        "dz is the gradient of a cross-entropy: in (3) the scores are used as they are",
        client_loss=lambda turn, z: F.softplus(-turn.critic(z)).mean(),
    )
    slip(
        "the critic's loss goes back through the pilot's graph, which another backward has used "
        "up: detach z_public before the critic sees it",
        critic_loss=of_attached,
    )
    slip(
        f"{own} do not move: they need a backward pass of their loss (1) and a step of their "
        "optimizer",
        learn_own=lambda turn: turn.own_optimizer.zero_grad(),
    )
    slip(
        f"{own} climb their loss: it has the wrong sign",
        own_loss=lambda turn: -right.own_loss(turn),
    )
    slip(
        f"the step of {own} contains the last turn's gradient, too: call zero_grad",
        learn_own=lambda turn: turn.own_loss().backward(),
    )
    slip(
        "the critic's loss moves the pilot, too: detach z_public before the critic sees it",
        learn_own=own_keeps_its_graph,
        critic_loss=of_attached,
    )
    slip(
        "the pilot learns from the critic's scores, too: its loss is (1) alone",
        own_loss=lambda turn: right.own_loss(turn) - turn.critic(turn.z_public).mean(),
    )
    slip(
        f"only the {behind} learns: z_public is detached before the {behind} sees it",
        own_loss=own_of_detached,
    )

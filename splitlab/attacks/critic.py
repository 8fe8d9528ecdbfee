"""Critics: they distinguish two sets of codes, and show how to move one toward the other.

A score has no sigmoid: D = sigmoid(score) in "log" and "bce". Equations are those of Pasquini,
Ateniese, Bernaschi: "Unleashing the Tiger", CCS 2021. Where the paper and its public code differ,
both are offered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from splitlab.arguments import NETWORK, instance, number, one_of
from splitlab.arguments import optimizer as made_optimizer
from splitlab.attacks.schedules import Schedule, constant, factor_of
from splitlab.core.party import OptimizerFactory
from splitlab.core.state import Stateful

Loss = Literal["log", "bce", "wgan-gp"]
Penalty = Literal["channel", "sample"]

# Equation (3), of the scores of z; and equation (2), of the scores of z_public and of z.
LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    # As printed, both minimized: the client drives D(z) to 1, and the critic D(z_public) to 1 and
    # D(z) to 0. log(1 - D) is logsigmoid(-score). Unbounded below.
    "log": (
        lambda score: logsigmoid(-score).mean(),
        lambda public, private: logsigmoid(-public).mean() + logsigmoid(private).mean(),
    ),
    # The public code without its WGAN flag: binary cross-entropy, 1 for the public side.
    "bce": (
        lambda score: softplus(-score).mean(),
        lambda public, private: (softplus(-public).mean() + softplus(private).mean()) / 2,
    ),
    # The public code as run. The sign: the critic gives the public side LOW scores, and the client
    # descends the score. (The usual WGAN writes it the other way round.)
    "wgan-gp": (
        lambda score: score.mean(),
        lambda public, private: public.mean() - private.mean(),
    ),
}


class Critic(Stateful):
    """A network that scores codes z, or their decoded images, and learns to distinguish two sets.

    Another way to pull one cloud to the other (moments, MMD) is a subclass that overrides `pull`,
    and `loss` or `learn`.

    Args:
        net: D, codes or images (B, ...) -> scores (B, 1), without a sigmoid.
        through: A decoder, z -> images, where the critic looks at images; None for z itself.
        loss: "wgan-gp", "bce" or "log"; see `LOSSES`.
        penalty: Norm in the gradient penalty, over the whole "sample", or per "channel" (the public
            code's). Used by "wgan-gp" alone.
        penalty_weight: Weight of the gradient penalty; the public code's 500 belongs to "channel".
        optimizer: Makes the critic's optimizer.
        rate: Factor on its learning rate as a function of the step (from 0).

    Raises:
        TypeError: If an argument is of another kind, such as a class.
        ValueError: If a name is unknown, a number is out of range, or there is nothing to train.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        through: nn.Module | None = None,
        loss: Loss = "wgan-gp",
        penalty: Penalty = "channel",
        penalty_weight: float = 500.0,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4),
        rate: Schedule = constant,
    ) -> None:
        one_of("loss", loss, get_args(Loss))
        one_of("penalty", penalty, get_args(Penalty))
        self.net: nn.Module = instance("net", net, nn.Module, NETWORK)
        if through is not None:
            instance("through", through, nn.Module, "pass a decoder, or leave it out")
        self.through = through
        self.loss_name, self.penalty = loss, penalty
        self.penalty_weight = number("penalty_weight", penalty_weight)
        factor_of("rate", rate)
        self.optimizer = made_optimizer(optimizer, net.parameters(), who="the critic")
        self.schedule = LambdaLR(self.optimizer, rate)

    def __repr__(self) -> str:
        return f"critic of {'z' if self.through is None else 'images'}, {self.loss_name}"

    def score(self, z: Tensor) -> Tensor:
        """Return the scores (B, 1) of z, or of its decoded images if there is a decoder."""
        scores: Tensor = self.net(z if self.through is None else self.through(z))
        # Autocast may leave bfloat16; float64 stays float64.
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def pull(self, z: Tensor, z_public: Tensor) -> Tensor:
        """Return equation (3): how far z is from the public codes, a scalar to minimize.

        Args:
            z: The client's codes, (B, ...).
            z_public: Codes of public images, (P, ...), without a graph. The losses here need none.
        """
        return LOSSES[self.loss_name][0](self.score(z))

    def loss(self, z: Tensor, z_public: Tensor) -> Tensor:
        """Return equation (2): how poorly z and z_public are separated. Arguments as in `pull`."""
        public, private = self.score(torch.cat([z_public, z])).split([len(z_public), len(z)])
        loss = LOSSES[self.loss_name][1](public, private)
        if self.loss_name != "wgan-gp" or self.penalty_weight == 0:
            return loss
        pairs = min(len(z), len(z_public))  # a last batch is shorter
        between = mixed(z[:pairs], z_public[:pairs])
        return loss + self.penalty_weight * gradient_penalty(self.score, between, self.penalty)

    def learn(self, z: Tensor, z_public: Tensor) -> Tensor:
        """Take one step on `loss`, and return it, without a graph."""
        loss = self.loss(z, z_public)
        descend(self.optimizer, loss)
        return loss.detach()


def mixed(z: Tensor, z_public: Tensor) -> Tensor:
    """Return a random point between each z and its z_public; shapes (B, ...)."""
    epsilon = torch.rand(len(z), *[1] * (z.dim() - 1), device=z.device)
    return epsilon * z + (1 - epsilon) * z_public


def gradient_penalty(score: Callable[[Tensor], Tensor], z: Tensor, norm: Penalty) -> Tensor:
    """Return the mean of (|gradient of the score at z| - 1)^2, with a graph to the critic.

    Args:
        score: z -> scores (B, 1).
        z: Where to take the gradient, (B, C, H, W), or (B, F) with "sample".
        norm: "sample": one norm per sample, over all of z. "channel": one norm per sample and
            channel, over the positions, as the public code has it.

    Raises:
        ValueError: If "channel" meets a z without positions.
    """
    if norm == "channel" and z.dim() < 3:
        raise ValueError(
            f'penalty="channel" needs z with positions and this z has shape {tuple(z.shape)}: '
            'use penalty="sample"'
        )
    z = z.detach().requires_grad_()
    # create_graph, or the penalty would train nothing.
    (gradient,) = torch.autograd.grad(score(z).sum(), z, create_graph=True)
    norms = gradient.flatten(2 if norm == "channel" else 1).norm(dim=-1)
    penalty: Tensor = (norms - 1).square().mean()
    return penalty


def descend(optimizer: Optimizer, loss: Tensor) -> None:
    """Take one step on `loss` for this optimizer's parameters, and for no others."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()

"""What the checks of attacks with a critic share: a critic to ask, and how an answer is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from splitlab.course.checks.base import same, wrong


def small_critic(features: int) -> nn.Sequential:
    """Make a critic of z with this many numbers, in float64: z -> scores (B, 1)."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(features, 7), nn.Softplus(), nn.Linear(7, 1)
    ).double()


def state_of(net: nn.Module) -> dict[str, list[Any]]:
    """What a function must not change in a network that it only asks."""
    return {
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "weights": [p.detach().clone() for p in net.parameters()],
        "frozen": [p.requires_grad for p in net.parameters()],
        "modes": [module.training for module in net.modules()],
    }


def expect_same_critic(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> None:
    """Compare a critic's `state_of` before and after.

    Raises:
        CheckFailed: If something has changed.
    """
    grads = zip(before["grads"], after["grads"], strict=True)
    if any(
        (a is None) != (b is None) or (a is not None and not torch.equal(a, b)) for a, b in grads
    ):
        wrong(
            "the .grad of the critic's parameters has changed, and the critic's own next step "
            "would be polluted by it: ask torch.autograd.grad for the one gradient you want"
        )
    if not all(map(torch.equal, before["weights"], after["weights"])):
        wrong("the critic's weights have changed: here it is only asked for scores")
    if before["frozen"] != after["frozen"]:
        wrong("the critic's parameters no longer require gradients: it could not learn any more")
    if before["modes"] != after["modes"]:
        wrong("the critic is left in another mode than before, training or evaluation")


def score_gradient(critic: nn.Module, one: Tensor) -> Tensor:
    """The gradient of one sample's score with respect to that sample."""
    one = one.detach().unsqueeze(0).requires_grad_()
    score = critic(one).squeeze()
    return torch.autograd.grad(score, one, create_graph=True)[0].squeeze(0)


def tell(
    name: str, value: Tensor, truth: Tensor, mistakes: Mapping[str, Tensor], otherwise: str
) -> None:
    """Accept the truth; say which mistake gives this value, or by how much it is too long.

    Raises:
        CheckFailed: Unless the value is the truth.
    """
    value = value.detach()
    if same(value, truth):
        return
    for message, mistake in mistakes.items():
        if same(value, mistake):
            wrong(message)
    factor = (value * truth).sum() / truth.square().sum()
    if truth.dim() and same(value, factor * truth):
        wrong(f"{name} has the right direction, and {factor:.3g} times the right size")
    wrong(otherwise)
